"""What happens at a seat reaches its reader: in order, from before the first read, to the end."""

import asyncio

import pytest

from bridge.model.ticket import DigitsToSend, SeatBack, SeatEvent, SeatGone, SeatLost
from bridge.rooms.seat_events import MOST_WAITING, SeatEvents


async def read_all(events: SeatEvents) -> list[SeatEvent]:
    async with asyncio.timeout(5):
        return [event async for event in events.read()]


async def test_given_events_before_the_first_read_when_read_then_none_is_lost_and_gone_is_the_last() -> None:
    events = SeatEvents()
    for event in (SeatLost(), SeatBack(), DigitsToSend("1"), SeatGone("room_deleted"), DigitsToSend("2")):
        events.tell(event)
    assert await read_all(events) == [SeatLost(), SeatBack(), DigitsToSend("1"), SeatGone("room_deleted")]


async def test_given_a_reader_who_waits_when_something_happens_then_they_are_woken() -> None:
    events = SeatEvents()
    reading = asyncio.create_task(read_all(events))
    await asyncio.sleep(0)
    events.tell(DigitsToSend("1"))
    await asyncio.sleep(0)
    events.tell(DigitsToSend("2"))
    events.end()
    events.end()
    assert await reading == [DigitsToSend("1"), DigitsToSend("2")]


async def test_given_a_storm_of_digits_when_nobody_reads_then_it_is_bounded_and_the_fate_is_kept() -> None:
    events = SeatEvents()
    for _ in range(10_000):
        events.tell(DigitsToSend("1"))
    events.tell(SeatGone("participant_removed"))
    read = await read_all(events)
    assert len(read) == MOST_WAITING + 1
    assert read[-1] == SeatGone("participant_removed")


async def test_given_a_reader_when_cancelled_then_another_may_go_on() -> None:
    events = SeatEvents()
    reading = asyncio.create_task(read_all(events))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    events.tell(DigitsToSend("1"))
    events.end()
    assert await read_all(events) == [DigitsToSend("1")]
