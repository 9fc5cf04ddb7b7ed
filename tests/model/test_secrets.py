"""PINs and passwords stay out of what is printed."""

from bridge.model.rule import CalleeRule, DirectRule, DispatchRule, IndividualRule, NewDispatchRule, Rule, can_be_entered
from bridge.model.trunk import InboundTrunk, LegacyTrunk, OutboundTrunk
from bridge.model.update import InboundTrunkUpdate, OutboundTrunkUpdate

SECRET = "73519"


def test_given_objects_with_secrets_when_printed_then_no_secret_is_seen() -> None:
    rules = [
        Rule(dispatch_rule_direct=DirectRule(pin=SECRET)),
        Rule(dispatch_rule_individual=IndividualRule(pin=SECRET)),
        Rule(dispatch_rule_callee=CalleeRule(pin=SECRET)),
    ]
    assert all(rule.pin == SECRET for rule in rules)
    for thing in (
        *(DispatchRule(rule=rule) for rule in rules),
        *(NewDispatchRule(dispatch_rule=DispatchRule(rule=rule), rule=rule) for rule in rules),
        InboundTrunk(auth_password=SECRET),
        OutboundTrunk(auth_password=SECRET),
        LegacyTrunk(inbound_password=SECRET, outbound_password=SECRET),
        InboundTrunkUpdate(auth_password=SECRET),
        OutboundTrunkUpdate(auth_password=SECRET),
    ):
        assert SECRET not in f"{thing} {thing!r}"


def test_given_a_pin_when_asked_then_only_what_a_phone_can_press_can_be_entered() -> None:
    assert can_be_entered("0123456789*abcd0")
    for pin in ("1" * 17, "12#4", "ABCD", "12 4", "e", "\u0661"):
        assert not can_be_entered(pin)
