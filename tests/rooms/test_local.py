"""The embedded room: who hears whom, who is company, and how seats end."""

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from bridge.errors import Unavailable
from bridge.model.ending import EndReason
from bridge.model.ticket import DigitsToSend, RoomTicket, SeatEvent, SeatGone
from bridge.rooms.local import LocalRooms, LocalRoomsOptions, LocalSeat
from bridge.rooms.options import BuiltIn, BuiltInKind
from bridge.rooms.port import RoomService

ANNOUNCEMENT = {8_000: (b"a" * 320, b"b" * 320), 16_000: (b"A" * 640, b"B" * 640)}
ECHO = BuiltIn("echo-*", BuiltInKind.ECHO)


def ticket(identity: str, room: str = "lobby") -> RoomTicket:
    return RoomTicket(f"call-{identity}", room, identity, identity, attributes={"sip.callStatus": "ringing"})


def frame(value: int, rate: int = 8_000) -> bytes:
    return struct.pack("<h", value) * (rate // 50)


@pytest.fixture
async def rooms() -> AsyncIterator[LocalRooms]:
    rooms = LocalRooms()
    yield rooms
    await rooms.close()


async def seated(rooms: LocalRooms, *identities: str, room: str = "lobby", rate: int = 8_000) -> list[LocalSeat]:
    seats = [await rooms.join(ticket(identity, room), rate) for identity in identities]
    for seat in seats:
        await seat.open()
    return seats


async def events_of(seat: LocalSeat) -> list[SeatEvent]:
    async with asyncio.timeout(5):
        return [event async for event in seat.events()]


async def in_company(seat: LocalSeat) -> bool:
    """Whether there is company without waiting."""
    task = asyncio.create_task(seat.company())
    await asyncio.sleep(0)
    done = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return done


def test_given_the_embedded_rooms_when_typed_then_they_are_a_room_service() -> None:
    service: RoomService = LocalRooms()
    assert service


# --- sound --------------------------------------------------------------------------------------------------------------


async def test_given_two_phones_when_the_beat_comes_then_each_hears_the_other_in_the_same_beat(rooms: LocalRooms) -> None:
    one, two = await seated(rooms, "one", "two")
    one.say(frame(1))
    two.say(frame(2))
    rooms.beat()
    assert (one.hear(), two.hear()) == (frame(2), frame(1))
    rooms.beat()
    assert (one.hear(), two.hear()) == (None, None), "nothing is heard twice"


@pytest.mark.parametrize("count", [3, 4, 7])
async def test_given_many_phones_when_all_speak_then_each_hears_the_sum_of_the_others(rooms: LocalRooms, count: int) -> None:
    seats = await seated(rooms, *(f"phone-{number}" for number in range(count)))
    for number, seat in enumerate(seats):
        seat.say(frame(100 * number))
    rooms.beat()
    total = sum(100 * number for number in range(count))
    assert [seat.hear() for seat in seats] == [frame(total - 100 * number) for number in range(count)]


async def test_given_a_phone_alone_when_it_speaks_then_it_does_not_hear_itself(rooms: LocalRooms) -> None:
    (one,) = await seated(rooms, "one")
    one.say(frame(1))
    rooms.beat()
    assert one.hear() is None


async def test_given_two_rooms_when_both_speak_then_neither_hears_the_other(rooms: LocalRooms) -> None:
    (one,) = await seated(rooms, "one", room="here")
    (two,) = await seated(rooms, "two", room="there")
    one.say(frame(1))
    two.say(frame(2))
    rooms.beat()
    assert one.hear() is two.hear() is None


async def test_given_a_seat_that_is_not_open_when_all_speak_then_it_neither_speaks_nor_hears(rooms: LocalRooms) -> None:
    one, two = await seated(rooms, "one", "two")
    waiting = await rooms.join(ticket("waiting"), 8_000)
    one.say(frame(1))
    waiting.say(frame(10_000))
    rooms.beat()
    assert (one.hear(), two.hear(), waiting.hear()) == (None, frame(1), None)
    await waiting.open()
    waiting.say(frame(5))
    one.say(frame(1))
    rooms.beat()
    assert (one.hear(), two.hear(), waiting.hear()) == (frame(5), frame(6), frame(1))


@pytest.mark.parametrize("others", [1, 2])
async def test_given_both_rates_in_one_room_when_they_speak_then_each_hears_the_other_at_its_own_rate(
    rooms: LocalRooms, others: int
) -> None:
    narrow = (await seated(rooms, "narrow"))[0]
    wide = (await seated(rooms, *(f"wide-{number}" for number in range(others)), rate=16_000))[0]
    heard = {8_000: b"", 16_000: b""}
    low = (8_000 * np.sin(2 * np.pi * 500 * np.arange(8_000) / 8_000)).astype("<i2").tobytes()
    high = (8_000 * np.sin(2 * np.pi * 1_500 * np.arange(16_000) / 16_000)).astype("<i2").tobytes()
    for number in range(50):
        narrow.say(low[320 * number : 320 * (number + 1)])
        wide.say(high[640 * number : 640 * (number + 1)])
        rooms.beat()
        for seat in (narrow, wide):
            frame = seat.hear()
            assert frame is not None
            heard[seat.rate] += frame
    for rate, expected in ((8_000, 1_500), (16_000, 500)):
        sound = np.frombuffer(heard[rate], "<i2")[rate // 10 :].astype(float)
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size))) / sound.size * 4
        peak = int(spectrum.argmax())
        assert peak * rate / sound.size == pytest.approx(expected, abs=3)
        assert spectrum[peak] == pytest.approx(8_000, rel=0.05)
        elsewhere = np.delete(spectrum, slice(peak - 5, peak + 6))
        assert elsewhere.max() < 8_000 / 500, "no image, no fold, no seam"


