"""Contradictions (livekit-sip-semantics.md §2.3, §2.5), and what an operator is told of them."""

from typing import Any

import pytest

from bridge.dispatch.conflicts import Conflict, Severity, check_rules, check_trunks, problems
from bridge.dispatch.directory import Directory
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import DirectRule, DispatchRule, Rule
from bridge.model.trunk import InboundTrunk

PIN = "73519"


def _rule(rule_id: str, pin: str = "", **values: Any) -> DispatchRule:
    return DispatchRule(sip_dispatch_rule_id=rule_id, rule=Rule(dispatch_rule_direct=DirectRule(room_name="r", pin=pin)), **values)


@pytest.mark.parametrize(
    "rule",
    [
        _rule("SDR_a", trunk_ids=("T", "T")),
        _rule("SDR_a", numbers=("+1", "1")),
        _rule("SDR_a", inbound_numbers=("x", "x")),
        DispatchRule(sip_dispatch_rule_id="SDR_a", rule=Rule()),
        DispatchRule(sip_dispatch_rule_id="SDR_a"),
    ],
)
def test_given_a_rule_that_contradicts_itself_when_checked_then_it_is_named_as_both(rule: DispatchRule) -> None:
    with pytest.raises(Conflict) as caught:
        check_rules([_rule("SDR_b", trunk_ids=("other",)), rule])
    assert (caught.value.first, caught.value.second) == ("SDR_a", "SDR_a")


def test_given_several_contradictions_when_checked_then_the_first_rule_is_named_with_the_first_before_it() -> None:
    rules = [
        _rule("SDR_1", PIN, trunk_ids=("T", "U"), numbers=("1",)),
        _rule("SDR_2", trunk_ids=("V",)),
        _rule("SDR_3", PIN, trunk_ids=("V", "U"), numbers=("2", "(1)")),
        _rule("SDR_4", trunk_ids=("V",)),
    ]
    with pytest.raises(Conflict) as caught:
        check_rules(rules)
    assert (caught.value.first, caught.value.second) == ("SDR_1", "SDR_3")
    assert "trunk U, caller any, called number +1, the same PIN" in str(caught.value)
    assert PIN not in str(caught.value)


def test_given_rules_that_differ_in_pin_or_selector_when_checked_then_they_live_together() -> None:
    check_rules(
        [
            _rule("SDR_1"),
            _rule("SDR_2", PIN),
            _rule("SDR_3", "1"),
            _rule("SDR_4", trunk_ids=("T",)),
            _rule("SDR_5", numbers=("1",)),
            _rule("SDR_6", inbound_numbers=("1",)),
        ]
    )


def test_given_a_rule_that_names_the_empty_trunk_when_checked_then_it_contradicts_one_for_any_trunk() -> None:
    with pytest.raises(Conflict):
        check_rules([_rule("SDR_1"), _rule("SDR_2", trunk_ids=("T", ""))])


def test_given_trunks_told_apart_by_address_only_when_checked_then_they_contradict() -> None:
    one = InboundTrunk(sip_trunk_id="A", numbers=("+1",), allowed_addresses=("10.0.0.1",))
    with pytest.raises(Conflict):
        check_trunks([one, InboundTrunk(sip_trunk_id="B", numbers=("1",), allowed_addresses=("10.0.0.2",))])
    check_trunks(
        [one, InboundTrunk(sip_trunk_id="A", numbers=("1",)), InboundTrunk(sip_trunk_id="C", numbers=("1",), allowed_numbers=("9",))]
    )


def test_given_a_set_with_everything_wrong_when_checked_then_each_place_is_named_and_no_pin_is() -> None:
    directory = Directory(
        trunks=(
            InboundTrunk(sip_trunk_id="ST_a", numbers=("+1",), auth_username="u"),
            InboundTrunk(sip_trunk_id="ST_b", numbers=("1",), allowed_addresses=("*.x",)),
            InboundTrunk(sip_trunk_id="ST_c", numbers=("2",), allowed_addresses=("*.x", "10.0.0.0/99")),
        ),
        rules=(
            _rule("SDR_0", PIN, trunk_ids=("ST_a",)),
            _rule("SDR_1", PIN, trunk_ids=("ST_a",)),
            _rule("SDR_2", PIN + "#", trunk_ids=("ST_a", "ST_gone", "")),
            _rule("SDR_3", numbers=("1", "+1")),
            DispatchRule(sip_dispatch_rule_id="SDR_4", rule=Rule()),
        ),
        phone_numbers=(
            PhoneNumber(e164_format="+1"),
            PhoneNumber(e164_format="+9", sip_dispatch_rule_id="SDR_gone"),
            PhoneNumber(e164_format="9", sip_dispatch_rule_id="SDR_0"),
        ),
    )
    found = problems(directory)
    assert [(problem.place, problem.severity is Severity.ERROR) for problem in found] == [
        ("trunks[0]", False),
        ("trunks[1]", True),
        ("trunks[1].allowed_addresses", True),
        ("trunks[2].allowed_addresses", False),
        ("trunks[2].allowed_addresses", True),
        ("dispatch_rules[1]", True),
        ("dispatch_rules[2].rule", True),
        ("dispatch_rules[2].trunk_ids", True),
        ("dispatch_rules[3]", True),
        ("dispatch_rules[4].rule", True),
        ("phone_numbers[0]", True),
        ("phone_numbers[2]", True),
        ("phone_numbers[2]", True),
        ("dispatch_rules[2].trunk_ids", False),
        ("phone_numbers[1]", True),
    ]
    assert problems(directory, complete=False) == found[:-2], "what is named and not there may be elsewhere"
    assert PIN not in repr(found)
    assert "dispatch_rules[0]" in found[5].text


def test_given_a_sound_set_when_checked_then_nothing_is_said() -> None:
    trunk = InboundTrunk(sip_trunk_id="ST_a", numbers=("+1",), allowed_addresses=("10.0.0.0/8", "2001:db8::/32", "sip.example.com"))
    assert problems(Directory(trunks=(trunk,), rules=(_rule("SDR_0", PIN, trunk_ids=("ST_a",)),))) == ()
