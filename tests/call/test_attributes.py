"""The participant's attributes: what comes from where, and who wins (livekit-sip-semantics.md §2.6, §3.8)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bridge.call.attributes import TOTAL_LIMIT, participant_attributes
from bridge.model.caller import Caller
from tests.call.stage import CALLER, accept


def test_given_one_name_from_every_source_then_the_later_wins() -> None:
    caller = replace(CALLER, headers={"X-Twilio-CallSid": "CA-header", "X-Mine": "mapped"})
    decision = accept(
        attributes={"sip.twilio.callSid": "rule", "sip.h.x-mine": "rule", "team": "rule", "sip.callTag": "rule", "kept": "rule"},
        include_headers=1,
        headers_to_attributes={"x-mine": "team", "X-MINE": "sip.twilio.callSid"},
    )
    found = participant_attributes(decision, caller, "ringing")
    assert found["kept"] == "rule"
    assert found["sip.h.x-mine"] == "mapped"
    assert found["team"] == "mapped"
    # The built-in header map is applied again after the trunk's.
    assert found["sip.twilio.callSid"] == "CA-header"
    assert found["sip.callTag"] == "tag-1"
    assert found["sip.callIDFull"] == "abc@example.net"
    assert found["sip.callStatus"] == "ringing"


@pytest.mark.parametrize(
    ("include", "names"),
    [(0, set()), (1, {"sip.h.x-one"}), (2, {"sip.h.x-one", "sip.h.from", "sip.h.subject"})],
)
def test_given_include_headers_then_those_headers_are_attributes(include: int, names: set[str]) -> None:
    caller = Caller("1", "2", headers={"X-One": "1", "From": "<sip:1@h>", "Subject": "hello"})
    found = participant_attributes(accept(attributes={}, include_headers=include), caller, "ringing")
    assert {name for name in found if name.startswith("sip.h.")} == names


def test_given_a_header_twice_then_the_last_is_included_and_the_first_is_mapped() -> None:
    caller = Caller("1", "2", headers={"X-One": "first", "x-one": "last"})
    found = participant_attributes(accept(include_headers=1, headers_to_attributes={"X-ONE": "one"}), caller, "ringing")
    assert (found["sip.h.x-one"], found["one"]) == ("last", "first")


def test_given_empty_values_then_they_are_dropped_and_so_is_the_id_of_no_trunk() -> None:
    """tests/real/test_livekit_seat.py shows that LiveKit takes an empty value for none."""
    found = participant_attributes(accept(attributes={"sip.trunkID": "", "empty": ""}), Caller("1", "2"), "active")
    assert found == {"sip.callStatus": "active"}


PROVIDERS = {
    "X-Twilio-AccountSid": "sip.twilio.accountSid",
    "X-Twilio-CallSid": "sip.twilio.callSid",
    "X-call_leg_id": "sip.telnyx.callLegID",
    "X-call_session_id": "sip.telnyx.callSessionID",
    "X-Amzn-ConnectContactId": "sip.amazon.contactId",
    "X-Amzn-ConnectInitialContactId": "sip.amazon.initialContactId",
    "X-Amzn-SourceAccount": "sip.amazon.sourceAccount",
    "X-Amzn-SourceArn": "sip.amazon.sourceArn",
    "X-Amzn-TargetArn": "sip.amazon.targetArn",
    "X-Lk-Test-Id": "lktest.id",
}
"""Headers that providers send, and the attributes they are (§3.8)."""


@pytest.mark.parametrize("spelt", [str, str.lower, str.upper])
def test_given_the_headers_of_providers_then_each_is_its_attribute_however_it_is_spelt(spelt: Callable[[str], str]) -> None:
    caller = Caller("1", "2", headers={spelt(header): f"value of {header}" for header in PROVIDERS} | {"X-Other": "none of them"})
    found = participant_attributes(accept(attributes={}), caller, "ringing")
    assert found == {attribute: f"value of {header}" for header, attribute in PROVIDERS.items()} | {"sip.callStatus": "ringing"}


def test_given_huge_and_hostile_headers_then_a_join_does_not_fail_of_them() -> None:
    caller = replace(CALLER, headers={f"X-{number}": "😀\r\n\0\ud800" * 9000 for number in range(5)} | {"X-Small": "1"})
    found = participant_attributes(accept(include_headers=2), caller, "ringing")
    size = sum(len(name) + len(value.encode(errors="replace")) for name, value in found.items())
    assert size <= TOTAL_LIMIT
    assert found["sip.h.x-small"] == "1"
    assert found["sip.callID"] == "SCL_1"
