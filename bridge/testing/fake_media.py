"""A media plane without sound: what was played is remembered, and takes as long as the test says."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from bridge.errors import NodeGone, Unavailable
from bridge.media.port import Clip, ClipName, NodeLoad, Seat, Sound, SoundState
from bridge.model.ending import EndReason
from bridge.model.media_address import Carriage, MediaAddress, Stream
from bridge.model.ticket import RoomTicket, SeatEvent, SeatGone
from bridge.testing.fake_world import FakeWorld, Phone, first_of, until_none, within


class FakeSeat:
    """A place in a room that exists in the test only."""

    def __init__(self, world: FakeWorld, ticket: RoomTicket, *, company: bool) -> None:
        self.opened = False
        self.digits = ""
        self.attributes = dict(ticket.attributes)
        self.statuses = [ticket.attributes.get("sip.callStatus", "")]
        self.left: EndReason | None = None
        self._world = world
        self._ticket = ticket
        self._company = asyncio.Event()
        self._events: asyncio.Queue[SeatEvent | None] = asyncio.Queue()
        if company:
            self._company.set()

    @property
    def ticket(self) -> RoomTicket:
        return self._ticket

    async def company(self) -> None:
        await self._world.command("seat.company")
        await self._company.wait()

    async def open(self) -> None:
        await self._world.command("seat.open")
        self.opened = True

    def events(self) -> AsyncIterator[SeatEvent]:
        return until_none(self._events)

    async def publish_digit(self, digit: str) -> None:
        await self._world.command("seat.publish_digit")
        self.digits += digit

    async def set_attributes(self, changes: Mapping[str, str]) -> None:
        await self._world.command("seat.set_attributes")
        self.attributes.update(changes)
        if "sip.callStatus" in changes:
            self.statuses.append(changes["sip.callStatus"])

    async def leave(self, reason: EndReason) -> None:
        await self._world.command("seat.leave")
        self.gone(reason)

    # What the room does

    def somebody_publishes(self) -> None:
        self._company.set()

    def happened(self, event: SeatEvent) -> None:
        if self.left is None:
            self._events.put_nowait(event)
            if isinstance(event, SeatGone):
                self.gone(EndReason.ROOM_CLOSED)

    def gone(self, reason: EndReason) -> None:
        if self.left is None:
            self.left = reason
            self._events.put_nowait(None)


class FakeSound:
    """The media plane's hold on one call. What was played stands in `played`, each with whether it was heard to its end."""

    def __init__(self, world: FakeWorld, node: "FakeNode", call_id: str, rate: int) -> None:
        self.played: list[tuple[ClipName, bool]] = []
        self.playing: ClipName | None = None
        self.seats: list[FakeSeat] = []
        self.rate = rate
        self.closed = False
        self._world = world
        self._node = node
        self._call_id = call_id
        self._leg: Phone | None = None
        self._connected = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._disconnected.set()
        self._gone = asyncio.Event()
        self._silent = asyncio.Event()
        self._silent.set()
        self._silent_since = asyncio.get_running_loop().time()
        self._stop = asyncio.Event()

    @property
    def call_id(self) -> str:
        return self._call_id

    @property
    def seat(self) -> FakeSeat:
        return self.seats[-1]

    async def invite(self, carriage: Carriage = Stream()) -> MediaAddress:  # noqa: B008  (frozen, and the port's own default)
        await self._world.command("sound.invite")
        if self.closed or self._node.lost:
            raise Unavailable("the node is lost")
        token = str(uuid.uuid4())
        if not self._node.deaf:
            self._world.invited[token] = self
        return MediaAddress("127.0.0.1", 9092, token, self.rate, carriage)

    async def connected(self) -> None:
        await self._connected.wait()

    async def disconnected(self) -> None:
        await first_of(self._disconnected, self._gone)
        if self._gone.is_set():
            raise NodeGone("away")

    def vanish(self) -> None:
        """Its node is gone: who waits for it is told, whatever the PBX has noticed."""
        self._gone.set()

    async def silent_for(self, seconds: float) -> None:
        await self._world.command("sound.silent_for")
        loop = asyncio.get_running_loop()
        while True:
            await self._silent.wait()
            left = self._silent_since + seconds - loop.time()
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def play(self, clip: Clip) -> bool:
        self._stop.set()
        self._stop = stop = asyncio.Event()
        heard = False
        try:
            await self._world.command("sound.play")
            await first_of(self._connected, stop)
            if not stop.is_set():
                self.playing = clip.name
                seconds = None if clip.loop else self._node.clip_seconds.get(clip.name, 1.0)
                heard = not await within(stop, seconds)
        finally:
            self.played.append((clip.name, heard))
            if self._stop is stop:
                self.playing = None
        return heard

    async def stop(self) -> None:
        self._stop.set()
        await self._world.command("sound.stop")

    async def take_seat(self, ticket: RoomTicket) -> Seat:
        await self._world.command("sound.take_seat")
        if self.closed or self._node.lost or self._node.rooms_down:
            raise Unavailable("no room can be had")
        if self.seats:
            self.seat.gone(EndReason.DUPLICATE_IDENTITY)
        self.seats.append(FakeSeat(self._world, ticket, company=self._node.company))
        return self.seats[-1]

    async def snapshot(self) -> SoundState:
        seat = self.seats[-1] if self.seats and self.seats[-1].left is None else None
        return SoundState(
            self._call_id,
            connected=self._connected.is_set(),
            playing=self.playing,
            seated_in=seat.ticket.room_name if seat else None,
            opened=seat.opened if seat else False,
        )

    async def hand_over(self) -> None:
        await self.close()

    async def close(self) -> None:
        # The end of a sound is one step: a cancelled close has closed all the same.
        self.closed = True
        self._stop.set()
        if self._node.carried.get(self._call_id) is self:
            del self._node.carried[self._call_id]
        for token in [token for token, sound in self._world.invited.items() if sound is self]:
            del self._world.invited[token]
        if self.seats:
            self.seat.gone(EndReason.HANGUP)
        leg = self._leg
        self.pbx_hung_up()
        if leg is not None:
            leg.sound_closed()
        await self._world.command("sound.close")

    def pbx_connected(self, leg: Phone) -> None:
        self._leg = leg
        self._connected.set()
        self._disconnected.clear()

    def pbx_hung_up(self) -> None:
        self._leg = None
        self._connected.clear()
        self._disconnected.set()
        self.caller_sends(False)

    def caller_sends(self, frames: bool) -> None:
        if frames:
            self._silent.clear()
        elif not self._silent.is_set():
            self._silent_since = asyncio.get_running_loop().time()
            self._silent.set()


