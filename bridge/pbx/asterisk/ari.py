"""Asterisk's REST interface, as far as we use it: PJSIP objects made, replaced and deleted while it runs (ARI, dynamic configuration).

What the objects mean is `credentials.py`'s. sorcery.conf has to say that each kind of object lies in the database too.
"""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp

from bridge.errors import Unavailable
from bridge.pbx.asterisk.options import AriOptions

PATIENCE: Final = 5.0
"""Seconds for an answer."""


@dataclass(frozen=True, slots=True)
class ConfigObject:
    """One PJSIP object."""

    kind: str
    id: str
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Attribute and value, in order. Not in the repr: a hash of a password may be among them."""


class Refused(Unavailable):
    """Asterisk has answered, and will not: asking again helps only once something was put right there. The text says what."""


class Ari:
    """`async with Ari(options)`. Everything raises Unavailable; Refused says that Asterisk has answered."""

    def __init__(self, options: AriOptions) -> None:
        self._url = options.url.rstrip("/")
        authorization = aiohttp.encode_basic_auth(options.user, options.secret, encoding="utf-8")
        self._headers = {"Authorization": authorization}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(total=PATIENCE))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def put(self, made: ConfigObject) -> None:
        """Made anew, or replaced."""
        fields = [{"attribute": name, "value": value} for name, value in made.fields]
        status, body = await self._ask("PUT", _path(made), {"fields": fields})
        if status != 200:
            raise Refused(f"ARI refused the {made.kind} {made.id}: {_words(status, body)}")

    async def delete(self, gone: ConfigObject) -> bool:
        """Whether it was there."""
        status, body = await self._ask("DELETE", _path(gone))
        if status not in (200, 204, 404):
            raise Refused(f"ARI does not delete the {gone.kind} {gone.id}: {_words(status, body)}")
        return status != 404

    async def endpoints(self) -> list[str]:
        """The names of all PJSIP endpoints."""
        status, body = await self._ask("GET", "/ari/endpoints/PJSIP")
        if status != 200 or not isinstance(body, list):
            raise Refused(f"ARI does not list the endpoints: {_words(status, body)}")
        return [found["resource"] for found in body if isinstance(found, dict) and isinstance(found.get("resource"), str)]

    async def attribute(self, kind: str, object_id: str, name: str) -> str:
        """Of an object, whosever it is; empty where there is none."""
        status, body = await self._ask("GET", _path(ConfigObject(kind, object_id)))
        if status == 404:
            return ""
        if status != 200 or not isinstance(body, list):
            raise Refused(f"ARI does not show the {kind} {object_id}: {_words(status, body)}")
        return next((str(each.get("value", "")) for each in body if isinstance(each, dict) and each.get("attribute") == name), "")

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if self._session is None:
            raise RuntimeError("ARI has not been opened")
        try:
            async with self._session.request(method, f"{self._url}{path}", json=body) as answer:
                found = await answer.json(content_type=None) if answer.content_length != 0 else None
                return answer.status, found
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            raise Unavailable(f"ARI at {self._url} does not answer: {error or type(error).__name__}") from None


def _path(found: ConfigObject) -> str:
    return f"/ari/asterisk/config/dynamic/res_pjsip/{found.kind}/{quote(found.id, safe='')}"


def _words(status: int, body: Any) -> str:
    said = body.get("message") if isinstance(body, dict) else None
    hints = {
        401: "the user or the secret is another one (pbx[].ari, ari.conf)",
        403: "sorcery.conf has no `…=astdb,…` line for this kind of object, or ari.conf says read_only",
        404: "res_ari_asterisk.so is not loaded",
    }
    return "; ".join(text for text in (f"{status} {said or ''}".strip(), hints.get(status, "")) if text)
