"""Roomline's own API: what LiveKit has none for. JSON over HTTP below /roomline/v1/, with LiveKit's tokens; docs/api.md describes it.

It shows calls as `model/record.py` writes them and reasons as `dispatch/` does; transfers are LiveKit's own (`transfer.py`).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridge.api.auth import BadToken, Grants, Keys
from bridge.api.transfer import TransferRequest, Transfers
from bridge.api.twirp import HTTP_STATUS, LONGEST, Code, TwirpError, fault_of_ours, finish, read_body
from bridge.call.registry import NoSuchCall
from bridge.dispatch.explain import Explanation
from bridge.errors import ConfigurationError, Unavailable
from bridge.model.caller import Caller
from bridge.model.ending import EndReason
from bridge.model.record import CallFacts, CallRecord, LiveCall
from bridge.store.port import RecordFilter

PREFIX: Final = "/roomline/v1"

BODY_LIMIT: Final = 64 * 1024
"""Bytes of a request: a target and a few headers."""

PAGE, LONGEST_PAGE = 50, 1000
"""Records of one answer: where nothing is said, and at most."""


class Calls(Protocol):
    """What is asked of the registry here."""

    def calls(self) -> Sequence[LiveCall]: ...

    def call(self, call_id: str) -> LiveCall: ...

    def hang_up(self, call_id: str) -> None: ...


class Records(Protocol):
    """What is asked of the journal here."""

    async def record(self, call_id: str) -> CallRecord | None: ...

    async def records(self, limit: int = ..., which: RecordFilter = ...) -> Sequence[CallRecord]: ...


class Health(Protocol):
    """What is asked of the server's health here."""

    async def look(self) -> tuple[bool, dict[str, Any]]: ...


class _Body(BaseModel):
    """Of a request: nothing that is not asked for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Nothing(_Body):
    pass


class _Transfer(_Body):
    to: str = Field(max_length=1024)
    headers: dict[str, str] = Field(default_factory=dict)
    play_dialtone: bool = False
    ringing_timeout: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class _Explain(_Body):
    caller: str = Field(alias="from", max_length=1024)
    called: str = Field(alias="to", max_length=1024)
    source_ip: str = Field(default="", max_length=256)
    host: str = Field(default="", max_length=1024)
    trunk: str = Field(default="", max_length=256)
    pin: str | None = Field(default=None, max_length=256, repr=False)


class _Query(BaseModel):
    """Of the list of records. Numbers come as texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    limit: int = Field(default=PAGE, ge=1, le=LONGEST_PAGE)
    after_id: str = ""
    pbx: str = ""
    number: str = ""
    called: str = ""
    trunk_id: str = ""
    rule_id: str = ""
    room: str = ""
    identity: str = ""
    end_reason: EndReason | None = None
    since: float | None = None
    until: float | None = None


_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and what answers it. Braces hold the part that the answer is about."""

    verb: str
    path: str
    answer: Callable[[web.Request, Grants | None], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What is shown, and what can be asked for.

    `explain`: what would become of a call, and why; with what the caller enters as PIN: None before they are asked, "" for `#` alone.
    `reload` reads roomline.yaml and the store anew, and returns how many trunks, rules and numbers decide then; raises ConfigurationError
    when the file is wrong and what was read last stays, Unavailable when the store is away.
    """

    calls: Calls
    records: Records
    transfers: Transfers
    health: Health
    explain: Callable[[Caller, str | None], Awaitable[Explanation]]
    reload: Callable[[], Awaitable[Mapping[str, int]]]