async def test_given_a_wideband_phone_when_it_leaves_then_the_room_is_narrowband_again_without_conversion(rooms: LocalRooms) -> None:
    one, two = await seated(rooms, "one", "two")
    (wide,) = await seated(rooms, "wide", rate=16_000)
    one.say(frame(1))
    rooms.beat()
    await wide.leave(EndReason.HANGUP)
    one.say(frame(7))
    rooms.beat()
    assert two.hear() == frame(7)


async def test_given_a_room_that_faults_when_the_beat_comes_then_the_others_go_on(rooms: LocalRooms) -> None:
    broken = await seated(rooms, "one", "two", "three", room="broken")
    for number, seat in enumerate(broken):
        seat.say(bytes(100 + 2 * number))  # no frame, which the port forbids
    one, two = await seated(rooms, "one", "two", room="whole")
    one.say(frame(1))
    rooms.beat()
    assert two.hear() == frame(1)


# --- company ------------------------------------------------------------------------------------------------------------


async def test_given_a_phone_alone_when_another_comes_then_both_have_company(rooms: LocalRooms) -> None:
    one = await rooms.join(ticket("one"), 8_000)
    assert not await in_company(one)
    waiting = asyncio.create_task(one.company())
    await asyncio.sleep(0)
    two = await rooms.join(ticket("two"), 8_000)
    async with asyncio.timeout(5):
        await waiting
    assert await in_company(two)
    await two.leave(EndReason.HANGUP)
    assert not await in_company(one)


async def test_given_an_echo_when_a_phone_comes_then_it_has_company_at_once() -> None:
    rooms = LocalRooms(LocalRoomsOptions(participants=(ECHO,)))
    assert await in_company(await rooms.join(ticket("one", "echo-1"), 8_000))
    assert not await in_company(await rooms.join(ticket("one", "lobby"), 8_000))
    await rooms.close()


async def test_given_a_seat_that_is_taken_away_when_it_waits_for_company_then_it_learns_that(rooms: LocalRooms) -> None:
    one = await rooms.join(ticket("one"), 8_000)
    waiting = asyncio.create_task(one.company())
    await asyncio.sleep(0)
    await rooms.delete_room("lobby")
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await one.company()


async def test_given_who_waits_for_company_when_cancelled_then_nothing_is_left(rooms: LocalRooms) -> None:
    one = await rooms.join(ticket("one"), 8_000)
    waiting = asyncio.create_task(one.company())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await rooms.join(ticket("two"), 8_000)
    assert one._room._lonely == []


# --- seats and rooms come and go ----------------------------------------------------------------------------------------


