"""What the operator configured, as one immutable set."""

from dataclasses import dataclass
from enum import StrEnum

from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk


class UnknownTrunks(StrEnum):
    """What becomes of a caller whom no trunk takes."""

    ALLOW = "allow"  # as LiveKit: rules without a trunk may match
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Directory:
    """Kept in the order given; LiveKit looks at trunks and rules in the order of their ids (§2.2, §2.4), and so do we."""

    trunks: tuple[InboundTrunk, ...] = ()
    rules: tuple[DispatchRule, ...] = ()
    phone_numbers: tuple[PhoneNumber, ...] = ()
    unknown_trunks: UnknownTrunks = UnknownTrunks.ALLOW

    def trunks_by_id(self) -> tuple[InboundTrunk, ...]:
        return tuple(sorted(self.trunks, key=lambda trunk: trunk.sip_trunk_id))

    def rules_by_id(self) -> tuple[DispatchRule, ...]:
        return tuple(sorted(self.rules, key=lambda rule: rule.sip_dispatch_rule_id))
