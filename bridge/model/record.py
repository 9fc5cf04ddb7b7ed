"""A call as others see it: while it lives, and the one record that is kept after its end, whoever ended it. Holds reasons, never digits.

The command line and the API show a call as `to_dict` gives it.
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bridge.model.ending import EndedBy, EndReason
from bridge.model.note import CallState


class CallFacts(BaseModel):
    """What is known of a call by now. Times are seconds since the epoch; `call_id` is unique for ever. `outgoing`: a call of ours."""

    model_config = ConfigDict(frozen=True)

    call_id: str
    pbx: str
    leg_id: str
    sip_call_id: str = ""
    number: str = ""
    called: str = ""
    source_address: str = ""
    endpoint: str = ""
    trunk_id: str = ""
    rule_id: str = ""
    room: str = ""
    identity: str = ""
    started_at: float
    answered_at: float | None = None
    pin_tries: int = 0
    taken_over: bool = False
    outgoing: bool = False
    trace: dict[str, Any] = Field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """ASCII on one line, whatever a caller put into names and numbers (half a surrogate pair is no UTF-8)."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


class LiveCall(CallFacts):
    """A call that is up. `answered`: by anybody, since a dialplan may have done so before it came to us. `transfer_to`: where the caller is
    being handed on to."""

    state: CallState
    answered: bool
    held: bool = False
    transfer_to: str = ""


class CallRecord(CallFacts):
    """One call from the first ring to the end."""

    ended_at: float
    end_reason: EndReason
    ended_by: EndedBy
    detail: str = ""
    sip_status: int | None = None

    @property
    def answered(self) -> bool:
        return self.answered_at is not None

    @classmethod
    def from_json(cls, text: str) -> "CallRecord":
        return cls.model_validate(json.loads(text))
