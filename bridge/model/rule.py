"""Dispatch rules: which room a caller goes to (livekit-sip-semantics.md §1.3, §1.4)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field, model_validator

from bridge.model.base import LiveKitModel
from bridge.model.media import Encryption, MediaConfig, MediaEncryption

PIN_LENGTH = 16
"""Characters a caller can enter before `#` (§3.3 step 3)."""

_PIN_CHARACTERS = frozenset("0123456789*abcd")


def can_be_entered(pin: str) -> bool:
    """Whether a caller can press this PIN at all. Letters arrive in lower case (trap 17)."""
    return len(pin) <= PIN_LENGTH and _PIN_CHARACTERS.issuperset(pin)


class DirectRule(LiveKitModel):
    """Always the same room."""

    room_name: str = ""
    pin: str = Field(default="", repr=False)


class IndividualRule(LiveKitModel):
    """A room for each caller."""

    room_prefix: str = ""
    pin: str = Field(default="", repr=False)
    no_randomness: bool = False


class CalleeRule(LiveKitModel):
    """A room for each called number."""

    room_prefix: str = ""
    pin: str = Field(default="", repr=False)
    randomize: bool = False


class Rule(LiveKitModel):
    """SIPDispatchRule: one of three, or none, which LiveKit stores but no call can use."""

    dispatch_rule_direct: DirectRule | None = None
    dispatch_rule_individual: IndividualRule | None = None
    dispatch_rule_callee: CalleeRule | None = None

    @model_validator(mode="after")
    def _at_most_one(self) -> "Rule":
        if sum(kind is not None for kind in (self.dispatch_rule_direct, self.dispatch_rule_individual, self.dispatch_rule_callee)) > 1:
            raise ValueError("a rule is one of dispatch_rule_direct, dispatch_rule_individual and dispatch_rule_callee")
        return self

    @property
    def kind(self) -> DirectRule | IndividualRule | CalleeRule | None:
        return self.dispatch_rule_direct or self.dispatch_rule_individual or self.dispatch_rule_callee

    @property
    def pin(self) -> str:
        return self.kind.pin if self.kind else ""


class DispatchRule(LiveKitModel):
    """SIPDispatchRuleInfo. `inbound_numbers` are calling numbers, `numbers` called ones; both are matched exactly (§2.4)."""

    sip_dispatch_rule_id: str = ""
    rule: Rule | None = None
    trunk_ids: tuple[str, ...] = ()
    hide_phone_number: bool = False
    inbound_numbers: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    name: str = ""
    metadata: str = ""
    attributes: Mapping[str, str] = Field(default_factory=dict)
    room_preset: str = ""
    room_config: Mapping[str, Any] | None = None
    krisp_enabled: bool = False
    media_encryption: Encryption = MediaEncryption.SIP_MEDIA_ENCRYPT_DISABLE
    media: MediaConfig | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def pin(self) -> str:
        return self.rule.pin if self.rule else ""


class NewDispatchRule(LiveKitModel):
    """CreateSIPDispatchRuleRequest: the rule, or (deprecated, and only without it) its parts at the top level (§1.8)."""

    dispatch_rule: DispatchRule | None = None
    rule: Rule | None = None
    trunk_ids: tuple[str, ...] = ()
    hide_phone_number: bool = False
    inbound_numbers: tuple[str, ...] = ()
    name: str = ""
    metadata: str = ""
    attributes: Mapping[str, str] = Field(default_factory=dict)
    room_preset: str = ""
    room_config: Mapping[str, Any] | None = None

    def as_rule(self) -> DispatchRule:
        if self.dispatch_rule is not None:
            return self.dispatch_rule
        return DispatchRule(**{name: getattr(self, name) for name in type(self).model_fields if name != "dispatch_rule"})
