"""The participants that live in the embedded room: the echo and the announcer."""

import asyncio
import struct

import pytest

from bridge.model.ticket import RoomTicket
from bridge.rooms.local import LocalRooms, LocalRoomsOptions, LocalSeat
from bridge.rooms.options import BuiltIn, BuiltInKind

ANNOUNCEMENT = {8_000: (b"a" * 320, b"b" * 320), 16_000: (b"A" * 640, b"B" * 640)}


def frame(value: int, rate: int = 8_000) -> bytes:
    return struct.pack("<h", value) * (rate // 50)


async def seat_in(rooms: LocalRooms, identity: str = "one", rate: int = 8_000, opened: bool = True) -> LocalSeat:
    seat = await rooms.join(RoomTicket(f"call-{identity}", "lobby", identity, identity), rate)
    if opened:
        await seat.open()
    return seat


def rooms_with(*participants: BuiltIn) -> LocalRooms:
    return LocalRooms(LocalRoomsOptions(participants=participants, announcement=ANNOUNCEMENT))


def beat(rooms: LocalRooms, seat: LocalSeat, said: bytes | None = None) -> bytes | None:
    if said is not None:
        seat.say(said)
    rooms.beat()
    return seat.hear()


@pytest.mark.parametrize(("delay", "beats"), [(0.0, 1), (0.02, 2), (0.5, 26)])
async def test_given_an_echo_when_somebody_speaks_then_they_hear_it_after_the_delay(delay: float, beats: int) -> None:
    rooms = rooms_with(BuiltIn("*", BuiltInKind.ECHO, delay=delay))
    seat = await seat_in(rooms)
    said = [frame(number + 1) for number in range(40)]
    heard = [beat(rooms, seat, each) for each in said]
    assert heard == [None] * beats + said[: 40 - beats]
    await rooms.close()


async def test_given_an_echo_and_two_phones_when_one_speaks_then_both_hear_it_again() -> None:
    rooms = rooms_with(BuiltIn("lob*", BuiltInKind.ECHO))
    one, two = await seat_in(rooms, "one"), await seat_in(rooms, "two")
    one.say(frame(3))
    two.say(frame(4))
    rooms.beat()
    assert (one.hear(), two.hear()) == (frame(4), frame(3))
    one.say(frame(10))
    rooms.beat()
    assert (one.hear(), two.hear()) == (frame(7), frame(17))
    await rooms.close()


async def test_given_two_echoes_in_one_room_when_somebody_speaks_then_they_do_not_ring_up() -> None:
    rooms = rooms_with(BuiltIn("*", BuiltInKind.ECHO), BuiltIn("lobby", BuiltInKind.ECHO))
    seat = await seat_in(rooms)
    assert [beat(rooms, seat, said) for said in (frame(5), None, None, None)] == [None, frame(10), None, None]
    await rooms.close()


async def test_given_an_echo_when_the_rooms_rate_changes_then_what_it_held_is_forgotten() -> None:
    rooms = rooms_with(BuiltIn("*", BuiltInKind.ECHO, delay=0.04))
    narrow = await seat_in(rooms, "narrow")
    for number in range(5):
        beat(rooms, narrow, frame(number))
    wide = await seat_in(rooms, "wide", rate=16_000)
    assert [beat(rooms, wide, frame(9, 16_000)) for _ in range(3)] == [None] * 3
    assert beat(rooms, wide) == frame(9, 16_000)
    await rooms.close()


async def test_given_an_announcer_when_its_delay_is_over_then_there_is_company_and_not_before() -> None:
    rooms = rooms_with(BuiltIn("*", BuiltInKind.ANNOUNCER, delay=0.1))
    seat = await seat_in(rooms, opened=False)
    waiting = asyncio.create_task(seat.company())
    for _ in range(6):
        rooms.beat()
        await asyncio.sleep(0)
        assert not waiting.done()
    rooms.beat()
    async with asyncio.timeout(5):
        await waiting
    await rooms.close()


@pytest.mark.parametrize(("loop", "heard"), [(False, [b"a", b"b", None, None, None]), (True, [b"a", b"b", b"a", b"b", b"a"])])
async def test_given_an_announcer_when_a_seat_opens_late_then_it_hears_the_first_words(loop: bool, heard: list[bytes | None]) -> None:
    rooms = rooms_with(BuiltIn("*", BuiltInKind.ANNOUNCER, loop=loop))
    seat = await seat_in(rooms, opened=False)
    for _ in range(20):
        assert beat(rooms, seat) is None
    await seat.open()
    assert [beat(rooms, seat, frame(1)) for _ in heard] == [letter and letter * 320 for letter in heard]
    await rooms.close()


async def test_given_a_wideband_phone_when_the_announcer_speaks_then_it_speaks_wideband() -> None:
    rooms = rooms_with(BuiltIn("*", BuiltInKind.ANNOUNCER))
    seat = await seat_in(rooms, rate=16_000)
    assert [beat(rooms, seat) for _ in range(3)] == [None, b"A" * 640, b"B" * 640]
    await rooms.close()


async def test_given_an_announcer_and_an_echo_when_it_speaks_then_the_echo_keeps_out_of_it() -> None:
    rooms = rooms_with(BuiltIn("*", BuiltInKind.ANNOUNCER), BuiltIn("*", BuiltInKind.ECHO))
    seat = await seat_in(rooms)
    assert [beat(rooms, seat) for _ in range(5)] == [None, b"a" * 320, b"b" * 320, None, None]
    await rooms.close()


def test_given_an_announcer_without_a_text_when_configured_then_it_is_refused() -> None:
    with pytest.raises(ValueError, match="needs an announcement"):
        LocalRoomsOptions(participants=(BuiltIn("*", BuiltInKind.ANNOUNCER),), announcement={8_000: ANNOUNCEMENT[8_000]})


@pytest.mark.parametrize(("glob", "name", "there"), [("demo-*", "demo-1", True), ("demo-*", "Demo-1", False), ("*", "x", True)])
def test_given_a_glob_when_a_room_is_made_then_case_matters(glob: str, name: str, there: bool) -> None:
    assert BuiltIn(glob, BuiltInKind.ECHO).is_in(name) is there
