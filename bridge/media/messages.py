"""What a controller and a node in another process say to one another: small typed messages, one JSON text to a line.

The controller asks; the node answers each request exactly once, in any order, and tells unasked how busy it is and what happens at seats.
Bytes in, messages out: no socket here. The two ends are `node_server.py` and `remote.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bridge.errors import RemoteProtocolError
from bridge.media.epoch import Epoch
from bridge.media.port import ClipName
from bridge.model.ending import EndReason
from bridge.model.media_address import Carriage
from bridge.model.ticket import RoomTicket

_Message = TypeVar("_Message")

VERSION: Final = 5
"""Raised when the two ends would misunderstand one another; a node and a controller of different versions part at once."""

LINE_LIMIT: Final = 1 << 20
"""Bytes: a ticket with 64 KB of attributes and as much metadata, escaped, fits many times."""


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(Message):
    """Something asked; `id` is the controller's, unique on its connection."""

    id: int


class Open(Request):
    kind: Literal["open"] = "open"
    call_id: str
    rate: int


class Sounds(Request):
    kind: Literal["sounds"] = "sounds"


class Invite(Request):
    kind: Literal["invite"] = "invite"
    call_id: str
    carriage: Annotated[Carriage, Field(discriminator="kind")]


class Connected(Request):
    kind: Literal["connected"] = "connected"
    call_id: str


class Disconnected(Request):
    kind: Literal["disconnected"] = "disconnected"
    call_id: str


class SilentFor(Request):
    kind: Literal["silent_for"] = "silent_for"
    call_id: str
    seconds: float = Field(ge=0, le=3600)


class Play(Request):
    """Answered when the clip is over. A controller that goes meanwhile leaves it playing."""

    kind: Literal["play"] = "play"
    call_id: str
    clip: ClipName
    loop: bool


class Stop(Request):
    kind: Literal["stop"] = "stop"
    call_id: str


class Snapshot(Request):
    kind: Literal["snapshot"] = "snapshot"
    call_id: str


class Close(Request):
    kind: Literal["close"] = "close"
    call_id: str


class TakeSeat(Request):
    """Answered with the seat's number: the one the call has, when it sits in that room as that participant already."""

    kind: Literal["take_seat"] = "take_seat"
    call_id: str
    ticket: RoomTicket


class Company(Request):
    kind: Literal["company"] = "company"
    seat: int


class OpenSeat(Request):
    kind: Literal["open_seat"] = "open_seat"
    seat: int


class Listen(Request):
    """Answered when there will be no more events; each comes as `SeatTold` before."""

    kind: Literal["listen"] = "listen"
    seat: int


class PublishDigit(Request):
    kind: Literal["publish_digit"] = "publish_digit"
    seat: int
    digit: str


class SetAttributes(Request):
    kind: Literal["set_attributes"] = "set_attributes"
    seat: int
    changes: Mapping[str, str]


class Leave(Request):
    kind: Literal["leave"] = "leave"
    seat: int
    reason: EndReason


class Probe(Request):
    """Could a room be had now?"""

    kind: Literal["probe"] = "probe"


class Figures(Request):
    """What the node and its process count: answered in Prometheus's text format."""

    kind: Literal["figures"] = "figures"


class Ping(Request):
    kind: Literal["ping"] = "ping"


class Cancel(Message):
    """Nobody waits for the request of this id any more; it is not answered then."""

    kind: Literal["cancel"] = "cancel"
    id: int


class Greeting(Message):
    """The controller's first word, after the node's."""

    kind: Literal["greeting"] = "greeting"
    epoch: Epoch


class Hello(Message):
    """The node's first word. All versions begin with it."""

    kind: Literal["hello"] = "hello"
    version: int


class Welcome(Message):
    """To the greeting of the newest controller: the node is its now."""

    kind: Literal["welcome"] = "welcome"


class TurnedAway(Message):
    """The node's last word, to a controller that is not the newest: at its greeting, or when a newer one comes. It need not come again."""

    kind: Literal["turned_away"] = "turned_away"
    reason: str


class Load(Message):
    """How busy the node is, whenever that changes."""

    kind: Literal["load"] = "load"
    calls: int
    room_for: int
    draining: bool
    worn: bool


class Answer(Message):
    kind: Literal["answer"] = "answer"
    id: int
    value: Any = None


class Refusal(Message):
    """It could not be done; `error` is a sentence."""

    kind: Literal["refusal"] = "refusal"
    id: int
    error: str


class SeatTold(Message):
    """What happened at a seat: one of `model.ticket.SeatEvent` by its name, with its text where it has one."""

    kind: Literal["seat_told"] = "seat_told"
    seat: int
    event: Literal["digits", "lost", "back", "gone", "end"]
    text: str = ""
    detail: str = ""


FromController = (
    Open
    | Sounds
    | Invite
    | Connected
    | Disconnected
    | SilentFor
    | Play
    | Stop
    | Snapshot
    | Close
    | TakeSeat
    | Company
    | OpenSeat
    | Listen
    | PublishDigit
    | SetAttributes
    | Leave
    | Probe
    | Figures
    | Ping
    | Cancel
    | Greeting
)
FromNode = Hello | Welcome | TurnedAway | Load | Answer | Refusal | SeatTold

_from_controller: TypeAdapter[FromController] = TypeAdapter(Annotated[FromController, Field(discriminator="kind")])
_from_node: TypeAdapter[FromNode] = TypeAdapter(Annotated[FromNode, Field(discriminator="kind")])


def encode(message: Message) -> bytes:
    return message.model_dump_json().encode() + b"\n"


def read_from_controller(line: bytes) -> FromController:
    """Raises RemoteProtocolError for anything else, without repeating what was said."""
    return _read(_from_controller, line)


def read_from_node(line: bytes) -> FromNode:
    """Raises RemoteProtocolError for anything else, without repeating what was said."""
    return _read(_from_node, line)


def _read(adapter: TypeAdapter[_Message], line: bytes) -> _Message:
    try:
        return adapter.validate_json(line)
    except (ValidationError, RecursionError) as error:
        raise RemoteProtocolError(f"a line that is no message ({type(error).__name__})") from None
