"""A seat in a real LiveKit's room by the SDK's public way, without a PBX: what an SDK version that is new to us gets.

This process never takes the short cuts, so that both sides of a talk may be in it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import pytest_asyncio
from livekit import rtc

from bridge.model.ending import EndReason
from bridge.model.ticket import RoomTicket, SeatBack, SeatEvent, SeatLost
from bridge.rooms.livekit import AWAY_LIMIT, LiveKitRooms
from bridge.rooms.livekit_audio import PublicWay
from bridge.rooms.livekit_seat import LiveKitSeat
from bridge.rooms.livekit_token import join_token
from bridge.testing.human import RATE, Human
from bridge.testing.listening import is_tone, tone
from bridge.testing.livekit_server import LiveKitServer
from bridge.testing.recording import Recording

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

HUMAN_HZ, CALLER_HZ = 600.0, 1000.0
CALLER_RATE = 8000


class Talk:
    """A caller who says the same tone all the time, and keeps what they hear; both on a beat of 20 ms."""

    def __init__(self, rooms: LiveKitRooms, seat: LiveKitSeat) -> None:
        self.seat = seat
        self.heard = Recording(CALLER_RATE)
        self.events: list[SeatEvent] = []
        self._rooms = rooms
        said = tone(CALLER_RATE, 1.0, [CALLER_HZ]).astype("<i2").tobytes()
        self._frames = [said[at : at + 320] for at in range(0, len(said), 320)]

    async def beat(self) -> None:
        began, count = time.monotonic(), 0
        while True:
            self.seat.say(self._frames[count % len(self._frames)])
            self._rooms.beat()
            if (heard := self.seat.hear()) is not None:
                self.heard.add(time.monotonic(), np.frombuffer(heard, "<i2").astype(np.int16))
            count += 1
            await asyncio.sleep(max(0.0, began + count * 0.02 - time.monotonic()))

    async def listen(self) -> None:
        async for event in self.seat.events():
            self.events.append(event)

    async def until_hears(self, hz: float, within: float = 15.0) -> None:
        await until_heard(self.heard, hz, within)

    async def until(self, *events: SeatEvent, within: float) -> None:
        deadline = time.monotonic() + within
        while self.events != list(events):
            assert time.monotonic() < deadline, f"{self.events} instead of {events}"
            await asyncio.sleep(0.02)


async def until_heard(recording: Recording, hz: float, within: float = 15.0) -> None:
    """From now on."""
    since = time.monotonic()
    while not is_tone(recording.samples(max(since, time.monotonic() - 0.4), time.monotonic() - 0.1), recording.rate, [hz]):
        assert time.monotonic() - since < within, f"{hz} Hz was not heard within {within} s"
        await asyncio.sleep(0.1)


@pytest_asyncio.fixture(loop_scope="module")
async def rooms(livekit: LiveKitServer) -> AsyncIterator[LiveKitRooms]:
    rooms = LiveKitRooms(livekit.access, PublicWay())
    yield rooms
    livekit.thaw()
    await rooms.close()


@asynccontextmanager
async def talking(rooms: LiveKitRooms, room: str) -> AsyncIterator[Talk]:
    """A caller in this room, whose seat has been opened."""
    ticket = RoomTicket(call_id="SCL_1", room_name=room, identity="sip_1", name="Phone 1", attributes={"sip.callID": "SCL_1"})
    seat = await rooms.join(ticket, CALLER_RATE)
    talk = Talk(rooms, seat)
    tasks = [asyncio.create_task(talk.beat()), asyncio.create_task(talk.listen())]
    try:
        async with asyncio.timeout(15.0):
            await seat.company()
        await seat.open()
        yield talk
    finally:
        await seat.leave(EndReason.HANGUP)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_given_the_public_way_then_both_hear_one_another(livekit: LiveKitServer, rooms: LiveKitRooms) -> None:
    async with Human(livekit.access, "public") as human:
        human.hum(tone(RATE, 1.0, [HUMAN_HZ]))
        async with talking(rooms, "public") as talk:
            await talk.until_hears(HUMAN_HZ)
            await human.until_sees("sip_1")
            await human.until("published", "sip_1")
            async with asyncio.timeout(15.0):
                while "sip_1" not in human.heard:  # noqa: ASYNC110  (the SDK's to signal)
                    await asyncio.sleep(0.05)
            await until_heard(human.heard["sip_1"], CALLER_HZ)
        await human.until("left", "sip_1")


async def test_given_a_livekit_that_freezes_then_the_caller_is_told_before_the_sdk_has_noticed_and_when_it_is_back(
    livekit: LiveKitServer, rooms: LiveKitRooms
) -> None:
    """Where nothing comes any more the SDK gives digital silence, as it does of one who is muted: only LiveKit's own silence tells them
    apart."""
    async with Human(livekit.access, "frozen") as human:
        human.hum(tone(RATE, 1.0, [HUMAN_HZ]))
        async with talking(rooms, "frozen") as talk:
            await talk.until_hears(HUMAN_HZ)
            human.hum(None)
            await asyncio.sleep(AWAY_LIMIT + 2.0)
            assert talk.seat.hears_nothing()
            assert talk.events == []
            human.hum(tone(RATE, 1.0, [HUMAN_HZ]))
            await talk.until_hears(HUMAN_HZ)
            livekit.freeze()
            await talk.until(SeatLost(), within=20.0)
            livekit.thaw()
            await talk.until(SeatLost(), SeatBack(), within=20.0)
            await talk.until_hears(HUMAN_HZ)


async def test_given_livekit_sips_own_participant_without_a_trunk_then_an_empty_attribute_is_none_once_it_is_set(
    livekit: LiveKitServer,
) -> None:
    """What LiveKit SIP does (pkg/sip/room.go): an empty `sip.trunkID` in the token, and all attributes set again after the join."""
    ticket = RoomTicket(
        call_id="SCL_1", room_name="trunkless", identity="sip_1", name="Phone 1", attributes={"sip.callID": "SCL_1", "sip.trunkID": ""}
    )
    async with Human(livekit.access, "trunkless", speaks=False) as human:
        participant = rtc.Room()
        await participant.connect(livekit.url, join_token(livekit.access, ticket))
        try:
            await human.until_sees("sip_1")
            await participant.local_participant.set_attributes(dict(ticket.attributes))
            await human.until("changed", "sip_1")
            seen = human.sees("sip_1")
            assert seen is not None
            assert seen.attributes == {"sip.callID": "SCL_1"}
        finally:
            await participant.disconnect()
