"""A stored object changed as LiveKit does it: replaced or updated, and checked before and after (livekit-sip-semantics.md §1.9).

`update.py` knows how fields change, `validation.py` what is refused; who else claims the same calls is `bridge.dispatch.conflicts`'.
Every function raises InvalidObject and gives the new object; the stored one's id stays.
"""

from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, OutboundTrunk
from bridge.model.update import InboundTrunkUpdate, OutboundTrunkUpdate, RuleUpdate
from bridge.model.validation import (
    check_inbound_trunk,
    check_inbound_update,
    check_outbound_trunk,
    check_outbound_update,
    check_rule,
    check_rule_update,
)


def replaced_inbound_trunk(stored: InboundTrunk, replacement: InboundTrunk) -> InboundTrunk:
    changed = replacement.model_copy(update={"sip_trunk_id": stored.sip_trunk_id or replacement.sip_trunk_id})
    check_inbound_trunk(changed)
    return changed


def updated_inbound_trunk(stored: InboundTrunk, update: InboundTrunkUpdate) -> InboundTrunk:
    check_inbound_update(update)
    changed = update.apply(stored)
    check_inbound_trunk(changed)
    return changed


def replaced_outbound_trunk(stored: OutboundTrunk, replacement: OutboundTrunk) -> OutboundTrunk:
    changed = replacement.model_copy(update={"sip_trunk_id": stored.sip_trunk_id or replacement.sip_trunk_id})
    check_outbound_trunk(changed)
    return changed


def updated_outbound_trunk(stored: OutboundTrunk, update: OutboundTrunkUpdate) -> OutboundTrunk:
    check_outbound_update(update)
    changed = update.apply(stored)
    check_outbound_trunk(changed)
    return changed


def replaced_rule(stored: DispatchRule, replacement: DispatchRule) -> DispatchRule:
    changed = replacement.model_copy(update={"sip_dispatch_rule_id": stored.sip_dispatch_rule_id or replacement.sip_dispatch_rule_id})
    check_rule(changed)
    return changed


def updated_rule(stored: DispatchRule, update: RuleUpdate) -> DispatchRule:
    check_rule_update(update)
    changed = update.apply(stored)
    check_rule(changed)
    return changed
