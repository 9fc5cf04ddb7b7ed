"""What is refused beyond the conformance vectors (livekit-sip-semantics.md §1.1–1.9)."""

from collections.abc import Callable
from typing import Any

import pytest

from bridge.model.media import MediaConfig
from bridge.model.rule import DispatchRule, NewDispatchRule, Rule
from bridge.model.trunk import InboundTrunk, LegacyTrunk, OutboundTrunk
from bridge.model.update import InboundTrunkUpdate, OutboundTrunkUpdate, RuleUpdate
from bridge.model.validation import (
    InvalidObject,
    check_inbound_change,
    check_inbound_trunk,
    check_legacy_trunk,
    check_media,
    check_new_inbound_trunk,
    check_new_outbound_trunk,
    check_new_rule,
    check_outbound_change,
    check_outbound_trunk,
    check_rule,
    check_rule_change,
)


@pytest.mark.parametrize("timeout", ["0s", "600s", "0.000000001s"])
def test_given_a_media_timeout_within_bounds_when_checked_then_it_is_good(timeout: str) -> None:
    check_media(MediaConfig.model_validate({"media_timeout": timeout}))


@pytest.mark.parametrize("timeout", ["600.000000001s", "601s", "-0.000000001s", "-1s"])
def test_given_a_media_timeout_over_its_bounds_by_a_hair_when_checked_then_it_is_refused(timeout: str) -> None:
    with pytest.raises(InvalidObject):
        check_media(MediaConfig.model_validate({"media_timeout": timeout}))


@pytest.mark.parametrize(
    ("name", "good"), [("PCMU", True), ("no-such-codec", True), ("a\x0bb", True), ("", False), ("a/b", False), ("a\tb", False)]
)
def test_given_a_codec_when_checked_then_only_its_name_s_form_counts(name: str, good: bool) -> None:
    media = MediaConfig.model_validate({"codecs": [{"name": "G722"}, {"name": name}]})
    if good:
        check_media(media)
    else:
        with pytest.raises(InvalidObject):
            check_media(media)


@pytest.mark.parametrize("fields", [{"auth_username": "u"}, {"auth_password": "p"}, {"allowed_addresses": ("",)}, {"numbers": ("",)}])
def test_given_anything_that_limits_who_may_call_when_checked_then_a_trunk_is_good(fields: dict[str, Any]) -> None:
    assert check_inbound_trunk(InboundTrunk(**fields)) == ()


@pytest.mark.parametrize("fields", [{}, {"allowed_numbers": ("1",)}, {"auth_realm": "r"}, {"name": "n"}])
def test_given_nothing_that_limits_who_may_call_when_checked_then_a_trunk_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidObject, match="security"):
        check_inbound_trunk(InboundTrunk(**fields))


@pytest.mark.parametrize(
    "maps",
    [
        {"headers": {"From": "x"}},
        {"headers": {"X": "a\r\nb"}},
        {"attributes_to_headers": {"a": "X Y"}},
        {"headers_to_attributes": {"": "a"}},
    ],
)
def test_given_a_header_that_cannot_be_when_checked_then_trunks_are_refused(maps: dict[str, Any]) -> None:
    with pytest.raises(InvalidObject):
        check_inbound_trunk(InboundTrunk(numbers=("1",), **maps))
    with pytest.raises(InvalidObject):
        check_outbound_trunk(OutboundTrunk(numbers=("1",), address="h", **maps))


def test_given_attribute_maps_with_headers_of_the_stack_when_checked_then_they_are_good() -> None:
    assert (
        check_inbound_trunk(InboundTrunk(numbers=("1",), headers_to_attributes={"Call-ID": "c"}, attributes_to_headers={"a": "From"})) == ()
    )


@pytest.mark.parametrize("host", ["h;transport=tcp", "transport=", "a@b", "a;b", "sip:h", "sips:h"])
def test_given_a_uri_in_place_of_a_host_when_checked_then_an_outbound_trunk_is_refused(host: str) -> None:
    for fields in ({"address": host}, {"address": "h", "from_host": host}):
        with pytest.raises(InvalidObject):
            check_outbound_trunk(OutboundTrunk(numbers=("1",), **fields))


def test_given_new_objects_when_they_bring_an_id_or_are_missing_then_they_are_refused() -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: check_new_inbound_trunk(None),
        lambda: check_new_inbound_trunk(InboundTrunk(sip_trunk_id="ST_a", numbers=("1",))),
        lambda: check_new_outbound_trunk(None),
        lambda: check_new_outbound_trunk(OutboundTrunk(sip_trunk_id="ST_a", numbers=("1",), address="h")),
        lambda: check_new_rule(NewDispatchRule()),
        lambda: check_new_rule(NewDispatchRule(dispatch_rule=DispatchRule(sip_dispatch_rule_id="SDR_a", rule=Rule()))),
        lambda: check_new_rule(NewDispatchRule(dispatch_rule=DispatchRule(), rule=Rule())),
        lambda: check_rule(DispatchRule()),
        lambda: check_legacy_trunk(LegacyTrunk(inbound_numbers_regex=(".*",))),
    )
    for call in calls:
        with pytest.raises(InvalidObject):
            call()


def test_given_the_deprecated_form_of_a_new_rule_when_checked_then_its_parts_make_the_rule() -> None:
    request = NewDispatchRule.model_validate({"rule": {"dispatch_rule_direct": {"room_name": "r"}}, "trunkIds": ["T"], "roomPreset": "p"})
    assert check_new_rule(request) == ()
    assert request.as_rule() == DispatchRule.model_validate(
        {"rule": {"dispatch_rule_direct": {"room_name": "r"}}, "trunk_ids": ["T"], "room_preset": "p"}
    )


def test_given_a_change_when_it_names_no_object_or_no_action_or_another_object_then_it_is_refused() -> None:
    inbound, outbound, rule = InboundTrunk(numbers=("1",)), OutboundTrunk(numbers=("1",), address="h"), DispatchRule(rule=Rule())
    calls: tuple[Callable[[], object], ...] = (
        lambda: check_inbound_change("", inbound, None),
        lambda: check_inbound_change("ST_a", None, None),
        lambda: check_inbound_change("ST_a", inbound.model_copy(update={"sip_trunk_id": "ST_b"}), None),
        lambda: check_inbound_change("ST_a", InboundTrunk(), None),
        lambda: check_outbound_change("", outbound, None),
        lambda: check_outbound_change("ST_a", OutboundTrunk(), None),
        lambda: check_rule_change("", rule, None),
        lambda: check_rule_change("SDR_a", rule.model_copy(update={"sip_dispatch_rule_id": "SDR_b"}), None),
        lambda: check_rule_change("SDR_a", DispatchRule(), None),
        lambda: check_rule_change("SDR_a", None, RuleUpdate.model_validate({"trunk_ids": {"add": [""]}})),
    )
    for call in calls:
        with pytest.raises(InvalidObject):
            call()


def test_given_an_update_when_checked_by_itself_then_its_result_is_not_looked_at_yet() -> None:
    assert check_outbound_change("ST_a", None, OutboundTrunkUpdate(address="sip:a@b", from_host="sip:c")) == ()
    assert check_inbound_change("ST_a", None, InboundTrunkUpdate.model_validate({"numbers": {"clear": True}})) == ()
    assert check_inbound_change("ST_a", InboundTrunk(sip_trunk_id="ST_a", numbers=("1",)), None) == ()
    assert check_rule_change("SDR_a", None, RuleUpdate()) == ()
