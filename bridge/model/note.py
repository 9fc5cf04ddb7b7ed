"""What we remember of a call on the call itself, in the PBX, so that a controller that starts anew can go on with it.

The note holds everything needed to go on without asking a rule again. It never holds a PIN, only how many were tried.
How a PBX stores the text (its size limits, its quoting) is the adapter's business.
"""

from dataclasses import replace
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridge.model.ticket import RoomTicket

METADATA_LIMIT = 4096
"""Longer metadata (LiveKit allows 512 KiB) is not kept on the call; whoever goes on reads it from the rule by its id."""


class CallState(StrEnum):
    """The step of the story that is about to be taken (DESIGN §5)."""

    RINGING = "ringing"  # nothing decided yet
    PIN = "pin"  # being asked for the PIN
    WAITING = "waiting"  # has a room; waits for company, answered or not
    TALKING = "talking"


class BrokenNote(ValueError):  # noqa: N818  (says what it is)
    """The text on the channel is not a note of a version we know."""


class CallNote(BaseModel):
    """The few facts on a call that the PBX keeps for us. Times are seconds since the epoch: they outlive processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(default=1, ge=1, le=1)
    call_id: str = Field(min_length=1)
    state: CallState
    started_at: float
    answered_at: float | None = None
    trunk_id: str = ""
    rule_id: str = ""
    node: str = ""
    ticket: RoomTicket | None = None
    metadata_in_rule: bool = False
    pin_tries: int = 0
    ringing_timeout_status: int = 486
    company_until: float | None = None
    over_at: float | None = None
    company_timeout: float = 180.0
    max_duration: float = 86400.0

    def to_text(self) -> str:
        """ASCII, one line, a few hundred bytes up to a few KB."""
        note = self
        if note.ticket is not None and len(note.ticket.metadata) > METADATA_LIMIT:
            note = note.model_copy(update={"ticket": replace(note.ticket, metadata=""), "metadata_in_rule": True})
        return note.model_dump_json(exclude_defaults=True, ensure_ascii=True)

    @classmethod
    def from_text(cls, text: str) -> "CallNote":
        """Raises BrokenNote on anything that `to_text` of a known version did not write."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            places = ", ".join(".".join(str(part) for part in detail["loc"]) or "text" for detail in error.errors())
            raise BrokenNote(f"the note on the call cannot be read ({places})") from None
