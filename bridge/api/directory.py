"""The directory that a FreeSWITCH asks over HTTP who a caller is (mod_xml_curl): trunks with a user and a password, by their user.

FreeSWITCH asks once credentials have come, for each call; the caller is let in by the hash that is answered, and bears the trunk's id from
then on. Nothing else is answered: whoever is not a trunk's caller is not found here, and FreeSWITCH's own directory has the next word. When
the store cannot be read nobody is let in, as nobody knows who may.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element, SubElement, tostring

import structlog
from aiohttp import web

from bridge.api.options import DirectoryOptions
from bridge.dispatch.addresses import match_mask
from bridge.model.credentials import TrunkCredentials
from bridge.model.numbers import normalize_number

log = structlog.get_logger(__name__)

PATH: Final = "/freeswitch/directory"

VARIABLE: Final = "trunk_id"
"""The channel variable by which the call is known as the trunk's from then on."""

BODY_LIMIT: Final = 64 * 1024
"""Bytes of a question: FreeSWITCH's are about 1,300, and longer by the headers that a caller sends."""

MOST_FIELDS: Final = 500

_DOMAIN: Final = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9 ._:@\]-]{0,252}")
"""The caller shapes it (it is the realm of their header), and FreeSWITCH reads our answer as it reads its own files, with `$${…}` for its
variables: nothing of that kind is said back."""

_WORD: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]{1,256}")

_NOT_FOUND: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<document type="freeswitch/xml"><section name="result"><result status="not found"/></section></document>'
)


class Directory:
    """`routes()` for the server; `keep` what there is to answer. `store_is_away`: what was read last may be wrong by now."""

    def __init__(self, options: DirectoryOptions, store_is_away: Callable[[], bool]) -> None:
        self._options = options
        self._secret = options.secret.encode()
        self._store_is_away = store_is_away
        self._by_user: Mapping[str, Sequence[TrunkCredentials]] = {}

    def keep(self, trunks: Sequence[TrunkCredentials]) -> None:
        """These from now on."""
        by_user: dict[str, list[TrunkCredentials]] = {}
        for trunk in trunks:
            if why := cannot_answer(trunk):
                log.error("callers of a trunk cannot be known by their credentials", trunk=trunk.trunk_id, why=why)
            else:
                by_user.setdefault(trunk.username, []).append(trunk)
        self._by_user = by_user

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [web.post(PATH, self._asked)]

    async def _asked(self, request: web.Request) -> web.Response:
        if not self._may_ask(request):
            return web.Response(status=HTTPStatus.FORBIDDEN)
        if self._store_is_away():
            log.error("a caller of a trunk is not let in: the store cannot be read")
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        body = await _read(request)
        question = _understood(body) if body is not None else None
        if question is None:
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        return web.Response(body=self.answer(question), content_type="text/xml", charset="utf-8")

    def _may_ask(self, request: web.Request) -> bool:
        peer = request.remote or ""
        if not any(match_mask(peer, mask) for mask in self._options.peers):
            log.warning("the directory was asked by somebody else", peer=peer)
            return False
        # Both are bytes, whatever was sent, and compared in a time that tells nothing.
        if not hmac.compare_digest(_password(request.headers.get("Authorization", "")), self._secret):
            log.warning("the directory was asked without its secret", peer=peer)
            return False
        return True

    def answer(self, question: Mapping[str, str]) -> bytes:
        """XML for what FreeSWITCH asks; the one user, or that there is none."""
        if question.get("section") != "directory" or question.get("action") != "sip_auth":
            return _NOT_FOUND
        # A trunk's caller calls: nobody registers as a trunk, or subscribes to anything.
        if question.get("sip_auth_method") != "INVITE" or question.get("sip_auth_username") != question.get("user"):
            return _NOT_FOUND
        domain, realm = question.get("key_value", ""), question.get("sip_auth_realm", "")
        trunk = self._find(question)
        if trunk is None or not _DOMAIN.fullmatch(domain) or not _WORD.fullmatch(realm):
            return _NOT_FOUND
        return _written(domain, realm, trunk)

    def _find(self, question: Mapping[str, str]) -> TrunkCredentials | None:
        """Of several trunks with one user, that whose number is called, or else that whose address calls."""
        found = self._by_user.get(question.get("user", ""), ())
        if len(found) > 1:
            called = normalize_number(question.get("sip_request_user", ""))
            found = [trunk for trunk in found if called in map(normalize_number, trunk.numbers)] or [
                trunk for trunk in found if not trunk.numbers
            ]
        if len(found) > 1:
            source = question.get("ip", "")
            found = [trunk for trunk in found if any(match_mask(source, mask) for mask in trunk.addresses)] or found
        if len(found) > 1:
            log.warning("several trunks have one user and take one call: nobody is let in", trunks=[trunk.trunk_id for trunk in found])
        return found[0] if len(found) == 1 else None


def cannot_answer(trunk: TrunkCredentials) -> str:
    """Why FreeSWITCH cannot be told of this trunk; empty when it can. Nobody gets in by a trunk that it cannot be told of."""
    for what, text in (("user", trunk.username), ("id", trunk.trunk_id)):
        if not _WORD.fullmatch(text) or "$${" in text:
            return f"its {what} is longer than 256 characters, or holds a control character or $${{"
    return ""


def _password(authorization: str) -> bytes:
    """Of HTTP's basic scheme; empty for anything else."""
    scheme, _, rest = authorization.partition(" ")
    try:
        pair = base64.b64decode(rest.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        return b""
    return pair.partition(b":")[2]


async def _read(request: web.Request) -> bytes | None:
    """None for more than a question is."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT:
            return None
    return bytes(body)


def _understood(body: bytes) -> Mapping[str, str] | None:
    """The first of each name: FreeSWITCH's own words on who asks come before those that a caller may have put into a header's name, and its
    last ones (`key`, `user`, `domain`, `ip`) are no headers' names."""
    try:
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, encoding="utf-8", errors="surrogateescape"
        )
    except ValueError:
        return None
    question: dict[str, str] = {}
    for name, value in fields:
        question.setdefault(name, value)
    return question


def _written(domain: str, realm: str, trunk: TrunkCredentials) -> bytes:
    secret = f"{trunk.username}:{realm}:{trunk.password}".encode("utf-8", "surrogatepass")
    document = Element("document", type="freeswitch/xml")
    section = SubElement(document, "section", name="directory")
    groups = SubElement(SubElement(section, "domain", name=domain), "groups")
    users = SubElement(SubElement(groups, "group", name="default"), "users")
    user = SubElement(users, "user", id=trunk.username)
    parameters, variables = SubElement(user, "params"), SubElement(user, "variables")
    hashed = hashlib.md5(secret, usedforsecurity=False).hexdigest()
    # A user without a password would be let in with any: said each time, should a hash ever be read as none.
    for name, value in (("a1-hash", hashed), ("allow-empty-password", "false")):
        SubElement(parameters, "param", name=name, value=value)
    SubElement(variables, "variable", name=VARIABLE, value=trunk.trunk_id)
    return bytes(tostring(document, encoding="UTF-8", xml_declaration=True))