@dataclass
class FakeNode:
    """Carries fake sounds. `company`: somebody is in every room; `deaf`: the PBX's audio never arrives; `lost`: all is gone."""

    world: FakeWorld
    room_for: int = 100
    company: bool = False
    rooms_down: bool = False
    deaf: bool = False
    lost: bool = False
    worn: bool = False
    clip_seconds: dict[ClipName, float] = field(default_factory=dict)
    carried: dict[str, FakeSound] = field(default_factory=dict)
    opened: list[FakeSound] = field(default_factory=list)

    async def open(self, call_id: str, rate: int) -> Sound:
        await self.world.command("node.open")
        if self.load().room_for <= 0:
            raise Unavailable("the node is full")
        sound = FakeSound(self.world, self, call_id, rate)
        self.carried[call_id] = sound
        self.opened.append(sound)
        return sound

    async def sounds(self) -> Mapping[str, Sound]:
        await self.world.command("node.sounds")
        return {} if self.lost else dict(self.carried)

    async def probe(self) -> None:
        await self.world.command("node.probe")
        if self.rooms_down:
            raise Unavailable("there are no rooms")

    def load(self) -> NodeLoad:
        room_for = 0 if self.lost else max(0, self.room_for - len(self.carried))
        return NodeLoad(len(self.carried), room_for, lost=self.lost, worn=self.worn)
