"""The embedded room: a conference in this process, mixed on the node's beat (DESIGN §9).

A room is there while a phone is in it. Mixing itself is in `mixer.py`, the room's own participants are in `builtin.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import structlog

from bridge.errors import Unavailable
from bridge.media.frames import RATES, Frames, samples_per_frame
from bridge.media.halfband import Doubler, Halver
from bridge.media.sparse_log import SparseLog
from bridge.model.ending import EndReason
from bridge.model.ticket import DigitsToSend, RoomTicket, SeatEvent, SeatGone
from bridge.rooms.builtin import Voice, voice
from bridge.rooms.mixer import everybody_else, together
from bridge.rooms.options import BuiltIn, BuiltInKind
from bridge.rooms.seat_events import SeatEvents

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LocalRoomsOptions:
    """`participants` live in the rooms that they name. `announcement` is what announcers say: the same clip at each rate."""

    participants: tuple[BuiltIn, ...] = ()
    announcement: Mapping[int, Frames] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for an announcer who has nothing to say at one of a call's rates."""
        announcers = any(each.kind is BuiltInKind.ANNOUNCER for each in self.participants)
        if announcers and not all(self.announcement.get(rate) for rate in RATES):
            raise ValueError(f"an announcer needs an announcement at {RATES} Hz")


class LocalSeat:
    """One phone's place in a room (`bridge.rooms.port.RoomSeat`). Made by `LocalRooms.join` only."""

    __slots__ = ("_events", "_from_room", "_here", "_room", "_ticket", "_to_room", "attributes", "heard", "opened", "rate", "said")

    def __init__(self, room: "LocalRoom", ticket: RoomTicket, rate: int) -> None:
        self._room = room
        self._ticket = ticket
        self.rate = rate
        self.attributes = dict(ticket.attributes)
        self.opened = False
        self.said: bytes | None = None  # in this beat, at the room's rate
        self.heard: bytes | None = None  # since the last beat, at the room's rate
        self._to_room: Doubler | None = None
        self._from_room: Halver | None = None
        self._events = SeatEvents()
        self._here = True

    @property
    def ticket(self) -> RoomTicket:
        return self._ticket

    def say(self, frame: bytes) -> None:
        if self.opened:
            self.said = frame if self._to_room is None else self._to_room(frame)

    def ring(self, frame: bytes) -> None:
        if not self.opened:
            self.said = frame if self._to_room is None else self._to_room(frame)

    def hear(self) -> bytes | None:
        heard = self.heard if self.opened else None
        return heard if heard is None or self._from_room is None else self._from_room(heard)

    async def company(self) -> None:
        """See the port. Raises `Unavailable` when the seat is gone or given up meanwhile."""
        await self._room.company_for(self)

    async def open(self) -> None:
        """See the port. Opening a seat that is gone does nothing: its events tell."""
        if self._here and not self.opened:
            self.opened = True
            self._room.arrange()

    def events(self) -> AsyncIterator[SeatEvent]:
        return self._events.read()

    async def publish_digit(self, digit: str) -> None:
        """The other phones are asked to send it, as LiveKit SIP's participants ask one another (livekit-sip-semantics.md §3.5)."""
        if self._here:
            for other in self._room.phones():
                if other is not self and other.opened:
                    other.tell(DigitsToSend(digit))

    async def set_attributes(self, changes: Mapping[str, str]) -> None:
        """Changed for whoever looks; an empty value takes the attribute away, as in LiveKit."""
        self.attributes = {key: value for key, value in {**self.attributes, **changes}.items() if value}

    async def leave(self, reason: EndReason) -> None:
        if self._here:
            log.debug("left the room", room=self._ticket.room_name, identity=self._ticket.identity, reason=reason.value)
            self._room.remove(self)
            self._events.end()

    def tell(self, event: SeatEvent) -> None:
        """Called by the room only."""
        self._events.tell(event)

    def run_at(self, room_rate: int) -> None:
        """The room's rate has become this one."""
        lower = self.rate < room_rate
        self.said = self.heard = None
        if lower != (self._to_room is not None):
            self._to_room, self._from_room = (Doubler(), Halver()) if lower else (None, None)

    def taken_away(self) -> None:
        """It is no longer in the room: nothing is said and heard any more."""
        self._here = self.opened = False
        self.said = self.heard = None


