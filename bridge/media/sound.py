"""The node's hold on one call: its line to the PBX, what is played, its seat in a room. The beat drives `listen` and `speak`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from itertools import cycle
from typing import Protocol

import structlog

from bridge.errors import ConfigurationError, Unavailable
from bridge.media.clips import ClipLibrary
from bridge.media.frames import silence
from bridge.media.player import Player
from bridge.media.port import Clip, ClipName, SoundState
from bridge.media.reception import Reception
from bridge.media.unicast import UnicastReception
from bridge.model.ending import EndReason
from bridge.model.media_address import Carriage, Datagrams, MediaAddress, Stream
from bridge.model.ticket import RoomTicket, SeatEvent
from bridge.rooms.port import RoomSeat, RoomService

log = structlog.get_logger(__name__)

LEAVE_TIMEOUT = 2.0
"""Seconds that a room may take to let a caller go."""


class AudioLine(Protocol):
    """Audio to and from the PBX, however it travels. After any error it is of no more use, but for `hang_up`."""

    def receive(self) -> bytes | None:
        """The caller's next 20 ms, None when there is nothing. Raises `LineEnded` and `RemoteProtocolError`."""

    def send(self, frame: bytes) -> None:
        """Give the PBX 20 ms. Raises `LineEnded`."""

    def hang_up(self) -> None:
        """Close. Idempotent."""


class NodeSeat:
    """A seat as the story holds it: the room's, tied to the sound that fills it."""

    __slots__ = ("_gave_up", "opened", "room")

    def __init__(self, room: RoomSeat, gave_up: Callable[["NodeSeat"], None]) -> None:
        self.room = room
        self.opened = False
        self._gave_up = gave_up

    @property
    def ticket(self) -> RoomTicket:
        return self.room.ticket

    async def company(self) -> None:
        await self.room.company()

    async def open(self) -> None:
        await self.room.open()
        self.opened = True

    def events(self) -> AsyncIterator[SeatEvent]:
        return self.room.events()

    async def publish_digit(self, digit: str) -> None:
        await self.room.publish_digit(digit)

    async def set_attributes(self, changes: Mapping[str, str]) -> None:
        await self.room.set_attributes(changes)

    async def leave(self, reason: EndReason) -> None:
        """Give the seat up; the room gets `LEAVE_TIMEOUT` for it."""
        self._gave_up(self)
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self.room.leave(reason)
        except TimeoutError:
            log.warning("a room did not let a caller go in time", room=self.ticket.room_name, call_id=self.ticket.call_id)


