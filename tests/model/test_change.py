"""Objects replaced and updated (livekit-sip-semantics.md §1.9)."""

from typing import Any

import pytest

from bridge.model.change import (
    replaced_inbound_trunk,
    replaced_outbound_trunk,
    replaced_rule,
    updated_inbound_trunk,
    updated_outbound_trunk,
    updated_rule,
)
from bridge.model.media import MediaConfig, MediaEncryption
from bridge.model.rule import DirectRule, DispatchRule, IndividualRule, Rule
from bridge.model.trunk import InboundTrunk, OutboundTrunk
from bridge.model.update import InboundTrunkUpdate, OutboundTrunkUpdate, RuleUpdate
from bridge.model.validation import InvalidObject

DISABLE, ALLOW, REQUIRE = MediaEncryption
TRUNK = InboundTrunk(
    sip_trunk_id="ST_a", numbers=("1", "2"), allowed_numbers=("9",), name="old", auth_username="u", auth_password="p", krisp_enabled=True
)
OUTBOUND = OutboundTrunk(sip_trunk_id="ST_o", address="sip.example.com", numbers=("1",))
RULE = DispatchRule(
    sip_dispatch_rule_id="SDR_a",
    rule=Rule(dispatch_rule_direct=DirectRule(room_name="lobby", pin="1234")),
    trunk_ids=("ST_a",),
    numbers=("1",),
    attributes={"a": "1", "b": "2", "empty": ""},
)


def test_given_a_replacement_without_an_id_when_it_replaces_then_the_id_stays_and_nothing_else() -> None:
    assert replaced_inbound_trunk(TRUNK, InboundTrunk(numbers=("3",))) == InboundTrunk(sip_trunk_id="ST_a", numbers=("3",))
    assert replaced_outbound_trunk(OUTBOUND, OutboundTrunk(address="h", numbers=("3",))).sip_trunk_id == "ST_o"
    assert replaced_rule(RULE, DispatchRule(rule=Rule())) == DispatchRule(sip_dispatch_rule_id="SDR_a", rule=Rule())


def test_given_a_replacement_that_could_not_be_created_when_it_replaces_then_it_is_refused() -> None:
    with pytest.raises(InvalidObject):
        replaced_inbound_trunk(TRUNK, InboundTrunk(name="open to everybody"))
    with pytest.raises(InvalidObject):
        replaced_outbound_trunk(OUTBOUND, OutboundTrunk(address="sip:h", numbers=("3",)))
    with pytest.raises(InvalidObject):
        replaced_rule(RULE, DispatchRule(name="no rule"))


def test_given_an_update_when_it_is_applied_then_only_what_it_names_changes() -> None:
    update = InboundTrunkUpdate.model_validate({"numbers": {"remove": ["1"], "add": ["3", "2"]}, "name": "", "auth_realm": "r"})
    assert updated_inbound_trunk(TRUNK, update) == TRUNK.model_copy(
        update={"numbers": ("2", "3"), "name": "", "auth_realm": "r", "media": MediaConfig()}
    )


def test_given_a_rule_update_when_it_is_applied_then_the_rule_is_replaced_and_attributes_are_merged() -> None:
    kind = Rule(dispatch_rule_individual=IndividualRule(room_prefix="x"))
    changed = updated_rule(RULE, RuleUpdate(rule=kind, attributes={"a": "", "c": "3", "missing": ""}))
    assert changed.rule == kind
    assert changed.attributes == {"b": "2", "empty": "", "c": "3"}
    assert changed.numbers == RULE.numbers


@pytest.mark.parametrize(
    ("stored", "update", "result"),
    [
        ({}, {}, (None, DISABLE)),
        ({"media_encryption": ALLOW}, {}, (ALLOW, ALLOW)),
        ({"media_encryption": ALLOW}, {"media_encryption": REQUIRE}, (REQUIRE, REQUIRE)),
        ({"media_encryption": ALLOW}, {"media_encryption": DISABLE}, (None, DISABLE)),
        ({"media": {"encryption": ALLOW}}, {"media_encryption": REQUIRE}, (ALLOW, ALLOW)),
        ({"media": {"encryption": ALLOW}}, {"media_encryption": DISABLE}, (ALLOW, ALLOW)),
        ({"media_encryption": ALLOW}, {"media": {"media_timeout": "5s"}}, (ALLOW, ALLOW)),
        ({"media": {"encryption": ALLOW}}, {"media": {}}, (None, DISABLE)),
        ({}, {"media": {}, "media_encryption": REQUIRE}, (REQUIRE, REQUIRE)),
        ({}, {"media": {"encryption": DISABLE}, "media_encryption": REQUIRE}, (DISABLE, DISABLE)),
    ],
)
def test_given_the_old_and_the_new_encryption_field_when_updated_then_the_old_one_fills_and_follows_the_new_one(
    stored: dict[str, Any], update: dict[str, Any], result: tuple[MediaEncryption | None, MediaEncryption]
) -> None:
    changed = updated_inbound_trunk(InboundTrunk.model_validate({"numbers": ["1"], **stored}), InboundTrunkUpdate.model_validate(update))
    assert changed.media is not None
    assert (changed.media.encryption, changed.media_encryption) == result


@pytest.mark.parametrize(
    "update",
    [
        {"numbers": {}},
        {"numbers": {"set": []}},
        {"numbers": {"clear": True, "add": ["1"]}},
        {"numbers": {"set": ["1"], "remove": ["2"]}},
        {"allowed_numbers": {"add": [""]}},
        {"allowed_addresses": {"remove": ["1.2.3.4", ""]}},
        {"media": {"codecs": [{"name": "a b"}]}},
    ],
)
def test_given_an_update_that_is_wrong_by_itself_when_it_is_applied_then_it_is_refused(update: dict[str, Any]) -> None:
    with pytest.raises(InvalidObject):
        updated_inbound_trunk(TRUNK, InboundTrunkUpdate.model_validate(update))


def test_given_an_update_whose_result_is_wrong_when_it_is_applied_then_it_is_refused() -> None:
    bare = InboundTrunk(sip_trunk_id="ST_b", numbers=("1",))
    with pytest.raises(InvalidObject):
        updated_inbound_trunk(bare, InboundTrunkUpdate.model_validate({"numbers": {"clear": True}}))
    for update in ({"numbers": {"clear": True}}, {"address": ""}, {"address": "a@b"}, {"from_host": "sips:x"}):
        with pytest.raises(InvalidObject):
            updated_outbound_trunk(OUTBOUND, OutboundTrunkUpdate.model_validate(update))
