"""LiveKit is looked after while somebody waits, or hears nothing: with the SDK's session and LiveKit's API left out."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import structlog

from bridge.errors import Unavailable
from bridge.model.ticket import RoomTicket, SeatBack, SeatGone, SeatLost
from bridge.rooms import livekit, livekit_seat
from bridge.rooms.livekit import LiveKitRooms
from bridge.rooms.livekit_audio import PublicWay
from tests.media.test_remote import eventually
from tests.rooms.test_livekit_seat import ACCESS, Lookup, Session, joined, told_by

TICKET = RoomTicket(call_id="SCL_1", room_name="r", identity="i", name="n")


class Api(Lookup):
    """LiveKit's API: there, or `away` with an error, which may be one of ours."""

    away: Exception | None
    asked: int

    def __init__(self, _access: object) -> None:
        Api.away, Api.asked = None, 0

    async def probe(self) -> None:
        Api.asked += 1
        if Api.away is not None:
            raise Api.away

    async def close(self) -> None:
        """Nothing is held."""


@pytest_asyncio.fixture
async def rooms(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LiveKitRooms]:
    Session.made, Session.outcomes = [], ["", ""]
    monkeypatch.setattr(livekit_seat, "LiveKitSession", Session)
    monkeypatch.setattr(livekit, "LiveKitLookup", Api)
    monkeypatch.setattr(livekit, "WATCH_EVERY", 0.01)
    monkeypatch.setattr(livekit, "AWAY_LIMIT", 0.1)
    rooms = LiveKitRooms(ACCESS, PublicWay())
    yield rooms
    await rooms.close()


async def asked_again(times: int = 3) -> None:
    """LiveKit is looked at so many times more."""
    until = Api.asked + times
    await eventually(lambda: Api.asked >= until, within=20)


async def test_given_a_caller_who_waits_when_livekit_is_away_then_the_seat_is_given_up_with_the_reason(rooms: LiveKitRooms) -> None:
    seat = await rooms.join(TICKET, 8000)
    await asked_again()
    Api.away = Unavailable("LiveKit cannot be reached")
    assert await told_by(seat, within=5.0) == [SeatGone("connection_lost", "LiveKit cannot be reached")]


async def test_given_a_silent_talk_when_livekit_is_away_then_the_seat_is_lost_and_back_when_it_answers(rooms: LiveKitRooms) -> None:
    seat = await rooms.join(TICKET, 8000)
    await joined()
    await seat.open()
    await asked_again()
    Api.away = Unavailable("LiveKit cannot be reached")
    assert await told_by(seat, within=0.5) == [SeatLost()]
    Api.away = None
    await asked_again()
    assert await told_by(seat, within=0.1) == [SeatBack()]


async def test_given_a_silent_room_when_livekit_answers_then_nothing_is_lost(rooms: LiveKitRooms) -> None:
    """Everybody may be muted, for as long as they like."""
    seat = await rooms.join(TICKET, 8000)
    await joined()
    await seat.open()
    await asked_again(20)
    assert await told_by(seat, within=0.1) == []


async def test_given_a_talk_that_is_heard_when_livekits_api_is_away_then_nobody_asks(rooms: LiveKitRooms) -> None:
    seat = await rooms.join(TICKET, 8000)
    (await joined()).sounded_at = time.monotonic() + 1000.0
    await seat.open()
    await asyncio.sleep(0.05)  # a look that began while they waited
    Api.away, before = Unavailable("LiveKit cannot be reached"), Api.asked
    assert await told_by(seat, within=0.3) == []
    assert Api.asked == before


async def test_given_a_fault_of_ours_at_one_look_then_the_next_one_is_taken(rooms: LiveKitRooms) -> None:
    seat = await rooms.join(TICKET, 8000)
    await asked_again()
    with structlog.testing.capture_logs() as logs:
        Api.away = RuntimeError("a fault")
        await asked_again()
    assert "a fault of ours while LiveKit was looked after" in {line["event"] for line in logs}
    Api.away = Unavailable("LiveKit cannot be reached")
    assert await told_by(seat, within=5.0) == [SeatGone("connection_lost", "LiveKit cannot be reached")]


async def test_given_a_node_that_did_not_run_for_a_while_then_livekit_is_not_taken_for_away(
    rooms: LiveKitRooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its question times out although the answer is there."""
    monkeypatch.setattr(livekit, "WATCH_LIMIT", 0.2)
    stalls = iter([0.2 + livekit.LATE + 0.1])

    async def probe(_lookup: Api) -> None:
        Api.asked += 1
        for seconds in stalls:
            time.sleep(seconds)  # noqa: ASYNC251  (the whole process does not run)
            await asyncio.sleep(10.0)

    seat = await rooms.join(TICKET, 8000)
    await joined()
    await asked_again()
    monkeypatch.setattr(Api, "probe", probe)
    await asked_again()
    assert await told_by(seat, within=0.1) == []
