"""How and why calls end."""

from dataclasses import dataclass
from enum import StrEnum


class EndReason(StrEnum):
    """Why a call ended: one word for the record, the log and the metric (livekit-sip-semantics.md §3.6, §5.1)."""

    HANGUP = "hangup"  # the caller hung up after answer
    CANCELLED = "cancelled"  # the caller gave up before answer
    DECLINED = "declined"  # who was called did not take it; the SIP status says how
    NO_ANSWER = "no-answer"  # who was called did not answer in time
    NO_CAPACITY = "no-capacity"
    NO_TRUNK = "no-trunk"
    UNAUTHORIZED = "unauthorized"
    NO_RULE = "no-rule"
    CONFLICT = "dispatch-error"  # conflicting trunks or rules: nothing can be decided
    WRONG_PIN = "wrong-pin"
    PIN_TIMEOUT = "pin-timeout"
    PIN_THROTTLED = "pin-throttled"
    RINGING_TIMEOUT = "cannot-subscribe"  # nobody published in time, unanswered
    COMPANY_TIMEOUT = "no-company"  # nobody published in time, answered (after a PIN)
    MAX_DURATION = "max-duration"
    ROOM_CLOSED = "room-disconnected"
    REMOVED = "removed"
    DUPLICATE_IDENTITY = "duplicate-identity"
    ROOM_FAILED = "room-failed"  # the room could not be joined
    MEDIA_FAILED = "media-failed"  # the PBX's audio could not be had, or not again
    MEDIA_TIMEOUT = "media-timeout"  # nothing came from the caller any more
    REQUESTED = "rpc"  # somebody asked us to hang up
    TRANSFERRED = "transferred"
    TRANSFER_REFUSED = "transfer-refused"  # nobody took the caller, and the PBX did not keep them
    SHUTDOWN = "shutdown"
    PBX_GONE = "pbx-gone"  # the call vanished with its PBX
    FELL_BACK = "fell-back"  # the PBX took the call to the operator's fallback
    TAKEN_AWAY = "taken-away"  # somebody at the PBX moved the call elsewhere
    UNSEEN = "unseen"  # while no server watched: when and how is not known
    ERROR = "other"  # a fault of ours; the log has its traceback


class EndedBy(StrEnum):
    """Whose doing the end was."""

    CALLER = "caller"
    ROOMLINE = "roomline"
    ROOM = "room"
    PBX = "pbx"


@dataclass(frozen=True, slots=True)
class Ending:
    """What the PBX knows of a leg's end. `sip_status` is the final status the caller saw before answer, where known."""

    by: EndedBy
    cause: str = ""
    sip_status: int | None = None
    fell_back: bool = False
    taken_away: bool = False
    transfer_refused: bool = False
