"""What is told of one more trunk or rule is what going through all of them tells, however the set has come about."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dispatch.claims import RuleClaims, TrunkClaims
from bridge.dispatch.conflicts import Conflict, check_rules, check_trunks
from bridge.model.rule import DirectRule, DispatchRule, Rule
from bridge.model.trunk import InboundTrunk


def _rule(rule_id: str, pin: str = "", **values: Any) -> DispatchRule:
    return DispatchRule(sip_dispatch_rule_id=rule_id, rule=Rule(dispatch_rule_direct=DirectRule(room_name="r", pin=pin)), **values)


few = st.lists(st.sampled_from(["+1", "1", "2"]), max_size=2).map(tuple)
ids = st.sampled_from(["a", "b", "c", "d"])
rules = st.builds(_rule, ids, st.sampled_from(["", "7"]), trunk_ids=few, numbers=few, inbound_numbers=few)
trunks = st.builds(InboundTrunk, sip_trunk_id=ids, numbers=few, allowed_numbers=few)


def refuses_rule(claims: RuleClaims, there: Mapping[str, DispatchRule], rule: DispatchRule, among: tuple[str, ...] = ()) -> bool:
    try:
        claims.check(there, rule, rule.sip_dispatch_rule_id, among)
    except Conflict:
        return True
    return False


@given(st.lists(st.tuples(st.sampled_from(["put", "drop"]), rules), max_size=12))
def test_given_any_changes_then_one_more_rule_is_refused_when_all_together_contradict(steps: list[tuple[str, DispatchRule]]) -> None:
    claims, there = RuleClaims(), dict[str, DispatchRule]()
    for what, rule in steps:
        others = [other for other_id, other in there.items() if other_id != rule.sip_dispatch_rule_id]
        try:
            check_rules((*others, rule))
            expected = False
        except Conflict:
            expected = True
        assert refuses_rule(claims, there, rule) is expected
        # Contradictions come to stand in a store all the same: LiveKit lets some through.
        there = dict(there)
        if what == "put":
            there[rule.sip_dispatch_rule_id] = rule
        else:
            there.pop(rule.sip_dispatch_rule_id, None)


@given(st.lists(st.tuples(st.sampled_from(["put", "drop"]), trunks), max_size=12))
def test_given_any_changes_then_one_more_trunk_is_refused_when_those_near_it_contradict(steps: list[tuple[str, InboundTrunk]]) -> None:
    claims, there = TrunkClaims(), dict[str, InboundTrunk]()
    for what, trunk in steps:
        plain = {number.removeprefix("+") for number in trunk.numbers}
        near = [
            other
            for other_id, other in there.items()
            if other_id != trunk.sip_trunk_id
            and (not plain or not other.numbers or plain & {number.removeprefix("+") for number in other.numbers})
        ]
        try:
            check_trunks((*near, trunk))
            expected = False
        except Conflict:
            expected = True
        try:
            claims.check(there, trunk, trunk.sip_trunk_id)
            refused = False
        except Conflict:
            refused = True
        assert refused is expected
        there = dict(there)
        if what == "put":
            there[trunk.sip_trunk_id] = trunk
        else:
            there.pop(trunk.sip_trunk_id, None)


def test_given_a_rule_in_the_way_then_both_are_named_and_a_new_one_as_such() -> None:
    claims = RuleClaims()
    there = {"SDR_a": _rule("SDR_a", "7", numbers=("+1",))}
    with pytest.raises(Conflict, match="SDR_a and <new> conflict"):
        claims.check(there, _rule("SDR_b", "7", numbers=("1",)), "")
    claims.check(there, _rule("SDR_a", "8", numbers=("1",)), "SDR_a")
    assert not refuses_rule(claims, there, _rule("SDR_b", "8", numbers=("1",)))


def test_given_trunks_that_a_request_names_then_only_rules_for_those_and_for_any_count() -> None:
    claims = RuleClaims()
    there = {"SDR_a": _rule("SDR_a", trunk_ids=("T",)), "SDR_b": _rule("SDR_b")}
    assert refuses_rule(claims, there, _rule("SDR_c", trunk_ids=("T",)))
    assert not refuses_rule(claims, there, _rule("SDR_c", trunk_ids=("T",)), among=("U",))
    assert refuses_rule(claims, there, _rule("SDR_c"), among=("U",))