class NodeSound:
    """`bridge.media.port.Sound` in this process. Made by the node only."""

    def __init__(
        self,
        call_id: str,
        rate: int,
        *,
        reception: Reception,
        unicast: UnicastReception,
        rooms: RoomService,
        clips: ClipLibrary,
        changed: Callable[["NodeSound"], None],
        now: Callable[[], float],
    ) -> None:
        """`changed` is told whenever the sound gets or loses its line, takes a seat, or is closed."""
        self._call_id = call_id
        self._rate = rate
        self._reception = reception
        self._unicast = unicast
        self._rooms = rooms
        self._clips = clips
        self._changed = changed
        self._now = now
        self._silence = silence(rate)
        self._line: AudioLine | None = None
        self._player = Player()
        self._seat: NodeSeat | None = None
        self._dial_tone: Iterator[bytes] = iter(())
        self._room_seat: RoomSeat | None = None
        self._taking_seat = asyncio.Lock()
        self._is_connected = asyncio.Event()
        self._is_disconnected = asyncio.Event()
        self._is_disconnected.set()
        self._lost_at: float | None = None
        self._heard_at = now()
        self._closed = False

    @property
    def call_id(self) -> str:
        return self._call_id

    @property
    def on_air(self) -> bool:
        """The PBX is connected."""
        return self._line is not None

    @property
    def rings(self) -> bool:
        """The room is to hear that the phone rings."""
        return self._seat is not None and self._seat.ticket.dial_tone and not self._seat.opened

    @property
    def closed(self) -> bool:
        return self._closed

    async def invite(self, carriage: Carriage = Stream()) -> MediaAddress:  # noqa: B008  (frozen, and the port's own default)
        """See the port. Of several connections the newest one wins. Raises `Unavailable` once the sound is closed."""
        self._must_be_open()
        if isinstance(carriage, Datagrams):
            return await self._invite_datagrams(carriage)
        return self._reception.announce(self._rate, self._arrived)

    async def _invite_datagrams(self, carriage: Datagrams) -> MediaAddress:
        try:
            address = await self._unicast.announce(self._rate, carriage, self._arrived)
        except ConfigurationError as error:
            raise Unavailable(str(error)) from error
        if self._closed:  # meanwhile
            self._unicast.withdraw(self._arrived)
        self._must_be_open()
        return address

    async def connected(self) -> None:
        """See the port. Raises `Unavailable` when the sound is closed instead."""
        await self._is_connected.wait()
        self._must_be_open()

    async def disconnected(self) -> None:
        await self._is_disconnected.wait()

    async def silent_for(self, seconds: float) -> None:
        """See the port. Raises `Unavailable` when the sound is closed meanwhile."""
        while (left := self._heard_at + seconds - self._now()) > 0 and not self._closed:  # noqa: ASYNC110  (an event would be set 50 times a second)
            await asyncio.sleep(left)
        self._must_be_open()

    async def play(self, clip: Clip) -> bool:
        if self._closed:
            return False
        return await self._player.play(clip.name, self._clips.frames(clip.name, self._rate), clip.loop)

    async def stop(self) -> None:
        self._player.stop()

    async def take_seat(self, ticket: RoomTicket) -> NodeSeat:
        async with self._taking_seat:
            if self._seat is not None:
                await self._seat.leave(EndReason.TRANSFERRED)
            self._must_be_open()
            room_seat = await self._rooms.join(ticket, self._rate)
            if self._closed:
                await NodeSeat(room_seat, self._seat_given_up).leave(EndReason.SHUTDOWN)
                self._must_be_open()
            self._room_seat = room_seat
            self._seat = NodeSeat(room_seat, self._seat_given_up)
            self._dial_tone = cycle(self._clips.frames(ClipName.DIAL_TONE, self._rate)) if ticket.dial_tone else iter(())
            self._changed(self)
            return self._seat

    async def snapshot(self) -> SoundState:
        seat = self._seat
        return SoundState(
            call_id=self._call_id,
            connected=self.on_air,
            playing=self._player.playing,
            seated_in=seat.ticket.room_name if seat is not None else None,
            opened=seat is not None and seat.opened,
        )

    def let_go(self) -> None:
        """The part of `close` that waits for nobody: the line is closed, all who wait for this sound are told. Idempotent."""
        if not self._closed:
            self._closed = True
            self._reception.withdraw(self._arrived)
            self._unicast.withdraw(self._arrived)
            self._player.stop()
            self.lose_line()
            self._is_connected.set()
            self._changed(self)

    async def hand_over(self) -> None:
        await self.close()

    async def close(self) -> None:
        self.let_go()
        if self._seat is not None:
            await self._seat.leave(EndReason.SHUTDOWN)

    # Called from the beat

    def ring(self) -> None:
        """The room's next 20 ms of a phone that rings."""
        if self.rings and self._room_seat is not None:
            self._room_seat.ring(next(self._dial_tone))

    def listen(self) -> None:
        """The caller's next 20 ms go to the room. Raises what `AudioLine.receive` raises."""
        if self._line is not None:
            frame = self._line.receive()
            if frame is None:
                return
            self._heard_at = self._now()
            if self._room_seat is not None:
                self._room_seat.say(frame)

    def speak(self) -> None:
        """What is played, or else the room, or else silence goes to the PBX. Raises what `AudioLine.send` raises."""
        if self._line is None:
            return
        frame = self._player.next_frame() if self._player.playing is not None else None
        if frame is None and self._room_seat is not None:
            frame = self._room_seat.hear()
        self._line.send(frame or self._silence)

    def lose_line(self) -> None:
        """The line ended or is of no more use: close it. What is played waits for the next one."""
        if self._line is not None:
            self._line.hang_up()
            self._line = None
            self._lost_at = self._now()
            self._is_connected.clear()
            self._is_disconnected.set()
            self._changed(self)

    def lost_for(self) -> float:
        """Seconds since the PBX's connection ended, for a caller who has a seat; 0 while connected or before the first one."""
        return self._now() - self._lost_at if self._lost_at is not None and self._seat is not None else 0.0

    async def give_up_seat(self) -> None:
        """Leave the room because the PBX did not come back."""
        if self._seat is not None and not self.on_air:
            log.warning("a seat is given up: the PBX's audio did not come back", call_id=self._call_id)
            await self._seat.leave(EndReason.MEDIA_FAILED)

    # Told by others

    def _arrived(self, line: AudioLine) -> None:
        if self._line is not None:
            self._line.hang_up()
        self._line = line
        self._lost_at = None
        self._is_disconnected.clear()
        self._is_connected.set()
        self._changed(self)

    def _seat_given_up(self, seat: NodeSeat) -> None:
        if self._seat is seat:
            self._seat = self._room_seat = None

    def _must_be_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the sound of call {self._call_id} is closed")
