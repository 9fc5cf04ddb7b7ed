"""Asking a LiveKit that is no good: each question ends, and says what is wrong."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest
from aiohttp import web
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.room import ListParticipantsResponse

from bridge.errors import Unavailable
from bridge.model.ticket import RoomTicket
from bridge.rooms import livekit_lookup
from bridge.rooms.livekit_lookup import LiveKitLookup
from bridge.rooms.livekit_token import SKEW
from bridge.rooms.options import LiveKitAccess

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
        (400, ["no", "object"], "is no LiveKit"),
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


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        (0.0, "are key and secret its own?"),
        (SKEW.total_seconds() - 60, "are key and secret its own?"),
        (-48 * 3600, "its clock is 48 hours behind ours"),
        (48 * 3600, "its clock is 48 hours ahead of ours"),
    ],
)
async def test_given_a_refused_key_then_a_clock_that_is_far_off_is_named(ahead: float, says: str) -> None:
    async def refuse(_request: web.BaseRequest) -> web.StreamResponse:
        told = formatdate(time.time() + ahead, usegmt=True)
        return web.json_response({"code": "unauthenticated", "msg": "invalid token"}, status=401, headers={"Date": told})

    async with asked(refuse) as lookup:
        said = await why(lookup)
        assert said.startswith(f"LiveKit refuses our key ({livekit_lookup.where(lookup._access)}): ")
        assert says in said


@pytest.mark.parametrize("date", ["yesterday", "", "Thu, 99 Foo 2026 99:99:99 GMT"])
async def test_given_a_date_that_is_none_then_the_key_is_what_is_named(date: str) -> None:
    async def refuse(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({}, status=401, headers={"Date": date})

    async with asked(refuse) as lookup:
        assert "are key and secret its own?" in await why(lookup)


@pytest.mark.parametrize(("preset", "asks"), [("calm", True), ("", False)])
async def test_given_a_refused_join_without_a_reason_then_a_room_preset_is_asked_after(preset: str, asks: bool) -> None:
    async def no_rooms(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"", content_type="application/protobuf")

    ticket = RoomTicket(call_id="c", room_name="r", identity="i", name="n", room_preset=preset)
    async with asked(no_rooms) as lookup:
        said = await lookup.why_not(ticket, "handshake error: 500 Internal Server Error")
    assert said.startswith("handshake error: 500 Internal Server Error")
    assert ("does LiveKit have the room preset 'calm' among its room_configurations?" in said) is asks


async def test_given_a_room_when_asked_for_somebody_then_they_are_there_by_their_identity_alone() -> None:
    async def agent(_request: web.BaseRequest) -> web.StreamResponse:
        people = ListParticipantsResponse(participants=[ParticipantInfo(identity="agent", name="nobody")])
        return web.Response(body=people.SerializeToString(), content_type="application/protobuf")

    async with asked(agent) as lookup:
        assert await lookup.is_there("lobby", "agent")
        assert not await lookup.is_there("lobby", "nobody")