async def test_given_the_same_identity_again_when_it_joins_then_the_first_is_evicted(rooms: LocalRooms) -> None:
    (first,) = await seated(rooms, "one")
    (second, other) = await seated(rooms, "one", "other")
    assert await events_of(first) == [SeatGone("duplicate_identity")]
    assert rooms.occupants() == {"lobby": ("one", "other")}
    first.say(frame(1))
    second.say(frame(2))
    rooms.beat()
    assert other.hear() == frame(2)
    await first.leave(EndReason.DUPLICATE_IDENTITY)
    assert rooms.occupants() == {"lobby": ("one", "other")}, "the second stays"


async def test_given_a_room_when_it_is_deleted_then_everybody_learns_why_and_it_is_gone(rooms: LocalRooms) -> None:
    seats = await seated(rooms, "one", "two")
    assert await rooms.delete_room("lobby")
    for seat in seats:
        assert await events_of(seat) == [SeatGone("room_deleted")]
        seat.say(frame(1))
        await seat.publish_digit("1")
        await seat.open()
        assert seat.hear() is None
    assert rooms.occupants() == {}
    assert not await rooms.delete_room("lobby")


async def test_given_a_participant_when_removed_then_only_they_go(rooms: LocalRooms) -> None:
    one, _ = await seated(rooms, "one", "two")
    assert await rooms.remove_participant("lobby", "one")
    assert await events_of(one) == [SeatGone("participant_removed")]
    assert rooms.occupants() == {"lobby": ("two",)}
    assert not await rooms.remove_participant("lobby", "one")
    assert not await rooms.remove_participant("nowhere", "one")


async def test_given_the_last_phone_when_it_leaves_then_the_room_is_gone_and_its_events_end() -> None:
    rooms = LocalRooms(LocalRoomsOptions(participants=(ECHO,)))
    (one,) = await seated(rooms, "one", room="echo-1")
    await one.leave(EndReason.HANGUP)
    await one.leave(EndReason.HANGUP)
    assert await events_of(one) == []
    assert rooms.occupants() == {}


async def test_given_open_rooms_when_they_close_then_seats_learn_it_and_no_new_one_is_had(rooms: LocalRooms) -> None:
    (one,) = await seated(rooms, "one")
    await rooms.close()
    await rooms.close()
    assert await events_of(one) == [SeatGone("server_shutdown")]
    with pytest.raises(Unavailable):
        await rooms.join(ticket("late"), 8_000)
    with pytest.raises(Unavailable):
        await rooms.probe()


async def test_given_a_digit_when_published_then_the_other_open_phones_are_asked_to_send_it(rooms: LocalRooms) -> None:
    one, two, three = await seated(rooms, "one", "two", "three")
    waiting = await rooms.join(ticket("waiting"), 8_000)
    await one.publish_digit("5")
    await rooms.close()
    assert await events_of(two) == await events_of(three) == [DigitsToSend("5"), SeatGone("server_shutdown")]
    assert await events_of(one) == await events_of(waiting) == [SeatGone("server_shutdown")]


async def test_given_attributes_when_changed_then_an_empty_one_is_gone(rooms: LocalRooms) -> None:
    (one,) = await seated(rooms, "one")
    await one.set_attributes({"sip.callStatus": "active", "mood": "good"})
    await one.set_attributes({"mood": ""})
    assert one.attributes == {"sip.callStatus": "active"}
    assert one.ticket.attributes == {"sip.callStatus": "ringing"}, "the ticket is what it was"


async def test_given_a_rate_that_no_call_has_when_joining_then_it_is_refused(rooms: LocalRooms) -> None:
    with pytest.raises(ValueError, match="44100"):
        await rooms.join(ticket("one"), 44_100)
    assert rooms.occupants() == {}


async def test_given_a_phone_that_rings_then_the_room_hears_it_until_the_phone_is_answered(rooms: LocalRooms) -> None:
    (one,) = await seated(rooms, "one")
    called = await rooms.join(replace(ticket("called"), dial_tone=True), 8_000)
    called.ring(frame(3))
    one.say(frame(1))
    called.say(frame(10_000))
    rooms.beat()
    assert (one.hear(), called.hear()) == (frame(3), None)
    await called.open()
    called.ring(frame(3))
    called.say(frame(5))
    one.say(frame(1))
    rooms.beat()
    assert (one.hear(), called.hear()) == (frame(5), frame(1))