class Control:
    """`routes` is for the HTTP server, `endpoints` tells them all."""

    def __init__(self, keys: Keys, parts: Parts) -> None:
        self._keys = keys
        self._parts = parts
        self.endpoints: Final = (
            Endpoint("GET", "/calls", self._list_calls),
            Endpoint("GET", "/calls/{call_id}", self._show_call),
            Endpoint("POST", "/calls/{call_id}/hangup", self._hang_up),
            Endpoint("POST", "/calls/{call_id}/transfer", self._transfer),
            Endpoint("GET", "/records", self._list_records),
            Endpoint("POST", "/explain", self._explain),
            Endpoint("POST", "/reload", self._reload),
            Endpoint("GET", "/health", self._healthy),
            Endpoint("GET", "/ready", self._ready),
        )

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The last one answers what is none of them."""
        known = [web.route(each.verb, PREFIX + each.path, self._answering(each)) for each in self.endpoints]
        return [*known, web.route("*", PREFIX + "/{rest:.*}", self._answering(Endpoint("*", "/…", self._no_such_path)))]

    def _answering(self, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                response = await self._answer(endpoint, request)
            except BadToken as error:
                response = _error(TwirpError(Code.UNAUTHENTICATED, str(error)))
            except TwirpError as error:
                response = _error(error)
            except Unavailable as error:
                response = _error(TwirpError(Code.UNAVAILABLE, str(error)))
            except TimeoutError:
                response = _error(TwirpError(Code.DEADLINE_EXCEEDED, f"it took longer than {LONGEST:g} s"))
            except Exception:
                response = _error(fault_of_ours(f"{endpoint.verb} {PREFIX}{endpoint.path}"))
            finish(request, response)
            return response

        return answer

    async def _answer(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        if request.method == "OPTIONS":
            return web.Response(status=HTTPStatus.NO_CONTENT)
        grants = self._keys.grants(request.headers.get("Authorization"), request.query.get("access_token"))
        async with asyncio.timeout(LONGEST):
            return await endpoint.answer(request, grants)

    # Calls

    async def _list_calls(self, _request: web.Request, grants: Grants | None) -> web.Response:
        _must_be_admin(grants)
        calls = sorted(self._parts.calls.calls(), key=lambda call: call.started_at)
        return web.json_response({"calls": [call.to_dict() for call in calls]})

    async def _show_call(self, request: web.Request, grants: Grants | None) -> web.Response:
        _must_be_admin(grants)
        call_id = request.match_info["call_id"]
        found: CallFacts | None
        try:
            found = self._parts.calls.call(call_id)
        except NoSuchCall:
            found = await self._parts.records.record(call_id)
        if found is None:
            raise TwirpError(Code.NOT_FOUND, f"there is no call {call_id!r}, and there was none")
        return web.json_response(found.to_dict())

    async def _hang_up(self, request: web.Request, grants: Grants | None) -> web.Response:
        call = self._callers_own(request, grants)
        await _body(request, _Nothing)
        try:
            self._parts.calls.hang_up(call.call_id)
        except NoSuchCall as error:
            raise TwirpError(Code.NOT_FOUND, str(error)) from None
        return web.json_response({"call_id": call.call_id}, status=HTTPStatus.ACCEPTED)

    async def _transfer(self, request: web.Request, grants: Grants | None) -> web.Response:
        call = self._callers_own(request, grants)
        asked = await _body(request, _Transfer)
        order = TransferRequest(asked.to, asked.headers, asked.play_dialtone, asked.ringing_timeout)
        done = await self._parts.transfers.hand_on(call.call_id, order)
        return web.json_response({"call_id": call.call_id, "transfer_id": done.transfer_id})

    def _callers_own(self, request: web.Request, grants: Grants | None) -> LiveCall:
        """The live call that is asked for, by one who may do something with it: an administrator, or one who may call, and administers its
        room. Raises TwirpError."""
        call_id = request.match_info["call_id"]
        if grants is None:
            raise _missing_token()
        rooms_admin = grants.sip_call and grants.room_admin
        if not grants.sip_admin and not rooms_admin:
            raise TwirpError(
                Code.PERMISSION_DENIED, "the token has neither the grant sip.admin, nor sip.call and roomAdmin for the call's room"
            )
        try:
            call = self._parts.calls.call(call_id)
        except NoSuchCall as error:
            raise TwirpError(Code.NOT_FOUND, str(error)) from None
        if not grants.sip_admin and not (grants.room and grants.room == call.room):
            raise TwirpError(Code.PERMISSION_DENIED, "the token is for another room than the call's")
        return call

    # Records

    async def _list_records(self, request: web.Request, grants: Grants | None) -> web.Response:
        _must_be_admin(grants)
        asked = _understood(_Query, {name: value for name, value in request.query.items() if name != "access_token"})
        which = RecordFilter(**asked.model_dump(exclude={"limit"}))
        if which.after_id and await self._parts.records.record(which.after_id) is None:
            raise TwirpError(Code.INVALID_ARGUMENT, f"after_id: there is no record of a call {which.after_id!r}")
        found = await self._parts.records.records(asked.limit + 1, which)
        page = found[: asked.limit]
        next_after_id = page[-1].call_id if len(found) > len(page) else None
        return web.json_response({"records": [record.to_dict() for record in page], "next_after_id": next_after_id})

    # What decides calls

    async def _explain(self, request: web.Request, grants: Grants | None) -> web.Response:
        _must_be_admin(grants)
        asked = await _body(request, _Explain)
        caller = Caller(number=asked.caller, called=asked.called, source_address=asked.source_ip, host=asked.host, trunk_id=asked.trunk)
        return web.json_response((await self._parts.explain(caller, asked.pin)).to_json())

    async def _reload(self, request: web.Request, grants: Grants | None) -> web.Response:
        _must_be_admin(grants)
        await _body(request, _Nothing)
        try:
            return web.json_response(dict(await self._parts.reload()))
        except ConfigurationError as error:
            raise TwirpError(Code.FAILED_PRECONDITION, str(error)) from None

    # Health

    async def _healthy(self, _request: web.Request, _grants: Grants | None) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _request: web.Request, grants: Grants | None) -> web.Response:
        """Why not is for administrators only: it names what stands behind us."""
        ready, picture = await self._parts.health.look()
        shown = picture if grants is not None and grants.sip_admin else {"ready": ready}
        return web.json_response(shown, status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _no_such_path(self, request: web.Request, _grants: Grants | None) -> web.Response:
        parts = request.path.removeprefix(PREFIX).split("/")
        verbs = [each.verb for each in self.endpoints if _fits(each.path.split("/"), parts)]
        if verbs:
            body = {"code": Code.BAD_ROUTE.value, "message": f"{request.method} is not for this path; {' and '.join(verbs)} is"}
            return web.json_response(body, status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(verbs)})
        raise TwirpError(Code.BAD_ROUTE, f"there is no {request.path[:256]}")


def _fits(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    return len(pattern) == len(parts) and all(want.startswith("{") or want == part for want, part in zip(pattern, parts, strict=True))


def _missing_token() -> TwirpError:
    return TwirpError(Code.UNAUTHENTICATED, "a token is needed: Authorization: Bearer …")


def _must_be_admin(grants: Grants | None) -> None:
    if grants is None:
        raise _missing_token()
    if not grants.sip_admin:
        raise TwirpError(Code.PERMISSION_DENIED, "the token has not the grant sip.admin")


async def _body(request: web.Request, model: type[_Model]) -> _Model:
    """A JSON object, or nothing for one without fields. Raises TwirpError."""
    try:
        data = await read_body(request, BODY_LIMIT)
    except web.HTTPRequestEntityTooLarge:
        raise TwirpError(Code.RESOURCE_EXHAUSTED, f"the body is larger than {BODY_LIMIT} bytes") from None
    try:
        found = json.loads(data.decode() or "{}")
    except (ValueError, RecursionError):
        raise TwirpError(Code.MALFORMED, "the body is no JSON") from None
    if not isinstance(found, dict):
        raise TwirpError(Code.MALFORMED, "the body is no JSON object")
    return _understood(model, found)


def _understood(model: type[_Model], found: Mapping[str, Any]) -> _Model:
    """Raises TwirpError, which names the field and nothing of what stands there: it may be a PIN."""
    try:
        return model.model_validate(found)
    except ValidationError as error:
        detail = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part)[:64] for part in detail["loc"])
        what = "there is no such field" if detail["type"] == "extra_forbidden" else detail["msg"]
        raise TwirpError(Code.INVALID_ARGUMENT, f"{place}: {what}") from None


def _error(error: TwirpError) -> web.Response:
    """`code` and `message`; of a fault of ours the id by which the log has it, of a transfer its id and the SIP status."""
    body: dict[str, Any] = {"code": error.code.value, "message": str(error)}
    if "error_id" in error.meta:
        body["error_id"] = error.meta["error_id"]
    if "sip_transfer_id" in error.meta:
        body["transfer_id"] = error.meta["sip_transfer_id"]
    if "sip_status_code" in error.meta:
        body["sip_status"] = int(error.meta["sip_status_code"])
    headers = {"WWW-Authenticate": "Bearer"} if error.code is Code.UNAUTHENTICATED else {}
    return web.json_response(body, status=HTTP_STATUS[error.code], headers=headers)
