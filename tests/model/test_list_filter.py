"""The documented list filters beyond the conformance vectors (livekit-sip-semantics.md §1.10)."""

from bridge.model.list_filter import filter_inbound, filter_outbound, filter_rules
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, OutboundTrunk

ANY, ONE, TWO = (
    InboundTrunk(sip_trunk_id="ANY"),
    InboundTrunk(sip_trunk_id="ONE", numbers=("+1",)),
    InboundTrunk(sip_trunk_id="TWO", numbers=("+2",)),
)


def test_given_ids_when_filtered_then_their_order_counts_and_missing_ones_are_none() -> None:
    assert filter_inbound([ANY, ONE, TWO], ["TWO", "NO", "ANY", "TWO"], []) == [TWO, None, ANY, TWO]


def test_given_ids_and_numbers_when_filtered_then_what_does_not_fit_is_left_out_but_the_missing_stay_none() -> None:
    assert filter_inbound([ANY, ONE, TWO], ["TWO", "NO", "ANY", "ONE"], ["1"]) == [None, ANY, ONE]


def test_given_numbers_in_another_writing_when_filtered_then_inbound_trunks_are_found_and_outbound_ones_not() -> None:
    assert filter_inbound([ANY, ONE, TWO], [], ["(1)"]) == [ANY, ONE]
    outbound = [OutboundTrunk(sip_trunk_id="ANY"), OutboundTrunk(sip_trunk_id="ONE", numbers=("+1",))]
    assert filter_outbound(outbound, [], ["1"]) == outbound[:1]
    assert filter_outbound(outbound, [], ["+1"]) == outbound


def test_given_an_id_twice_when_filtered_by_it_then_the_first_is_given() -> None:
    first, second = ONE, ONE.model_copy(update={"name": "second"})
    assert filter_inbound([first, second], ["ONE"], []) == [first]
    assert filter_inbound([first, second], [], []) == [first, second]


def test_given_gaps_when_filtered_then_they_are_kept() -> None:
    assert filter_inbound([None, TWO], [], ["1"]) == [None]
    assert filter_inbound([None, TWO], ["TWO"], []) == [TWO]


def test_given_trunks_when_rules_are_filtered_then_rules_for_any_trunk_stay() -> None:
    wide, narrow = DispatchRule(sip_dispatch_rule_id="W"), DispatchRule(sip_dispatch_rule_id="N", trunk_ids=("T", "U"))
    assert filter_rules([wide, narrow], [], ["X"]) == [wide]
    assert filter_rules([wide, narrow], [], ["U"]) == [wide, narrow]
    assert filter_rules([wide, narrow], ["N", "W"], ["X"]) == [wide]
