"""Twirp on aiohttp: services made from their protobuf descriptors, both encodings, LiveKit's habits (livekit-sip-semantics.md §0.1).

What the methods do is theirs; who may ask is `auth.py`'s. Whatever comes in is answered by a message of the service, by an error of
Twirp's, or in plain text where LiveKit does so; a fault of ours by `internal` with an id that stands in the log beside its traceback.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, TypeVar

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from bridge.api.auth import BadToken, Grants, Keys
from bridge.errors import RoomlineError, Unavailable

log = structlog.get_logger(__name__)

PREFIX: Final = "/twirp/"

BODY_LIMIT: Final = 10 * 1024 * 1024
"""Bytes, as LiveKit's."""

LARGE: Final = 16 * 1024
"""Bytes of a message that is read or written beside the loop: some milliseconds' work."""

ANONYMOUS_LIMIT: Final = 64 * 1024
"""Bytes of a body that comes without a token: whatever it says, it is refused."""

LONGEST: Final = 60.0
"""Seconds that a method may take, where who asks says nothing or more, and it has no Patience of its own."""

CORS_METHODS: Final = "OPTIONS, HEAD, GET, POST, PATCH, DELETE"


class Code(StrEnum):
    """Twirp's error codes."""

    CANCELED = "canceled"
    UNKNOWN = "unknown"
    INVALID_ARGUMENT = "invalid_argument"
    MALFORMED = "malformed"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    BAD_ROUTE = "bad_route"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    UNAUTHENTICATED = "unauthenticated"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    ABORTED = "aborted"
    OUT_OF_RANGE = "out_of_range"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    DATA_LOSS = "data_loss"


HTTP_STATUS: Final[Mapping[Code, int]] = {
    Code.CANCELED: 408,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.MALFORMED: 400,
    Code.DEADLINE_EXCEEDED: 408,
    Code.NOT_FOUND: 404,
    Code.BAD_ROUTE: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 412,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
}


