"""What is known of one call while it lives: the facts its story gathers, its note, and a picture of it for others."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.call.handing_on import CALL_ENDED, HandingOn, Transfer
from bridge.media.port import Seat, Sound
from bridge.model.ending import EndedBy, EndReason
from bridge.model.note import CallNote
from bridge.model.record import CallRecord, LiveCall
from bridge.model.ticket import RoomTicket
from bridge.pbx.port import Leg, TransferFailure

KEYS_KEPT = 64
"""Key presses waiting to be looked at; a storm beyond that is dropped (LiveKit keeps 10, §3.3 step 2)."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """Somebody asked for the call to be ended."""

    reason: EndReason = EndReason.REQUESTED


Order = HangUp | Transfer


class AskAgain:
    """Among the keys: what was pressed before is lost, start the PIN prompt anew."""


class PromptEnded:
    """Among the keys: the prompt was played to its end or stopped."""


KeyEvent = str | AskAgain | PromptEnded


@dataclass(slots=True)
class Progress:
    """How far a call has come, for who waits for it: seated, answered, over (`why` then says how)."""

    seated: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    why: CallRecord | None = None


@dataclass(slots=True)
class Call:
    """One live call. Written by its own story only; everybody else reads `snapshot()` or leaves an order.

    `lost_sound`: one whose node is away, and may be back with it. `heard`: the PBX's audio has reached the sound we have now.
    `audible` is set while it is. `connecting`: it is being asked for; `media_refused`: and just failed.
    `control`: set while the PBX can be told something. `held`: by the caller. `handing_on`: a transfer that is under way.
    """

    leg: Leg
    note: CallNote
    taken_over: bool = False
    sound: Sound | None = None
    lost_sound: Sound | None = None
    seat: Seat | None = None
    seat_is_open: bool = False
    audible: asyncio.Event = field(default_factory=asyncio.Event)
    connecting: bool = False
    media_refused: asyncio.Event = field(default_factory=asyncio.Event)
    held: bool = False
    handing_on: HandingOn | None = None
    trace: dict[str, Any] = field(default_factory=dict)
    keys: "asyncio.Queue[KeyEvent]" = field(default_factory=lambda: asyncio.Queue(KEYS_KEPT))
    progress: Progress = field(default_factory=Progress)
    orders: "asyncio.Queue[Order]" = field(default_factory=asyncio.Queue)
    control: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.control.set()

    @property
    def call_id(self) -> str:
        return self.note.call_id

    @property
    def heard(self) -> bool:
        return self.audible.is_set()

    @heard.setter
    def heard(self, heard: bool) -> None:
        if heard:
            self.audible.set()
        else:
            self.audible.clear()

    @property
    def answered(self) -> bool:
        # A PBX may hear of the answer a moment after its audio has come.
        return self.heard or self.leg.answered

    @property
    def rate(self) -> int:
        """Samples a second: what the caller's codec is worth."""
        return 16_000 if self.leg.caller.wideband else 8_000

    @property
    def ticket(self) -> RoomTicket:
        if self.note.ticket is None:
            raise RuntimeError(f"call {self.call_id} has no room yet")
        return self.note.ticket

    def change(self, **facts: object) -> CallNote:
        """The note with these facts changed; it is the call's own from now on, and still to be remembered by the leg."""
        self.note = self.note.model_copy(update=facts)
        return self.note

    def press(self, event: KeyEvent) -> None:
        """A key for the PIN dialogue. In a storm the newest keys are dropped, but never word that keys were lost or the prompt ended."""
        if self.keys.full():
            if isinstance(event, str):
                return
            self.keys.get_nowait()
        self.keys.put_nowait(event)

    def lose_sound(self) -> None:
        """Its node has gone, for the moment or for good."""
        self.lost_sound, self.sound, self.seat = self.sound or self.lost_sound, None, None
        self.heard = self.connecting = self.seat_is_open = False

    def refuse_orders(self) -> None:
        """The call is over: tell those who wait for a transfer."""
        while not self.orders.empty():
            order = self.orders.get_nowait()
            if isinstance(order, Transfer):
                order.refuse(TransferFailure.NO_CALL, CALL_ENDED)

    @property
    def full_ticket(self) -> RoomTicket:
        """With the headers that the note goes without."""
        return replace(self.ticket, headers=dict(self.leg.caller.headers))

    def ticket_with(self, attribute: str, value: str) -> RoomTicket:
        """The ticket with one attribute changed, so that a seat taken anew starts with it."""
        return replace(self.ticket, attributes={**self.ticket.attributes, attribute: value})

    def snapshot(self) -> LiveCall:
        """A picture of it for others."""
        to = self.handing_on.to if self.handing_on is not None else ""
        return LiveCall(**self._facts(), state=self.note.state, answered=self.answered, held=self.held, transfer_to=to)

    def record(self, ended_at: float, reason: EndReason, by: EndedBy, detail: str, sip_status: int | None) -> CallRecord:
        """The one record that is kept of this call."""
        return CallRecord(**self._facts(), ended_at=ended_at, end_reason=reason, ended_by=by, detail=detail, sip_status=sip_status)

    def _facts(self) -> dict[str, Any]:
        """The fields of CallFacts."""
        caller, ticket = self.leg.caller, self.note.ticket
        return {
            "call_id": self.call_id,
            "pbx": self.leg.pbx,
            "leg_id": self.leg.id,
            "sip_call_id": caller.sip_call_id,
            "number": caller.number,
            "called": caller.called,
            "source_address": caller.source_address,
            "endpoint": caller.endpoint,
            "trunk_id": self.note.trunk_id,
            "rule_id": self.note.rule_id,
            "room": ticket.room_name if ticket else "",
            "identity": ticket.identity if ticket else "",
            "started_at": self.note.started_at,
            "answered_at": self.note.answered_at if self.answered else None,
            "pin_tries": self.note.pin_tries,
            "taken_over": self.taken_over,
            "outgoing": self.note.outgoing,
            "trace": self.trace,
        }
