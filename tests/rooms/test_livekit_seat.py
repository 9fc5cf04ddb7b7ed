"""A seat whose joins fail, and one that is lost and comes back, with the SDK's session left out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from bridge.errors import Unavailable
from bridge.model.ending import EndReason
from bridge.model.ticket import RoomTicket, SeatBack, SeatEvent, SeatGone, SeatLost
from bridge.rooms import livekit_seat
from bridge.rooms.livekit_audio import AudioWay, PublicWay, TrackFrames
from bridge.rooms.livekit_lookup import LiveKitLookup
from bridge.rooms.livekit_seat import LiveKitSeat, SeatOptions
from bridge.rooms.livekit_session import News
from bridge.rooms.options import LiveKitAccess
from tests.media.test_remote import eventually

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

    def __init__(self, ticket: RoomTicket, _rate: int, _way: AudioWay, tell: Callable[[News], None]) -> None:
        self.ticket = ticket
        self.tell = tell
        self.closed = False
        self.sounded_at = 0.0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
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
        return await asyncio.shield(self.ended)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    Session.made = []
    monkeypatch.setattr(livekit_seat, "LiveKitSession", Session)
    monkeypatch.setattr(livekit_seat, "REJOIN_PAUSE", 0.001)


@asynccontextmanager
async def a_seat(*outcomes: str, ticket: RoomTicket | None = None, lost_limit: float = 20.0) -> AsyncIterator[LiveKitSeat]:
    """Whose joins go like this. All its sessions are closed in the end."""
    Session.outcomes = list(outcomes)
    closing: list[asyncio.Future[None]] = []
    seat = LiveKitSeat(
        ticket if ticket is not None else RoomTicket(call_id="SCL_1", room_name="r", identity="i", name="n"),
        8000,
        access=ACCESS,
        lookup=Lookup(),
        way=PublicWay(),
        options=SeatOptions(lost_limit=lost_limit),
        let_go=lambda ending: closing.append(asyncio.ensure_future(ending)),
        gone=lambda _seat: None,
    )
    yield seat
    await seat.leave(EndReason.HANGUP)
    await asyncio.gather(*closing)
    assert all(session.closed for session in Session.made)


async def events_of(*outcomes: str, within: float = 0.2) -> list[SeatEvent]:
    """What is told of a seat whose joins go like this, until it is gone or for a moment."""
    async with a_seat(*outcomes) as seat:
        return await told_by(seat, within)


async def told_by(seat: LiveKitSeat, within: float) -> list[SeatEvent]:
    """Until it is gone, or for so many seconds."""
    told = []
    try:
        async with asyncio.timeout(within):
            async for event in seat.events():
                told.append(event)
    except TimeoutError:
        pass
    return told


async def joined(count: int = 1) -> Session:
    """The seat's session of that number, once it is in the room."""
    await eventually(lambda: len(Session.made) >= count and Session.made[count - 1].shown, within=20)
    return Session.made[count - 1]


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
    async with a_seat("", ticket=RoomTicket(call_id="SCL_1", room_name="r", identity="i", name="n", dial_tone=True)) as seat:
        speaker = (await joined()).speaker = Speaker()  # type: ignore[assignment]  # by the adapter's reckoning it has a track
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


async def test_given_an_attribute_without_a_value_then_a_join_says_nothing_of_it_and_a_change_takes_it_back() -> None:
    ticket = RoomTicket(call_id="SCL_1", room_name="r", identity="i", name="n", attributes={"team": "support", "sip.trunkID": ""})
    async with a_seat("", "", ticket=ticket) as seat:
        session = await joined()
        assert (session.ticket.attributes, session.shown) == ({"team": "support"}, [{"team": "support"}])
        await seat.set_attributes({"team": ""})
        assert session.shown[-1] == {"team": ""}
        session.ended.set_result("connection_timeout")
        assert (await joined(2)).ticket.attributes == {}


# --- Lost, and back


async def test_given_a_room_that_is_lost_when_the_sdk_is_back_by_itself_then_the_seat_goes_on_and_shows_what_has_changed() -> None:
    async with a_seat("") as seat:
        session = await joined()
        session.tell(SeatLost())
        session.tell(SeatLost())
        await seat.set_attributes({"sip.callStatus": "active"})
        session.tell(SeatBack())
        session.tell(SeatBack())
        assert await told_by(seat, within=0.2) == [SeatLost(), SeatBack()]
        assert session.shown[-1] == {"sip.callStatus": "active"}
        assert len(Session.made) == 1


