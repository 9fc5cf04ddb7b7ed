"""What the dispatch step gives back: the verdict on who calls, and the decision where they go. Plain data, with the reasons.

Tuples, not dataclasses: a frozen dataclass of twenty fields takes as long to make as finding the rule.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bridge.model.caller import Caller

if TYPE_CHECKING:
    from bridge.dispatch.trace import Trace
    from bridge.model.media import MediaConfig
    from bridge.model.phone_number import PhoneNumber
    from bridge.model.trunk import InboundTrunk


NOTHING: Mapping[str, Any] = MappingProxyType({})


class VerdictKind(StrEnum):
    """How a caller may go on to the dispatch step, or why not."""

    PHONE_NUMBER = "phone_number"  # the called number is our own: no trunk needed
    TRUNK = "trunk"
    NO_TRUNK = "no_trunk"  # goes on: rules without a trunk may match
    REFUSED = "refused"


class Verdict(NamedTuple):
    """The trunk step's outcome (DESIGN §5.2). `status` is the SIP status of a refusal, `reason` its sentence."""

    kind: VerdictKind
    trace: "Trace"
    trunk: "InboundTrunk | None" = None
    phone_number: "PhoneNumber | None" = None
    status: int = 0
    reason: str = ""


class Accept(NamedTuple):
    """Join this room as this participant (livekit-sip-semantics.md §2.6)."""

    trace: "Trace"
    trunk_id: str
    rule_id: str
    room_name: str
    identity: str
    name: str
    metadata: str
    attributes: Mapping[str, str]
    media: "MediaConfig"
    room_preset: str = ""
    room_config: Mapping[str, Any] = NOTHING
    headers: Mapping[str, str] = NOTHING
    headers_to_attributes: Mapping[str, str] = NOTHING
    attributes_to_headers: Mapping[str, str] = NOTHING
    include_headers: int = 0
    ringing_timeout: timedelta = timedelta(minutes=3)
    ringing_timeout_status: int = 486
    max_call_duration: timedelta = timedelta(hours=24)
    krisp_enabled: bool = False


class AskPin(NamedTuple):
    """A rule matched that wants a PIN and none was given yet."""

    trace: "Trace"
    trunk_id: str
    rule_id: str
    media: "MediaConfig"


class Refuse(NamedTuple):
    """No room for this caller: `status` to the unanswered caller, `reason` for people. `conflict`: rules contradict one another."""

    trace: "Trace"
    status: int
    reason: str
    conflict: bool = False


Decision = Accept | AskPin | Refuse


class Dispatcher(Protocol):
    """Answers the two questions of a call. The plain matcher (`evaluate`) and the compiled index (`index`) agree in every case."""

    def authorise(self, caller: Caller) -> Verdict:
        """May this caller go on, and as whom?"""

    def dispatch(
        self,
        caller: Caller,
        verdict: Verdict,
        *,
        call_id: str,
        room_suffix: Callable[[], str],
        pin: str | None = None,
        no_pin: bool = False,
    ) -> Decision:
        """Which room? `pin`: the digits entered; `no_pin`: the caller was asked and entered none (§3.3 step 4). `room_suffix` gives
        twelve random characters when a rule wants them."""
