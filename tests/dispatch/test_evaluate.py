"""Verdicts and decisions of the plain matcher (livekit-sip-semantics.md §2.2–2.6), also for hostile callers."""

from datetime import timedelta
from typing import Any

import pytest

from bridge.dispatch.directory import Directory, UnknownTrunks
from bridge.dispatch.evaluate import PlainMatcher, decide, masked, merged_media
from bridge.dispatch.explain import explain
from bridge.dispatch.index import Index
from bridge.dispatch.outcome import Accept, AskPin, Decision, Refuse, VerdictKind
from bridge.dispatch.rules import Ask
from bridge.dispatch.trace import SHOWN_CHARACTERS, Mismatch, Trace, shown
from bridge.model.caller import Caller
from bridge.model.media import MediaConfig
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import CalleeRule, DirectRule, DispatchRule, IndividualRule, Rule
from bridge.model.trunk import InboundTrunk

PIN = "73519"
HOSTILE = ["", "a\r\nX-Forged: 1", "\x00", "😀" * 300, "9" * 65_536, "\ud83d", "%0A", "../../etc", '"><script>']


def _direct(rule_id: str, room: str = "lobby", pin: str = "", **values: Any) -> DispatchRule:
    return DispatchRule(sip_dispatch_rule_id=rule_id, rule=Rule(dispatch_rule_direct=DirectRule(room_name=room, pin=pin)), **values)


def _decide(directory: Directory, caller: Caller, pin: str | None = None, *, no_pin: bool = False) -> Decision:
    matcher = PlainMatcher(directory)
    return matcher.dispatch(caller, matcher.authorise(caller), call_id="SCL_1", room_suffix=lambda: "abc", pin=pin, no_pin=no_pin)


@pytest.mark.parametrize("text", HOSTILE)
def test_given_a_hostile_caller_when_decided_then_the_answer_holds_the_text_whole_and_the_reasons_show_it_tamed(text: str) -> None:
    hidden = DispatchRule(sip_dispatch_rule_id="SDR_h", rule=Rule(dispatch_rule_individual=IndividualRule()), hide_phone_number=True)
    for rule in (_direct("SDR_a"), hidden):
        accept = _decide(Directory(rules=(rule,)), Caller(text, text, host=text, source_address=text))
        assert isinstance(accept, Accept)
        assert accept.attributes.get("sip.phoneNumber", text) == text
    strict = Directory(rules=(_direct("SDR_a", numbers=("1",)),), unknown_trunks=UnknownTrunks.REJECT)
    for reason in (
        PlainMatcher(strict).authorise(Caller(text, text)).reason,
        str(_decide(Directory(rules=strict.rules), Caller(text, text)).trace.to_json()),
        explain(Directory(rules=strict.rules), Caller("1", "2"), room_suffix=lambda: "abc").to_text(),
    ):
        assert len(reason) < 1000
        assert "\r" not in reason
        assert "\x00" not in reason


def test_given_a_text_when_it_is_shown_then_it_is_short_and_in_one_line() -> None:
    assert shown("+15550100") == "+15550100"
    assert shown("a\r\nb\x00\u202e") == "a\ufffd\ufffdb\ufffd\ufffd"
    assert len(shown("9" * 65_536)) == SHOWN_CHARACTERS + 1
    mismatch = Mismatch("numbers", "9" * 65_536, tuple(str(number) for number in range(1000)))
    assert len(str(mismatch)) < 200
    assert len(str(mismatch.to_json())) < 300


@pytest.mark.parametrize(("number", "end"), [("+15550100", "0100"), ("12345", "2345"), ("1234", "4"), ("1", "1"), ("", "")])
def test_given_a_hidden_number_when_shown_then_only_its_end_is(number: str, end: str) -> None:
    assert masked(number) == end


