"""What a caller needs to enter a room, and what happens at a seat."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RoomTicket:
    """One participant of kind SIP about to join (livekit-sip-semantics.md §3.7). Plain data: it crosses process borders and is kept
    in the call's note, so that the same seat can be taken again elsewhere. `headers` are those of the INVITE, for who asks for them in
    the room (§3.5); the note goes without them, since the PBX has them still. `dial_tone`: until the seat is opened the room hears that
    a phone rings."""

    call_id: str
    room_name: str
    identity: str
    name: str
    metadata: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    room_preset: str = ""
    room_config: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    dial_tone: bool = False


@dataclass(frozen=True, slots=True)
class DigitsToSend:
    """The room asks for these digits (`0-9 * # A-D`, `w` = half a second's pause) to be sent to the phone."""

    digits: str


@dataclass(frozen=True, slots=True)
class SeatLost:
    """The connection to the room broke; the seat tries to come back by itself."""


@dataclass(frozen=True, slots=True)
class SeatBack:
    """The same seat is there again after `SeatLost`."""


@dataclass(frozen=True, slots=True)
class SeatGone:
    """The seat is gone for good. `reason` is LiveKit's word in lower case: room_deleted, participant_removed, …; `join_failed` where
    it had only been promised, `connection_lost` where it did not come back. `detail` is a sentence, where there is one."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EndAsked:
    """Somebody in the room asks for the call to be ended (`lk.sip.EndCall`, §3.5)."""

    by: str


SeatEvent = DigitsToSend | SeatLost | SeatBack | SeatGone | EndAsked
