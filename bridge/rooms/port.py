"""What a node needs of a room service: seats that take and give 20 ms frames on the node's beat, and their control.

Frames are `bytes` of little-endian 16-bit mono, 20 ms long: 320 bytes at 8 kHz, 640 at 16 kHz (DESIGN §8).
"""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from bridge.model.ending import EndReason
from bridge.model.ticket import RoomTicket, SeatEvent


class RoomSeat(Protocol):
    """One participant's place as the node holds it. `say`, `ring` and `hear` are called from the beat: they never wait and never raise."""

    @property
    def ticket(self) -> RoomTicket: ...

    def say(self, frame: bytes) -> None:
        """The caller's next 20 ms, at the rate given at `join`. Not called when the caller sent nothing in this beat."""

    def ring(self, frame: bytes) -> None:
        """20 ms of the tone that tells the room of a phone that rings (`RoomTicket.dial_tone`), until the seat is opened."""

    def hear(self) -> bytes | None:
        """The room's next 20 ms for this caller, everybody but themselves; None when there is nothing to hear."""

    async def company(self) -> None: ...
    async def open(self) -> None: ...
    def events(self) -> AsyncIterator[SeatEvent]: ...
    async def publish_digit(self, digit: str) -> None: ...
    async def set_attributes(self, changes: Mapping[str, str]) -> None: ...
    async def leave(self, reason: EndReason) -> None: ...


class RoomService(Protocol):
    """Where rooms are."""

    async def join(self, ticket: RoomTicket, rate: int) -> RoomSeat:
        """Take a seat; the room is made if it is not there. A second join with the same identity evicts the first
        (`SeatGone("duplicate_identity")`). Raises `Unavailable`."""

    def beat(self) -> None:
        """Called by the node once every 20 ms, after all `say` and `ring` and before all `hear` of that beat."""

    async def probe(self) -> None:
        """Raises `Unavailable` when no room can be had now."""

    async def close(self) -> None:
        """Close every room: each seat gets `SeatGone("server_shutdown")`."""