def test_given_a_hidden_number_when_accepted_then_no_attribute_tells_it() -> None:
    rule = DispatchRule(
        sip_dispatch_rule_id="SDR_a", rule=Rule(dispatch_rule_individual=IndividualRule(room_prefix="call")), hide_phone_number=True
    )
    accept = _decide(Directory(rules=(rule,)), Caller("+15550123", "+1800", host="h"))
    assert isinstance(accept, Accept)
    assert (accept.name, accept.room_name) == ("Phone 0123", "call_0123_abc")
    assert "15550123" not in repr(accept)


@pytest.mark.parametrize(
    ("kind", "room"),
    [
        (Rule(dispatch_rule_direct=DirectRule()), ""),
        (Rule(dispatch_rule_individual=IndividualRule()), "from_abc"),
        (Rule(dispatch_rule_individual=IndividualRule(room_prefix="p", no_randomness=True)), "p_from"),
        (Rule(dispatch_rule_callee=CalleeRule()), "to"),
        (Rule(dispatch_rule_callee=CalleeRule(room_prefix="p", randomize=True)), "p_to_abc"),
    ],
)
def test_given_a_kind_of_rule_when_accepted_then_the_room_is_named_by_it(kind: Rule, room: str) -> None:
    accept = _decide(Directory(rules=(DispatchRule(sip_dispatch_rule_id="SDR_a", rule=kind),)), Caller("from", "to"))
    assert isinstance(accept, Accept)
    assert accept.room_name == room


def test_given_a_pin_rule_when_asked_then_each_step_of_the_dialogue_has_its_answer() -> None:
    directory = Directory(rules=(_direct("SDR_a", pin=PIN), _direct("SDR_b", "open")))
    caller = Caller("1", "2")
    asked = _decide(directory, caller)
    assert isinstance(asked, AskPin)
    assert asked.rule_id == "SDR_a"
    right, none, wrong = _decide(directory, caller, PIN), _decide(directory, caller, no_pin=True), _decide(directory, caller, "0000")
    assert isinstance(right, Accept)
    assert right.room_name == "lobby"
    assert isinstance(none, Accept)
    assert none.room_name == "open"
    assert isinstance(wrong, Refuse)
    assert wrong.status == 404
    for answer in (asked, right, none, wrong):
        assert PIN not in f"{answer!r} {answer.trace.to_text()} {answer.trace.to_json()}"
    assert PIN not in repr(Ask("1", "2", "", PIN))


def test_given_a_wrong_pin_that_was_not_matched_before_when_decided_then_it_is_refused() -> None:
    decision = decide(None, _direct("SDR_a", pin=PIN), Caller("1", "2"), Ask("1", "2", "", "0"), "SCL_1", lambda: "", Trace(""))
    assert isinstance(decision, Refuse)
    assert decision.status == 403


def test_given_a_rule_for_a_trunk_when_it_matches_then_it_beats_a_better_one_for_any() -> None:
    trunk = InboundTrunk(sip_trunk_id="ST_a", numbers=("2",))
    rules = (_direct("SDR_a", "any", PIN, numbers=("2",), inbound_numbers=("1",)), _direct("SDR_b", "own", trunk_ids=("ST_a",)))
    accept = _decide(Directory(trunks=(trunk,), rules=rules), Caller("1", "2"))
    assert isinstance(accept, Accept)
    assert accept.room_name == "own"


def test_given_credentials_when_the_caller_is_not_authenticated_as_the_trunk_then_403() -> None:
    trunk = InboundTrunk(sip_trunk_id="ST_a", numbers=("2",), auth_username="u", auth_password=PIN)
    matcher = PlainMatcher(Directory(trunks=(trunk,)))
    for claimed in ("", "ST_b"):
        verdict = matcher.authorise(Caller("1", "2", trunk_id=claimed))
        assert (verdict.kind, verdict.status) == (VerdictKind.REFUSED, 403)
        assert PIN not in f"{verdict!r}"
    assert matcher.authorise(Caller("1", "2", trunk_id="ST_a")).kind is VerdictKind.TRUNK


