"""What is kept of a call after its end: one record, whoever ended it. Holds reasons, never digits."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bridge.model.ending import EndedBy, EndReason


class CallRecord(BaseModel):
    """One call from the first ring to the end. Times are seconds since the epoch; `call_id` is unique for ever."""

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
    ended_at: float
    end_reason: EndReason
    ended_by: EndedBy
    detail: str = ""
    sip_status: int | None = None
    pin_tries: int = 0
    taken_over: bool = False
    trace: dict[str, Any] = Field(default_factory=dict)

    @property
    def answered(self) -> bool:
        return self.answered_at is not None

    def to_json(self) -> str:
        """ASCII on one line, whatever a caller put into names and numbers (half a surrogate pair is no UTF-8)."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "CallRecord":
        return cls.model_validate(json.loads(text))
