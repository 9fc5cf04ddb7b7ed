"""The index gives exactly the plain matcher's answers."""

from dataclasses import fields
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.dispatch.directory import Directory, UnknownTrunks
from bridge.dispatch.evaluate import PlainMatcher
from bridge.dispatch.index import Index
from bridge.dispatch.outcome import Dispatcher, VerdictKind
from bridge.model.caller import Caller
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import CalleeRule, DirectRule, DispatchRule, IndividualRule, Rule
from bridge.model.trunk import InboundTrunk

# Few values, so that collisions, contradictions and several spellings of one number are common.
numbers = st.sampled_from(["1", "+1", "2", "(2)", "alice", ""])
listed = st.lists(st.sampled_from(["1", "+1", "2", "3", "alice"]), max_size=3).map(tuple)
addresses = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.0/24", "*.bad", "host"]), max_size=2).map(tuple)
pins = st.sampled_from(["", "", "1", "2"])
ids = st.sampled_from(["ST_a", "ST_b", "ST_c"])
names = st.sampled_from(["x", "y"])


@st.composite
def rules(draw: st.DrawFn) -> DispatchRule:
    pin = draw(pins)
    kind = draw(
        st.sampled_from(
            [
                Rule(dispatch_rule_direct=DirectRule(room_name=draw(names), pin=pin)),
                Rule(dispatch_rule_individual=IndividualRule(room_prefix=draw(names), pin=pin)),
                Rule(dispatch_rule_callee=CalleeRule(room_prefix=draw(names), pin=pin, randomize=True)),
                Rule(dispatch_rule_direct=DirectRule(room_name=draw(names), pin=pin)),
                Rule(),
            ]
            if draw(st.integers(0, 9)) == 0
            else [Rule(dispatch_rule_direct=DirectRule(room_name=draw(names), pin=pin))]
        )
    )
    return DispatchRule(
        sip_dispatch_rule_id=f"SDR_{draw(st.integers(0, 99)):02}",
        rule=kind,
        trunk_ids=tuple(draw(st.lists(ids, max_size=2))),
        inbound_numbers=draw(listed) if draw(st.booleans()) else (),
        numbers=draw(listed) if draw(st.booleans()) else (),
        hide_phone_number=draw(st.booleans()),
    )


@st.composite
def trunks(draw: st.DrawFn, trunk_id: str) -> InboundTrunk:
    return InboundTrunk(
        sip_trunk_id=trunk_id,
        numbers=draw(listed),
        allowed_numbers=draw(listed) if draw(st.booleans()) else (),
        allowed_addresses=draw(addresses),
        auth_username=draw(st.sampled_from(["", "", "u"])),
        auth_password="p",
    )


@st.composite
def directories(draw: st.DrawFn) -> Directory:
    return Directory(
        trunks=tuple(draw(trunks(trunk_id)) for trunk_id in draw(st.permutations(["ST_a", "ST_b", "ST_c"]))[: draw(st.integers(0, 3))]),
        rules=tuple(draw(st.lists(rules(), max_size=6, unique_by=lambda rule: rule.sip_dispatch_rule_id))),
        phone_numbers=tuple(
            PhoneNumber(e164_format=number, sip_dispatch_rule_id=draw(st.sampled_from(["", "SDR_01", "SDR_02"])))
            for number in draw(st.lists(st.sampled_from(["+1", "+2", "3"]), max_size=2))
        ),
        unknown_trunks=draw(st.sampled_from(UnknownTrunks)),
    )


callers = st.builds(
    Caller,
    number=numbers,
    called=numbers,
    host=st.sampled_from(["", "host"]),
    source_address=st.sampled_from(["", "10.0.0.1", "10.0.0.9", "192.0.2.1"]),
    trunk_id=st.sampled_from(["", "ST_a", "ST_b"]),
)


def _but_the_trace(outcome: Any) -> dict[str, Any]:
    return {field.name: getattr(outcome, field.name) for field in fields(outcome) if field.name != "trace"}


def _answers(dispatcher: Dispatcher, caller: Caller, pin: str | None, no_pin: bool) -> list[Any]:
    verdict = dispatcher.authorise(caller)
    found: list[Any] = [_but_the_trace(verdict)]
    if verdict.kind is not VerdictKind.REFUSED:
        decision = dispatcher.dispatch(caller, verdict, call_id="SCL_1", room_suffix=lambda: "suffix", pin=pin, no_pin=no_pin)
        found += [type(decision).__name__, _but_the_trace(decision)]
    return found


@settings(max_examples=300, deadline=None)
@given(directories(), st.lists(callers, min_size=1, max_size=4), st.sampled_from([None, "", "1", "2", "9"]), st.booleans())
def test_given_any_directory_when_a_call_comes_then_the_index_answers_as_the_plain_matcher(
    directory: Directory, calls: list[Caller], pin: str | None, no_pin: bool
) -> None:
    plain, index = PlainMatcher(directory), Index(directory, b"key")
    for caller in calls:
        assert _answers(index, caller, pin, no_pin) == _answers(plain, caller, pin, no_pin)
