"""A seat whose joins fail, with the SDK's session left out."""

import asyncio
from collections.abc import Awaitable, Mapping

import pytest

from bridge.errors import Unavailable
from bridge.model.ending import EndReason
from bridge.model.ticket import RoomTicket, SeatEvent, SeatGone
from bridge.rooms import livekit_seat
from bridge.rooms.livekit_audio import AudioWay, PublicWay, TrackFrames
from bridge.rooms.livekit_lookup import LiveKitLookup
from bridge.rooms.livekit_seat import LiveKitSeat, SeatOptions
from bridge.rooms.livekit_token import LiveKitAccess

ACCESS = LiveKitAccess("ws://livekit", "key", "a-secret-of-thirty-two-characters!")


class Lookup(LiveKitLookup):
    """Nobody is anywhere, and nobody knows why."""

    def __init__(self) -> None:
        pass

    async def has_company(self, room_name: str, identity: str) -> bool:
        return False

    async def why_not(self, ticket: RoomTicket, refused: str) -> str:
        return f"looked after: {refused}"


class Session:
    """In the place of `LiveKitSession`; joins as often as `outcomes` says, where an empty text is a success."""

    outcomes: list[str]
    made: list["Session"]

    def __init__(self, _ticket: RoomTicket, _rate: int, _way: AudioWay, _tell: object) -> None:
        self.closed = False
        self.speaker = None
        self.tracks: tuple[TrackFrames, ...] = ()
        self.why_over = ""
        self.shown: list[dict[str, str]] = []
        self.made.append(self)

    async def join(self, _access: LiveKitAccess, _limit: float) -> None:
        outcome = self.outcomes.pop(0)
        self.why_over = outcome if outcome in livekit_seat.FINAL else ""
        if outcome == "never":
            await asyncio.Event().wait()
        if outcome:
            raise Unavailable(outcome)

    async def show(self, attributes: Mapping[str, str]) -> None:
        self.shown.append(dict(attributes))

    async def publish(self) -> None:
        """Heard at once."""

    async def over(self) -> str:
        await asyncio.Event().wait()
        return ""

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    Session.made = []
    monkeypatch.setattr(livekit_seat, "LiveKitSession", Session)
    monkeypatch.setattr(livekit_seat, "REJOIN_PAUSE", 0.001)


async def events_of(*outcomes: str, within: float = 0.2) -> list[SeatEvent]:
    """What is told of a seat whose joins go like this, until it is gone or for a moment. All its sessions are closed then."""
    Session.outcomes = list(outcomes)
    closing: list[asyncio.Future[None]] = []

    def let_go(ending: Awaitable[None]) -> None:
        closing.append(asyncio.ensure_future(ending))

    ticket = RoomTicket(call_id="SCL_1", room_name="r", identity="i", name="n")
    lookup, options = Lookup(), SeatOptions()
    seat = LiveKitSeat(ticket, 8000, access=ACCESS, lookup=lookup, way=PublicWay(), options=options, let_go=let_go, gone=lambda _seat: None)
    told = []
    try:
        async with asyncio.timeout(within):
            async for event in seat.events():
                told.append(event)
    except TimeoutError:
        pass
    await seat.leave(EndReason.HANGUP)
    await asyncio.gather(*closing)
    assert all(session.closed for session in Session.made)
    return told


async def test_given_a_connection_that_is_cut_once_in_the_middle_of_joining_then_the_seat_is_had_all_the_same() -> None:
    assert await events_of("transport closed", "") == []
    assert len(Session.made) == 2


async def test_given_a_room_that_cannot_be_joined_then_two_tries_and_the_reason() -> None:
    assert await events_of("no", "no, really", within=5.0) == [SeatGone("join_failed", "looked after: no, really")]
    assert len(Session.made) == 2


@pytest.mark.parametrize("outcomes", [("never",), ("no", "never")])
async def test_given_a_join_that_takes_for_ever_then_the_limit_is_one_for_both_tries(
    outcomes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(livekit_seat, "JOIN_LIMIT", 0.05)
    told = await events_of(*outcomes, within=5.0)
    assert told == [SeatGone("join_failed", "LiveKit did not let the caller in within 0.05 s (livekit)")]


async def test_given_a_join_that_livekit_ends_for_good_then_no_second_one() -> None:
    """Else a caller who was driven out by their own next call would drive that one out."""
    assert await events_of("duplicate_identity", within=5.0) == [SeatGone("duplicate_identity")]
    assert len(Session.made) == 1


class Speaker:
    """Keeps what the room would have heard."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)


async def test_given_a_phone_that_rings_then_the_room_hears_it_until_the_seat_is_opened() -> None:
    Session.outcomes = [""]
    closing: list[asyncio.Future[None]] = []
    seat = LiveKitSeat(
        RoomTicket(call_id="SCL_1", room_name="r", identity="i", name="n", dial_tone=True),
        8000,
        access=ACCESS,
        lookup=Lookup(),
        way=PublicWay(),
        options=SeatOptions(),
        let_go=lambda ending: closing.append(asyncio.ensure_future(ending)),
        gone=lambda _seat: None,
    )
    await asyncio.sleep(0.05)
    speaker = Session.made[0].speaker = Speaker()  # type: ignore[assignment]  # by the adapter's reckoning it has a track
    rung, said = b"r" * 320, b"s" * 320
    seat.ring(rung)
    seat.say(said)
    seat.beat()
    seat.beat()  # nothing rings in this one
    await seat.open()
    seat.ring(rung)
    seat.say(said)
    seat.beat()
    assert (speaker.frames[0], speaker.frames[2]) == (rung, said)
    assert speaker.frames[1] not in (rung, said)
    await seat.leave(EndReason.HANGUP)
    await asyncio.gather(*closing)