async def test_given_a_session_that_ends_as_a_lost_connection_then_it_is_joined_anew_until_it_succeeds() -> None:
    async with a_seat("", "not yet", "not yet", "") as seat:
        first = await joined()
        first.ended.set_result("connection_timeout")
        last = await joined(4)
        assert await told_by(seat, within=0.2) == [SeatLost(), SeatBack()]
        assert [session.closed for session in Session.made] == [True, True, True, False]
        last.ended.set_result("room_deleted")
        assert await told_by(seat, within=5.0) == [SeatGone("room_deleted")]


async def test_given_an_sdk_that_does_not_come_back_in_its_time_then_we_join_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livekit_seat, "SDK_PATIENCE", 0.05)
    async with a_seat("", "") as seat:
        (await joined()).tell(SeatLost())
        await joined(2)
        assert await told_by(seat, within=0.2) == [SeatLost(), SeatBack()]


async def test_given_a_limit_that_is_shorter_than_the_sdks_patience_then_the_limit_counts_and_no_join_is_begun_any_more() -> None:
    async with a_seat("", lost_limit=0.2) as seat:
        session, began = await joined(), time.monotonic()
        session.tell(SeatLost())
        told = await told_by(seat, within=livekit_seat.SDK_PATIENCE - 1.0)
        assert told == [SeatLost(), SeatGone("connection_lost", "LiveKit was gone for 0.2 s (not_back)")]
        assert 0.2 <= time.monotonic() - began < livekit_seat.SDK_PATIENCE
        assert len(Session.made) == 1


@pytest.mark.parametrize("outcome", ["not yet", "never"])
async def test_given_a_livekit_that_stays_away_then_the_seat_is_given_up_at_the_limit(outcome: str) -> None:
    async with a_seat("", *[outcome] * 10_000, lost_limit=0.3) as seat:
        session, began = await joined(), time.monotonic()
        session.ended.set_result("connection_timeout")
        told = await told_by(seat, within=20.0)
        assert told == [SeatLost(), SeatGone("connection_lost", "LiveKit was gone for 0.3 s (connection_timeout)")]
        assert time.monotonic() - began >= 0.3


async def test_given_a_room_that_wants_nobody_back_while_it_is_joined_anew_then_that_is_the_reason() -> None:
    async with a_seat("", "participant_removed") as seat:
        (await joined()).ended.set_result("connection_timeout")
        assert await told_by(seat, within=5.0) == [SeatLost(), SeatGone("participant_removed")]


# --- Away, before the SDK has noticed


async def test_given_a_talk_in_silence_when_livekit_is_away_then_the_seat_is_missed_until_something_is_heard() -> None:
    async with a_seat("") as seat:
        session = await joined()
        seat.miss()  # nobody talks here yet
        await seat.open()
        assert seat.hears_nothing()
        seat.miss()
        seat.miss()
        seat.beat()
        session.sounded_at = time.monotonic()
        seat.beat()
        seat.beat()
        seat.miss()  # it hears
        assert await told_by(seat, within=0.2) == [SeatLost(), SeatBack()]


async def test_given_a_seat_that_is_missed_when_livekit_answers_again_then_it_is_back() -> None:
    async with a_seat("") as seat:
        await joined()
        await seat.open()
        seat.found()
        seat.miss()
        seat.found()
        seat.found()
        assert await told_by(seat, within=0.2) == [SeatLost(), SeatBack()]


async def test_given_a_seat_that_is_missed_when_the_sdk_loses_it_too_then_it_is_back_when_the_sdk_is() -> None:
    async with a_seat("") as seat:
        session = await joined()
        await seat.open()
        seat.miss()
        session.tell(SeatLost())
        seat.miss()
        seat.found()  # LiveKit's API answers; the room is not back for that
        session.sounded_at = time.monotonic()
        seat.beat()
        session.tell(SeatBack())
        assert await told_by(seat, within=0.2) == [SeatLost(), SeatLost(), SeatBack()]
