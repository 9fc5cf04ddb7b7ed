"""Asking a LiveKit that is no good: each question ends, and says what is wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from bridge.errors import Unavailable
from bridge.rooms import livekit_lookup
from bridge.rooms.livekit_lookup import LiveKitLookup
from bridge.rooms.livekit_token import LiveKitAccess

SECRET = "a secret that is in no sentence, 32 bytes"


@asynccontextmanager
async def asked(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[LiveKitLookup]:
    """A lookup of a LiveKit whose every answer is the handler's."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    lookup = LiveKitLookup(LiveKitAccess(f"ws://127.0.0.1:{runner.addresses[0][1]}", "key", SECRET))
    try:
        yield lookup
    finally:
        await lookup.close()
        await runner.cleanup()


async def why(lookup: LiveKitLookup) -> str:
    with pytest.raises(Unavailable) as refused:
        await lookup.probe()
    assert SECRET not in str(refused.value)
    return str(refused.value)


async def test_given_a_server_that_accepts_and_never_answers_then_the_limit_ends_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """livekit-api has no limit of its own when it is given a session."""
    monkeypatch.setattr(livekit_lookup, "LIMIT", 0.05)
    gone = asyncio.Event()

    async def never(_request: web.BaseRequest) -> web.StreamResponse:
        await gone.wait()
        return web.Response()

    async with asyncio.timeout(5), asked(never) as lookup:
        assert await why(lookup) == f"LiveKit does not answer within 0.05 s ({livekit_lookup.where(lookup._access)})"
        gone.set()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, {"code": "unauthenticated", "msg": "invalid token"}, "LiveKit refuses our key"),
        (403, {"code": "permission_denied", "msg": "no"}, "LiveKit refuses our key"),
        (500, {"code": "internal", "msg": "the disk is full"}, "LiveKit answers 500: the disk is full"),
        (502, "<html>a proxy's page</html>", "LiveKit answers 502"),
    ],
)
async def test_given_a_refusal_then_it_is_said_in_words(status: int, body: object, says: str) -> None:
    async def refuse(_request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html")
        return web.json_response(body, status=status)

    async with asked(refuse) as lookup:
        assert says in await why(lookup)


async def test_given_no_server_then_its_address_is_named() -> None:
    lookup = LiveKitLookup(LiveKitAccess("ws://127.0.0.1:1/path?token=word", "key", SECRET))
    try:
        said = await why(lookup)
    finally:
        await lookup.close()
    assert "LiveKit cannot be reached (127.0.0.1:1)" in said
    assert "word" not in said


async def test_given_an_answer_that_is_none_then_it_is_a_refusal_too() -> None:
    async def nonsense(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"\xff\xff\xff not protobuf", content_type="application/protobuf")

    async with asked(nonsense) as lookup:
        assert await why(lookup) == f"what answers at {livekit_lookup.where(lookup._access)} is no LiveKit"