class TwirpError(RoomlineError):
    """The answer to a request that cannot be met."""

    def __init__(self, code: Code, message: str, meta: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.meta = dict(meta or {})


_Result = TypeVar("_Result")

Method = Callable[[Any, Grants | None], Awaitable[Message]]
"""From the request's message to the answer's. `None` for who came without a token. Raises TwirpError."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a request may take: where who asks says nothing, and at most."""

    usual: float = LONGEST
    most: float = LONGEST


def _as_all(_asked: Any) -> Patience:
    return Patience()


@dataclass(frozen=True, slots=True)
class Service:
    """A service and what does its methods, by name. One without is answered with `unimplemented`. `patience`: of methods that have their
    own, from the request's message."""

    descriptor: ServiceDescriptor
    methods: Mapping[str, Method] = field(default_factory=dict)
    patience: Mapping[str, Callable[[Any], Patience]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Route:
    descriptor: MethodDescriptor
    method: Method | None
    patience: Callable[[Any], Patience]


class Twirp:
    """`handle` answers everything below `/twirp/`, whatever the verb."""

    def __init__(self, services: Sequence[Service], keys: Keys) -> None:
        self._keys = keys
        self._routes: dict[str, _Route] = {}
        self._services = {f"{PREFIX}{service.descriptor.full_name}" for service in services}
        for service in services:
            unknown = service.methods.keys() - {method.name for method in service.descriptor.methods}
            if unknown:
                raise ValueError(f"{service.descriptor.full_name} has no methods {', '.join(sorted(unknown))}")
            for method in service.descriptor.methods:
                route = _Route(method, service.methods.get(method.name), service.patience.get(method.name, _as_all))
                self._routes[f"{PREFIX}{service.descriptor.full_name}/{method.name}"] = route

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return web.Response(status=HTTPStatus.NO_CONTENT, headers=cors_headers(request))
        try:
            response = await self._answer(request)
        except BadToken as error:
            response = web.Response(status=HTTPStatus.UNAUTHORIZED, text=f"{error}\n")
        except TwirpError as error:
            response = _error(error)
        except web.HTTPRequestEntityTooLarge:
            response = web.Response(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text="the body is larger than 10 MiB\n")
        except web.HTTPNotFound as error:
            response = web.Response(status=error.status, text=error.text)
        except Exception:
            response = _error(fault_of_ours(request.path[:256]))
        finish(request, response)
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        grants = self._keys.grants(request.headers.get("Authorization"), request.query.get("access_token"))
        route = self._route(request)
        encoding = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if encoding not in ("application/json", "application/protobuf"):
            raise TwirpError(Code.BAD_ROUTE, f"unexpected Content-Type: {encoding!r}")
        try:
            async with asyncio.timeout(LONGEST):
                body = await read_body(request, ANONYMOUS_LIMIT if grants is None else BODY_LIMIT)
        except TimeoutError:
            raise TwirpError(Code.DEADLINE_EXCEEDED, f"the request's body took longer than {LONGEST:g} s") from None
        except web.HTTPRequestEntityTooLarge:
            if grants is None:
                raise TwirpError(Code.UNAUTHENTICATED, "permissions denied") from None
            raise
        asked = await _off_the_loop(len(body), lambda: _read(route.descriptor.input_type, body, encoding))
        if route.method is None:
            raise TwirpError(Code.UNIMPLEMENTED, f"{route.descriptor.name} is not offered here")
        answer = await _done(route.descriptor.name, route.method, asked, grants, _seconds(request, route.patience(asked)))
        written = await _off_the_loop(answer.ByteSize(), lambda: _written(answer, encoding))
        return web.Response(body=written, content_type=encoding)

    def _route(self, request: web.Request) -> _Route:
        path = "/" + request.path.lstrip("/")
        if request.method != "POST":
            raise TwirpError(Code.BAD_ROUTE, f"unsupported method {request.method!r} (only POST is allowed)")
        try:
            return self._routes[path]
        except KeyError:
            if path.rpartition("/")[0] not in self._services:
                # Where LiveKit has no service, its HTTP server answers.
                raise web.HTTPNotFound(text="404 page not found\n") from None
            raise TwirpError(Code.BAD_ROUTE, f"no handler for path {path[:256]!r}") from None


async def _off_the_loop(size: int, work: Callable[[], _Result]) -> _Result:
    """What takes longer than calls may wait is done in a thread."""
    return await asyncio.to_thread(work) if size > LARGE else work()


def _written(answer: Message, encoding: str) -> bytes:
    if encoding == "application/protobuf":
        return answer.SerializeToString()
    return json.dumps(to_json(answer), ensure_ascii=False).encode()


async def read_body(request: web.Request, limit: int) -> bytes:
    """Raises HTTPRequestEntityTooLarge, and TwirpError for one that is not what its headers say: broken off, or not compressed so."""
    if (request.content_length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
    body = bytearray()
    try:
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > limit:
                raise web.HTTPRequestEntityTooLarge(limit, len(body))
    except (web.RequestPayloadError, HttpProcessingError):
        raise TwirpError(Code.MALFORMED, "the request's body is not what its headers say") from None
    return bytes(body)


def _read(kind: Descriptor, body: bytes, encoding: str) -> Message:
    message = GetMessageClass(kind)()
    try:
        if encoding == "application/protobuf":
            message.ParseFromString(body)
        else:
            found = json.loads(body.decode() or "{}", parse_constant=_no_number)
            if not isinstance(found, dict):
                raise ParseError("the body is no JSON object")
            ParseDict(found, message, ignore_unknown_fields=True)
    except (DecodeError, ParseError, ValueError, RecursionError, TypeError, AttributeError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:256]
        raise TwirpError(Code.MALFORMED, f"the request could not be decoded: {why}") from None
    return message


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _seconds(request: web.Request, patience: Patience) -> float:
    text = request.headers.get("X-Twirp-Timeout-Ms", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return patience.usual
    return min(patience.most, int(text) / 1000) if int(text) else patience.usual


_deadline: ContextVar[float | None] = ContextVar("deadline of the request", default=None)


def time_left() -> float:
    """Seconds that the request which is being answered may still take: what its asker said, or its method's Patience."""
    deadline = _deadline.get()
    return LONGEST if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())


async def _done(name: str, method: Method, asked: Message, grants: Grants | None, limit: float) -> Message:
    # Given back at the end: the next request of the connection may be one that knows of no deadline.
    token = _deadline.set(asyncio.get_running_loop().time() + limit)
    try:
        async with asyncio.timeout(limit):
            return await method(asked, grants)
    except TimeoutError:
        raise TwirpError(Code.DEADLINE_EXCEEDED, f"{name} took longer than {limit:g} s") from None
    except Unavailable as error:
        raise TwirpError(Code.UNAVAILABLE, str(error)) from None
    finally:
        _deadline.reset(token)


def fault_of_ours(method: str) -> TwirpError:
    """To be called while the exception is being handled: the log gets it, who asked gets the id by which to find it there."""
    error_id = secrets.token_hex(6)
    log.exception("a fault of ours in the API", method=method, error_id=error_id)
    return TwirpError(Code.INTERNAL, f"a fault of the server; its log has it as {error_id}", {"error_id": error_id})


def to_json(message: Message) -> dict[str, Any]:
    """As Twirp's Go servers write it: snake_case, every field, null for a message that is not there."""
    written: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return _with_nulls(message, written)


def _with_nulls(message: Message, written: dict[str, Any]) -> dict[str, Any]:
    for each in message.DESCRIPTOR.fields:
        if each.message_type is None or each.message_type.full_name.startswith("google.protobuf."):
            if each.message_type is not None and not each.is_repeated and each.containing_oneof is None:
                written.setdefault(each.name, None)
        elif each.message_type.GetOptions().map_entry:
            value = each.message_type.fields_by_name["value"]
            if value.message_type is not None:
                for key, item in getattr(message, each.name).items():
                    _with_nulls(item, written[each.name][str(key)])
        elif each.is_repeated:
            for item, text in zip(getattr(message, each.name), written.get(each.name, ()), strict=True):
                _with_nulls(item, text)
        elif message.HasField(each.name):
            _with_nulls(getattr(message, each.name), written[each.name])
        elif each.containing_oneof is None:
            written[each.name] = None
    return written


def _error(error: TwirpError) -> web.Response:
    body: dict[str, Any] = {"code": error.code.value, "msg": str(error)}
    meta = dict(error.meta)
    if HTTP_STATUS[error.code] == HTTPStatus.INTERNAL_SERVER_ERROR and "error_id" not in meta:
        # No fault of ours, but what LiveKit has no better code for.
        meta["error_id"] = secrets.token_hex(6)
        log.warning("a request is answered with 500", code=error.code.value, why=str(error), error_id=meta["error_id"])
    if meta:
        body["meta"] = meta
    return web.json_response(body, status=HTTP_STATUS[error.code])


def finish(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer has."""
    response.headers.update(cors_headers(request))
    if request.content.exception() is not None:
        # Where a broken body ends, and the next request begins, nobody knows.
        response.force_close()


def cors_headers(request: web.Request) -> dict[str, str]:
    """Any origin: what protects the service is the token, which no browser sends by itself."""
    if "Origin" not in request.headers:
        return {}
    headers = {"Access-Control-Allow-Origin": "*", "Vary": "Origin"}
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = CORS_METHODS
        headers["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "*")
    return headers
