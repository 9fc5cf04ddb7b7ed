"""What the story of a call needs of the media plane: sounds, nodes and seats, and nothing of how samples travel."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from bridge.model.ending import EndReason
from bridge.model.media_address import Carriage, MediaAddress, Stream
from bridge.model.ticket import RoomTicket, SeatEvent


class ClipName(StrEnum):
    """What a node can play: recorded speech (replaceable by the operator, file of the same name) and tones it makes itself."""

    ENTER_PIN = "enter_pin"  # "Please enter room pin and press hash to confirm."
    ROOM_JOIN = "room_join"  # "You are now entering the room."
    UNAVAILABLE = "unavailable"  # "We cannot connect you right now. Please try again later. Goodbye."
    NO_COMPANY = "no_company"  # "Nobody has joined the room. Goodbye."
    WELCOME = "welcome"  # what the built-in announcer says
    WRONG_PIN = "wrong_pin"  # a tone
    RINGBACK = "ringback"  # a tone, endless
    DIAL_TONE = "dial_tone"  # a tone, endless: what a room hears of a phone that rings
    COMFORT = "comfort"  # very faint noise, endless: "the line is alive"


@dataclass(frozen=True, slots=True)
class Clip:
    """Something to play; `loop` repeats it until stopped."""

    name: ClipName
    loop: bool = False


@dataclass(frozen=True, slots=True)
class SoundState:
    """Where a sound stands: what a controller that has just started needs to know."""

    call_id: str
    connected: bool
    playing: ClipName | None
    seated_in: str | None
    opened: bool


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """How busy a node is. `room_for` is how many further calls it takes; 0 while draining or lost. `worn`: it has served its time, and
    makes way for a fresh one as soon as it carries no call."""

    calls: int
    room_for: int
    draining: bool = False
    lost: bool = False
    worn: bool = False


class Seat(Protocol):
    """A caller's place in a room."""

    @property
    def ticket(self) -> RoomTicket: ...

    async def company(self) -> None:
        """Returns once somebody else publishes audio here, or another phone is here (livekit-sip-semantics.md §3.4 step 3)."""

    async def open(self) -> None:
        """Audio both ways from now on; before, the seat neither speaks nor hears."""

    def events(self) -> AsyncIterator[SeatEvent]:
        """What happens at the seat, to one reader; ends after `SeatGone` or `leave`. Nothing from before the first read is lost."""

    async def publish_digit(self, digit: str) -> None: ...

    async def set_attributes(self, changes: Mapping[str, str]) -> None: ...

    async def leave(self, reason: EndReason) -> None:
        """Give the seat up. Idempotent."""


class Sound(Protocol):
    """The media plane's hold on one call. It and its seat outlive any one connection of the PBX."""

    @property
    def call_id(self) -> str: ...

    async def invite(self, carriage: Carriage = Stream()) -> MediaAddress:  # noqa: B008  (frozen)
        """A fresh address for the PBX to send this call's audio to, as its leg says that it travels: good once, for 5 s; ask again after
        a loss."""

    async def connected(self) -> None:
        """Returns once the PBX is connected; at once if it is."""

    async def disconnected(self) -> None:
        """Returns once the PBX is not connected; at once if it is not."""

    async def silent_for(self, seconds: float) -> None:
        """Returns once the PBX has brought no frame of the caller for so long, connected or not; at once if it has not. No frame says
        less than no packet: there are callers who send nothing while they say nothing."""

    async def play(self, clip: Clip) -> bool:
        """Play to the PBX, instead of the room and of any clip before. True if played to the end, False if stopped (by `stop`,
        another `play` or the end of the sound). Playing waits for the PBX while it is not connected."""

    async def stop(self) -> None:
        """Stop what is being played, within one frame."""

    async def take_seat(self, ticket: RoomTicket) -> Seat:
        """Join the room; may happen before the PBX is connected. A sound has one seat: taking another gives up the first.
        Raises `Unavailable` when the room cannot be had."""

    async def snapshot(self) -> SoundState: ...

    async def hand_over(self) -> None:
        """We are its controller no longer: a node of its own keeps it for the next one, a node in our process ends it."""

    async def close(self) -> None:
        """End the sound: connection closed, seat given up, nothing left. Idempotent."""


class Node(Protocol):
    """A process (or the part of ours) that carries sounds."""

    async def open(self, call_id: str, rate: int) -> Sound:
        """Start carrying a call at 8000 or 16000 Hz. Raises `Unavailable` when full or draining."""

    async def sounds(self) -> Mapping[str, Sound]:
        """What it carries now, by call id: how a new controller finds its calls again."""

    async def probe(self) -> None:
        """Raises `Unavailable`, whose text says why, when no room could be had now."""

    def load(self) -> NodeLoad: ...