def test_given_a_number_of_our_own_when_it_has_a_rule_then_only_that_one_is_asked() -> None:
    numbers = (PhoneNumber(e164_format="+2", sip_dispatch_rule_id="SDR_b"), PhoneNumber(e164_format="+3"))
    directory = Directory(rules=(_direct("SDR_a", "first"), _direct("SDR_b", "second", "7")), phone_numbers=numbers)
    assert isinstance(_decide(directory, Caller("1", "2")), AskPin)
    assert isinstance(_decide(directory, Caller("1", "2"), no_pin=True), Refuse)
    other = _decide(directory, Caller("1", "3"), no_pin=True)
    assert isinstance(other, Accept)
    assert other.room_name == "first"


def test_given_a_number_of_our_own_that_is_a_trunk_s_too_then_the_trunk_s_password_stands() -> None:
    trunk = InboundTrunk(sip_trunk_id="ST_a", numbers=("(2)",), auth_username="u", auth_password=PIN)
    numbers = (PhoneNumber(e164_format="+2"), PhoneNumber(e164_format="+3"))
    directory = Directory(trunks=(trunk,), rules=(_direct("SDR_a"),), phone_numbers=numbers)
    for dispatcher in (PlainMatcher(directory), Index(directory)):
        assert dispatcher.authorise(Caller("1", "+2")).status == 403
        assert dispatcher.authorise(Caller("1", "+2", trunk_id="ST_a")).kind is VerdictKind.TRUNK
        assert dispatcher.authorise(Caller("1", "+3")).kind is VerdictKind.PHONE_NUMBER


def test_given_timeouts_of_a_trunk_when_accepted_then_defaults_and_bounds_hold() -> None:
    for ringing, longest, expected in (
        (None, None, (timedelta(minutes=3), timedelta(hours=24))),
        (timedelta(), timedelta(seconds=-1), (timedelta(minutes=3), timedelta(hours=24))),
        (timedelta(seconds=9), timedelta(hours=48), (timedelta(seconds=9), timedelta(hours=24))),
    ):
        trunk = InboundTrunk(sip_trunk_id="ST_a", numbers=("2",), ringing_timeout=ringing, max_call_duration=longest)
        accept = _decide(Directory(trunks=(trunk,), rules=(_direct("SDR_a"),)), Caller("1", "2"))
        assert isinstance(accept, Accept)
        assert (accept.ringing_timeout, accept.max_call_duration) == expected


def test_given_no_trunk_when_media_are_merged_then_the_rule_s_are_taken_as_they_are() -> None:
    media = MediaConfig(only_listed_codecs=True)
    assert merged_media(None, _direct("SDR_a", media=media)) == media
    assert merged_media(InboundTrunk(), _direct("SDR_a", media=media)) == MediaConfig()


def test_given_a_call_when_explained_then_every_trunk_and_rule_is_told_of_in_order_of_priority_and_no_pin_is() -> None:
    trunks = (InboundTrunk(sip_trunk_id="ST_wild"), InboundTrunk(sip_trunk_id="ST_z", numbers=("2",), allowed_numbers=("8",)))
    rules = (
        _direct("SDR_any"),
        _direct("SDR_pin", pin=PIN, trunk_ids=("ST_wild",)),
        _direct("SDR_other", trunk_ids=("ST_z",), numbers=("2",)),
    )
    told = explain(Directory(trunks=trunks, rules=rules), Caller("1", "2"), room_suffix=lambda: "abc", pin="0000")
    assert [(candidate.id, candidate.outcome) for candidate in told.trunks] == [("ST_z", "failed"), ("ST_wild", "chosen")]
    assert [candidate.id for candidate in told.rules] == ["SDR_other", "SDR_pin", "SDR_any"]
    assert [candidate.mismatch.field for candidate in told.rules if candidate.mismatch] == ["pin", "pin", "pin"]
    for text in (told.to_text(), str(told.to_json())):
        assert PIN not in text
        assert "0000" not in text