class LocalRoom:
    """Phones and the room's own voices. Runs at the highest rate of those who have opened their seats."""

    def __init__(self, rooms: "LocalRooms", name: str, voices: tuple[Voice, ...]) -> None:
        self.name = name
        self._rooms = rooms
        self._voices = voices
        self._unpublished = [each for each in voices if not each.published]
        self._seats: dict[str, LocalSeat] = {}
        self._open: tuple[LocalSeat, ...] = ()
        self._rate = RATES[0]
        self._lonely: list[tuple[LocalSeat, asyncio.Future[None]]] = []
        self.arrange()

    def phones(self) -> tuple[LocalSeat, ...]:
        return tuple(self._seats.values())

    def seat(self, identity: str) -> LocalSeat | None:
        return self._seats.get(identity)

    def add(self, ticket: RoomTicket, rate: int) -> LocalSeat:
        """A new phone; one of the same identity has to go."""
        first = self._seats.get(ticket.identity)
        seat = self._seats[ticket.identity] = LocalSeat(self, ticket, rate)
        if first is not None:
            self._expel(first, "duplicate_identity")
        if ticket.dial_tone:
            self.arrange()
        self._look_for_company()
        return seat

    def expel(self, seat: LocalSeat, reason: str) -> None:
        """Take a seat away and say why."""
        self._expel(seat, reason)
        self._vanish_if_empty()

    def remove(self, seat: LocalSeat) -> None:
        """Its phone has left."""
        self._forget(seat)
        self._vanish_if_empty()

    def arrange(self) -> None:
        """Who has audio open, or a tone for the room, has changed."""
        self._open = tuple(seat for seat in self._seats.values() if seat.opened or seat.ticket.dial_tone)
        self._rate = max((seat.rate for seat in self._open), default=RATES[0])
        for seat in self._open:
            seat.run_at(self._rate)
        for each in self._voices:
            each.run_at(self._rate)

    async def company_for(self, seat: LocalSeat) -> None:
        if self._has_company(seat):
            return
        if self._seats.get(seat.ticket.identity) is not seat:
            raise Unavailable("the seat is gone")
        waiting = (seat, asyncio.get_running_loop().create_future())
        self._lonely.append(waiting)
        try:
            await waiting[1]
        finally:
            if waiting in self._lonely:
                self._lonely.remove(waiting)

    def beat(self) -> None:
        """Everybody who has audio open hears what the others said since the last beat."""
        if self._unpublished:
            self._publish()
        seats, voices = self._open, self._voices
        if len(seats) == 1 and len(voices) == 1:
            seat, other = seats[0], voices[0]
            seat.heard = other.say(True)
            other.hear(seat.said)
            seat.said = None
        elif len(seats) == 2 and not voices:
            one, two = seats
            one.heard, two.heard = two.said, one.said
            one.said = two.said = None
        else:
            self._mix(seats, voices)

    def _mix(self, seats: tuple[LocalSeat, ...], voices: tuple[Voice, ...]) -> None:
        said = [seat.said for seat in seats]
        spoken = [each.say(bool(seats)) for each in voices]
        if voices:
            all_phones = together([frame for frame in said if frame is not None])
            for each in voices:
                each.hear(all_phones)
        for seat, heard in zip(seats, everybody_else(said + spoken), strict=False):  # voices, behind the seats, have heard already
            seat.heard = heard
            seat.said = None

    def _publish(self) -> None:
        waiting = [each for each in self._unpublished if not each.published]
        if len(waiting) < len(self._unpublished):
            self._unpublished = waiting
            self._look_for_company()

    def _has_company(self, seat: LocalSeat) -> bool:
        here = self._seats.get(seat.ticket.identity) is seat
        return here and (len(self._seats) > 1 or any(each.published for each in self._voices))

    def _look_for_company(self) -> None:
        for waiting in [waiting for waiting in self._lonely if self._has_company(waiting[0])]:
            self._lonely.remove(waiting)
            if not waiting[1].done():
                waiting[1].set_result(None)

    def _expel(self, seat: LocalSeat, reason: str) -> None:
        seat.tell(SeatGone(reason))  # before anything else: who waits for company shall find the reason there
        self._forget(seat)

    def _forget(self, seat: LocalSeat) -> None:
        seat.taken_away()
        if self._seats.get(seat.ticket.identity) is seat:
            del self._seats[seat.ticket.identity]
        for waiting in [waiting for waiting in self._lonely if waiting[0] is seat]:
            self._lonely.remove(waiting)
            if not waiting[1].done():
                waiting[1].set_exception(Unavailable("the seat is gone"))
        self.arrange()

    def _vanish_if_empty(self) -> None:
        if not self._seats:
            self._rooms.forget(self)


class LocalRooms:
    """All embedded rooms of this process (`bridge.rooms.port.RoomService`)."""

    def __init__(self, options: LocalRoomsOptions | None = None) -> None:
        self._options = options if options is not None else LocalRoomsOptions()
        self._rooms: dict[str, LocalRoom] = {}
        self._closed = False
        self._faults = SparseLog()

    async def join(self, ticket: RoomTicket, rate: int) -> LocalSeat:
        samples_per_frame(rate)
        await self.probe()
        room = self._rooms.get(ticket.room_name)
        if room is None:
            room = self._rooms[ticket.room_name] = LocalRoom(self, ticket.room_name, self._voices(ticket.room_name))
        return room.add(ticket, rate)

    def beat(self) -> None:
        for room in self._rooms.values():
            try:
                room.beat()
            except Exception as error:  # one room's trouble is its own
                self._faults.warning("a fault of ours cost a room 20 ms", room=room.name, exc_info=error)

    async def probe(self) -> None:
        if self._closed:
            raise Unavailable("the embedded rooms are closed")

    async def close(self) -> None:
        self._closed = True
        for name in list(self._rooms):
            self._expel_all(name, "server_shutdown")

    async def delete_room(self, name: str) -> bool:
        """Everybody has to go (`SeatGone("room_deleted")`). False when there is no such room."""
        return self._expel_all(name, "room_deleted")

    async def remove_participant(self, room_name: str, identity: str) -> bool:
        """One phone has to go (`SeatGone("participant_removed")`). False when it is not there."""
        room = self._rooms.get(room_name)
        seat = room.seat(identity) if room is not None else None
        if room is None or seat is None:
            return False
        room.expel(seat, "participant_removed")
        return True

    def occupants(self) -> dict[str, tuple[str, ...]]:
        """The identities of the phones in each room."""
        return {name: tuple(seat.ticket.identity for seat in room.phones()) for name, room in self._rooms.items()}

    def forget(self, room: LocalRoom) -> None:
        """Called by a room that has become empty."""
        if self._rooms.get(room.name) is room:
            del self._rooms[room.name]

    def _expel_all(self, name: str, reason: str) -> bool:
        room = self._rooms.get(name)
        if room is None:
            return False
        for seat in room.phones():
            room.expel(seat, reason)
        return True

    def _voices(self, room_name: str) -> tuple[Voice, ...]:
        return tuple(voice(each, self._options.announcement) for each in self._options.participants if each.is_in(room_name))
