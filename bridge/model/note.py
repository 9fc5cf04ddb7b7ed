"""What we remember of a call on the call itself, in the PBX, so that a controller that starts anew can go on with it.

The note holds everything needed to go on without asking a rule again. It never holds a PIN, only how many were tried.
How a PBX stores the text (its size limits, its quoting) is the adapter's business.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridge.model.ticket import RoomTicket

TEXT_LIMIT = 12_000
"""Characters of a note. A PBX keeps it in pieces (Asterisk: 900 to a line), and each piece takes a command."""


class CallState(StrEnum):
    """The step of the story that is about to be taken (DESIGN §5)."""

    RINGING = "ringing"  # nothing decided yet
    PIN = "pin"  # being asked for the PIN
    DIALING = "dialing"  # somebody is being called, who has not answered yet
    WAITING = "waiting"  # has a room; waits for company, answered or not
    TALKING = "talking"


class BrokenNote(ValueError):  # noqa: N818  (says what it is)
    """The text on the channel is not a note of a version we know."""


class CallNote(BaseModel):
    """The few facts on a call that the PBX keeps for us. Times are seconds since the epoch: they outlive processes.

    `company_until` and `over_at` are the absolute deadlines of the wait for company and of the whole call. The call's sound is not named:
    every node tells by call id what it carries. `metadata_in_rule`: the ticket's metadata was too long to keep, the rule still has it.
    `media_timeout`: seconds, where the trunk or the rule has its own. `outgoing`: a call of ours; `digits` are sent once it is answered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: int = Field(default=1, ge=1, le=1)
    call_id: str = Field(min_length=1)
    state: CallState
    started_at: float
    answered_at: float | None = None
    trunk_id: str = ""
    rule_id: str = ""
    ticket: RoomTicket | None = None
    metadata_in_rule: bool = False
    pin_tries: int = Field(default=0, ge=0)
    ringing_timeout_status: int = Field(default=486, ge=400, le=699)
    company_until: float | None = None
    over_at: float | None = None
    media_timeout: float | None = Field(default=None, gt=0)
    outgoing: bool = False
    digits: str = ""

    def to_text(self) -> str:
        """ASCII, one line, a few hundred characters, at most TEXT_LIMIT.

        What does not fit is left out in this order: metadata (read from the rule again), the room's configuration (it counts only for
        a room made by this very join), attributes, longest first (a participant who has to be seated anew lacks them).
        """
        text = self._dump()
        for lighter in self._lighter():
            if len(text) <= TEXT_LIMIT:
                break
            text = lighter._dump()
        return text

    def _lighter(self) -> "Iterator[CallNote]":
        ticket = self.ticket
        if ticket is None:
            return
        # A call of ours has none: whatever was said of it then is gone.
        in_rule = self.metadata_in_rule or bool(ticket.metadata and self.rule_id)
        ticket = replace(ticket, metadata="")
        yield self.model_copy(update={"ticket": ticket, "metadata_in_rule": in_rule})
        ticket = replace(ticket, room_config={})
        yield self.model_copy(update={"ticket": ticket, "metadata_in_rule": in_rule})
        attributes = dict(ticket.attributes)
        while attributes:
            del attributes[max(attributes, key=lambda name: len(name) + len(attributes[name]))]
            yield self.model_copy(update={"ticket": replace(ticket, attributes=dict(attributes)), "metadata_in_rule": in_rule})

    def _dump(self) -> str:
        facts = self.model_dump(mode="json", exclude_defaults=True, exclude={"ticket": {"headers"}})
        return json.dumps(facts, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> "CallNote":
        """Raises BrokenNote on anything that `to_text` of a known version did not write."""
        try:
            return cls.model_validate(json.loads(text))
        except ValidationError as error:
            places = sorted({str(detail["loc"][0]) if detail["loc"] else "text" for detail in error.errors()})
            raise BrokenNote(f"the note on the call cannot be read ({', '.join(places)[:80]!a})") from None
        except (ValueError, RecursionError):
            raise BrokenNote("the note on the call is no JSON") from None
