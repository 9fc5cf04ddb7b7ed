"""The index gives exactly the plain matcher's answers, and its trace tells the truth."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.dispatch.directory import Directory, UnknownTrunks
from bridge.dispatch.evaluate import PlainMatcher
from bridge.dispatch.index import Index
from bridge.dispatch.outcome import Accept, Dispatcher, Refuse, Verdict, VerdictKind
from bridge.dispatch.rule_set import NEAR
from bridge.dispatch.rules import Ask, rule_mismatch
from bridge.dispatch.trace import Candidate, Trace
from bridge.dispatch.trunks import trunk_mismatch
from bridge.model.caller import Caller
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import CalleeRule, DirectRule, DispatchRule, IndividualRule, Rule
from bridge.model.trunk import InboundTrunk

# Few values, so that collisions, contradictions and several spellings of one number are common.
numbers = st.sampled_from(["1", "+1", "2", "(2)", "alice", ""])
listed = st.lists(st.sampled_from(["1", "+1", "2", "3", "alice"]), max_size=3).map(tuple)
addresses = st.lists(
    st.sampled_from(["10.0.0.1", "10.0.0.0/24", "10.0.0.9/16", "0.0.0.0/0", "::/0", "fe80::/10", "*.bad", "host", "10.0.0.0/08"]),
    max_size=3,
).map(tuple)
pins = st.sampled_from(["", "", "1", "2"])
ids = st.sampled_from(["ST_a", "ST_a", "ST_b", "ST_b", "ST_c", ""])
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
        trunks=tuple(
            draw(trunks(trunk_id)) for trunk_id in draw(st.permutations(["ST_a", "ST_b", "ST_c", "ST_d"]))[: draw(st.integers(0, 4))]
        ),
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
    source_address=st.sampled_from(["", "10.0.0.1", "10.0.0.9", "192.0.2.1", "::ffff:10.0.0.1", "fe80::1%eth0", "fe80::1", "nonsense"]),
    trunk_id=st.sampled_from(["", "ST_a", "ST_b"]),
)


def _but_the_trace(outcome: Any) -> dict[str, Any]:
    return {name: value for name, value in outcome._asdict().items() if name != "trace"}


def _answers(dispatcher: Dispatcher, caller: Caller, pin: str | None, no_pin: bool) -> list[Any]:
    verdict = dispatcher.authorise(caller)
    found: list[Any] = [_but_the_trace(verdict)]
    if verdict.kind is not VerdictKind.REFUSED:
        decision = dispatcher.dispatch(caller, verdict, call_id="SCL_1", room_suffix=lambda: "suffix", pin=pin, no_pin=no_pin)
        found += [type(decision).__name__, _but_the_trace(decision)]
    return found


def _check_trunk(candidate: Candidate, directory: Directory, caller: Caller) -> None:
    trunk = next(trunk for trunk in directory.trunks if trunk.sip_trunk_id == candidate.id)
    mismatch = trunk_mismatch(trunk, caller)
    if candidate.mismatch is not None and candidate.mismatch.field == "credentials":
        assert mismatch is None
    else:
        assert candidate.mismatch == mismatch
        assert (candidate.outcome == "failed") is (mismatch is not None)


def _check_rule(candidate: Candidate, directory: Directory, ask: Ask) -> None:
    rule = next(rule for rule in directory.rules if rule.sip_dispatch_rule_id == candidate.id)
    mismatch = rule_mismatch(rule, ask)
    assert candidate.mismatch == mismatch
    assert (candidate.outcome == "failed") is (mismatch is not None)


@settings(max_examples=400, deadline=None)
@given(directories(), st.lists(callers, min_size=1, max_size=4), st.sampled_from([None, "", "1", "2", "9"]), st.booleans())
def test_given_any_directory_when_a_call_comes_then_the_index_answers_as_the_plain_matcher(
    directory: Directory, calls: list[Caller], pin: str | None, no_pin: bool
) -> None:
    plain, index = PlainMatcher(directory), Index(directory, b"key")
    for caller in calls:
        assert _answers(index, caller, pin, no_pin) == _answers(plain, caller, pin, no_pin)


@settings(max_examples=200, deadline=None)
@given(directories(), callers, st.sampled_from([None, "1", "9"]), st.booleans())
def test_given_any_directory_when_a_call_comes_then_each_line_of_the_index_s_trace_is_what_the_plain_matcher_says_of_it(
    directory: Directory, caller: Caller, pin: str | None, no_pin: bool
) -> None:
    index = Index(directory, b"key")
    verdict = index.authorise(caller)
    assert len({candidate.id for candidate in verdict.trace.candidates}) == len(verdict.trace.candidates) <= NEAR + 1
    for candidate in verdict.trace.candidates:
        _check_trunk(candidate, directory, caller)
    if verdict.kind is VerdictKind.REFUSED:
        return
    decision = index.dispatch(caller, verdict, call_id="SCL_1", room_suffix=lambda: "suffix", pin=pin, no_pin=no_pin)
    candidates = decision.trace.candidates
    assert len(candidates) <= NEAR + 1
    chosen = [candidate.id for candidate in candidates if candidate.outcome == "chosen"]
    if isinstance(decision, Refuse):
        assert chosen == []
        if decision.conflict:
            return
        plain = PlainMatcher(directory).dispatch(caller, verdict, call_id="SCL_1", room_suffix=lambda: "suffix", pin=pin, no_pin=no_pin)
        assert candidates or not plain.trace.candidates
    else:
        assert chosen == [decision.rule_id]
    ask = Ask(caller.number, caller.called, verdict.trunk.sip_trunk_id if verdict.trunk else "", pin, no_pin)
    for candidate in candidates:
        _check_rule(candidate, directory, ask)


changes = st.lists(st.one_of(rules(), st.integers(0, 99)), min_size=1, max_size=8)
"""Rules that are put, and numbers for those that go."""


@settings(max_examples=400, deadline=None)
@given(
    directories(),
    changes,
    st.lists(callers, min_size=1, max_size=3),
    st.data(),
)
def test_given_any_directory_when_rules_change_in_place_then_the_index_answers_as_the_plain_matcher(
    directory: Directory, made: list[DispatchRule | int], calls: list[Caller], data: st.DataObject
) -> None:
    index = Index(directory, b"key")
    now = {rule.sip_dispatch_rule_id: rule for rule in directory.rules}
    for change in made:
        if isinstance(change, int):
            gone = data.draw(st.sampled_from(sorted(now))) if now else f"SDR_{change:02}"
            now.pop(gone, None)
            changed = index.change_rules((), (gone,))
        else:
            now[change.sip_dispatch_rule_id] = change
            changed = index.change_rules((change,), ())
        directory = replace(directory, rules=tuple(now.values()))
        if not changed:
            index = Index(directory, b"key")
        plain = PlainMatcher(directory)
        for caller in calls:
            for pin, no_pin in ((None, False), ("1", False), (None, True)):
                assert _answers(index, caller, pin, no_pin) == _answers(plain, caller, pin, no_pin)
                _check_traces(index, plain, directory, caller, pin, no_pin)


def _check_traces(index: Index, plain: PlainMatcher, directory: Directory, caller: Caller, pin: str | None, no_pin: bool) -> None:
    """Nothing that is gone is told of, and what is told is true."""
    verdict = index.authorise(caller)
    if verdict.kind is VerdictKind.REFUSED:
        return
    decision = index.dispatch(caller, verdict, call_id="SCL_1", room_suffix=lambda: "suffix", pin=pin, no_pin=no_pin)
    if isinstance(decision, Refuse) and decision.conflict:
        return
    ask = Ask(caller.number, caller.called, verdict.trunk.sip_trunk_id if verdict.trunk else "", pin, no_pin)
    for candidate in decision.trace.candidates:
        _check_rule(candidate, directory, ask)
    of_plain = plain.dispatch(caller, verdict, call_id="SCL_1", room_suffix=lambda: "suffix", pin=pin, no_pin=no_pin)
    assert decision.trace.candidates or not of_plain.trace.candidates


def test_given_rules_that_do_not_contradict_when_any_is_put_or_removed_then_nothing_is_built_anew() -> None:
    """In every shape: few and many of a trunk, shared by trunks, for any trunk, with numbers, PINs, and those of a phone number."""
    first = [_rule(n, trunk_ids=("ST_a", "ST_b"), pin=str(n)) for n in range(SIZE)]
    first += [_rule(SIZE + n, trunk_ids=(f"ST_{n % 50}",), numbers=(str(n),)) for n in range(200)] + [_rule(9999)]
    directory = Directory(rules=tuple(first), phone_numbers=(PhoneNumber(e164_format="+7", sip_dispatch_rule_id="SDR_09999"),))
    index, now = Index(directory, b"key"), {rule.sip_dispatch_rule_id: rule for rule in first}
    changed = [_rule(n, trunk_ids=("ST_a", "ST_b"), pin=f"x{n}") for n in range(0, 200, 3)] + [
        _rule(50_000, trunk_ids=("ST_new",), inbound_numbers=("+1", "+2")),
        _rule(50_001, numbers=("+3",)),
        _rule(9999, pin="7"),
        _rule(5, trunk_ids=("ST_1", "ST_2"), pin="moved"),
    ]
    gone = [f"SDR_{n:05}" for n in (*range(0, 100, 7), SIZE, SIZE + 50, SIZE + 100, 4)]
    for rule in changed:
        assert index.change_rules((rule,), ())
        now[rule.sip_dispatch_rule_id] = rule
    for rule_id in gone:
        assert index.change_rules((), (rule_id,))
        now.pop(rule_id, None)
    plain = PlainMatcher(replace(directory, rules=tuple(now.values())))
    trunks = [InboundTrunk(sip_trunk_id=f"ST_{name}") for name in ("a", "b", "new", "0", "1", "2", "none")]
    verdicts = [Verdict(VerdictKind.TRUNK, Trace(""), trunk) for trunk in trunks]
    verdicts += [index.authorise(Caller("1", "+7")), Verdict(VerdictKind.NO_TRUNK, Trace(""))]
    for verdict in verdicts:
        for caller in (Caller("+1", "0"), Caller("+9", "+3"), Caller("", "50")):
            for pin in (None, "x3", "moved", "5", "7", "2999"):
                answers = [
                    _but_the_trace(each.dispatch(caller, verdict, call_id="c", room_suffix=lambda: "s", pin=pin)) for each in (index, plain)
                ]
                assert answers[0] == answers[1]
    assert not index.change_rules((_rule(60_000, trunk_ids=("ST_a",)),), ()), "two trunks share their rules no more"
    assert not index.change_rules((_rule(60_001, trunk_ids=("ST_a", "ST_b"), pin="x3"),), ()), "it contradicts another"


SIZE = 3000


def _rule(number: int, **values: Any) -> DispatchRule:
    room = Rule(dispatch_rule_direct=DirectRule(room_name=f"room{number}", pin=values.pop("pin", "")))
    return DispatchRule(sip_dispatch_rule_id=f"SDR_{number:05}", rule=room, **values)


def _room(index: Index, caller: Caller, pin: str | None = None) -> str:
    verdict = index.authorise(caller)
    decision = index.dispatch(caller, verdict, call_id="SCL_1", room_suffix=lambda: "suffix", pin=pin)
    return decision.room_name if isinstance(decision, Accept) else f"{type(decision).__name__} {verdict.reason or decision.trace.summary}"


def test_given_many_trunks_on_one_number_told_apart_by_caller_when_each_calls_then_each_gets_its_own() -> None:
    trunks = [InboundTrunk(sip_trunk_id=f"ST_{n:05}", numbers=("+1",), allowed_numbers=(f"+4{n}",)) for n in range(SIZE)]
    index = Index(Directory(trunks=tuple(trunks), rules=tuple(_rule(n, trunk_ids=(f"ST_{n:05}",)) for n in range(SIZE))))
    assert {_room(index, Caller(f"4{n}", "1")) for n in range(SIZE)} == {f"room{n}" for n in range(SIZE)}
    trace = index.authorise(Caller("999", "1")).trace
    assert {candidate.mismatch.field for candidate in trace.candidates if candidate.mismatch} == {"allowed_numbers"}


def test_given_many_trunks_told_apart_by_address_only_when_each_calls_then_each_gets_its_own() -> None:
    """The conflict check forbids such sets at create, an update can bring them about (trap 3 of §2.3)."""
    masks = [str(ip_address(0x0A000000 + 256 * n)) + ("/24" if n % 2 else "") for n in range(SIZE)]
    for numbers in ((), ("+1",)):
        trunks = [InboundTrunk(sip_trunk_id=f"ST_{n:05}", numbers=numbers, allowed_addresses=(mask,)) for n, mask in enumerate(masks)]
        index = Index(Directory(trunks=tuple(trunks), rules=tuple(_rule(n, trunk_ids=(f"ST_{n:05}",)) for n in range(SIZE))))
        for n in range(0, SIZE, 7):
            source = str(ip_address(0x0A000000 + 256 * n + (77 if n % 2 else 0)))
            assert _room(index, Caller("4", "1", source_address=source)) == f"room{n}"
        assert index.authorise(Caller("4", "1", source_address="garbage")).status == 503


def test_given_long_lists_when_a_call_comes_then_they_are_looked_up_and_the_trace_shows_their_beginning() -> None:
    many = tuple(f"+1{n:06}" for n in range(SIZE))
    trunk = InboundTrunk(sip_trunk_id="ST_a", numbers=many, allowed_numbers=many, allowed_addresses=tuple(f"host{n}" for n in range(SIZE)))
    index = Index(Directory(trunks=(trunk,), rules=(_rule(1, trunk_ids=("ST_a",), numbers=many),)))
    assert _room(index, Caller(many[-1], many[-2], host=f"host{SIZE - 1}", source_address="192.0.2.1")) == "room1"
    decision = index.dispatch(
        Caller("x", "y"), index.authorise(Caller(many[0], many[0])), call_id="SCL_1", room_suffix=lambda: "", pin=None
    )
    (candidate,) = decision.trace.to_json()["candidates"]
    assert candidate["mismatch"] == {"field": "numbers", "given": "y", "wanted": list(many[:5])}


def test_given_rules_that_name_every_trunk_when_they_contradict_then_every_trunk_s_calls_are_told_so_in_the_same_words() -> None:
    ids = tuple(f"ST_{n:05}" for n in range(SIZE))
    trunks = tuple(InboundTrunk(sip_trunk_id=trunk_id, numbers=(f"+1{n:06}",)) for n, trunk_id in enumerate(ids))
    own = tuple(_rule(n + 10, trunk_ids=(trunk_id,), pin="7") for n, trunk_id in enumerate(ids))
    index = Index(Directory(trunks=trunks, rules=(_rule(1, trunk_ids=ids), *own)))
    assert {_room(index, Caller("4", f"1{n:06}")).split()[0] for n in range(SIZE)} == {"AskPin"}
    contradicting = Directory(trunks=trunks, rules=(_rule(1, trunk_ids=ids), _rule(2, trunk_ids=tuple(reversed(ids))), *own))
    index, plain = Index(contradicting), PlainMatcher(contradicting)
    calls = [Caller("4", f"1{n:06}") for n in range(SIZE)]
    told = {_room(index, caller) for caller in calls}
    assert len(told) == 1
    assert _answers(index, calls[5], None, False) == _answers(plain, calls[5], None, False)


def test_given_many_pins_for_one_number_when_each_is_entered_then_each_leads_to_its_room() -> None:
    index = Index(Directory(rules=tuple(_rule(n, numbers=("1",), pin=f"{n:05}") for n in range(SIZE))), b"key")
    assert all(_room(index, Caller("4", "1"), pin=f"{n:05}") == f"room{n}" for n in range(SIZE))
    assert _room(index, Caller("4", "1")).startswith("AskPin")
    wrong = index.dispatch(Caller("4", "1"), index.authorise(Caller("4", "1")), call_id="SCL_1", room_suffix=lambda: "", pin="99999")
    assert [candidate.mismatch.field for candidate in wrong.trace.candidates if candidate.mismatch] == ["pin"] * NEAR
    assert "99999" not in wrong.trace.to_text()


def test_given_a_rule_for_another_trunk_when_it_would_have_fitted_then_the_trace_names_both_trunks() -> None:
    trunks = (InboundTrunk(sip_trunk_id="ST_a", numbers=("1",)), InboundTrunk(sip_trunk_id="ST_b", numbers=("2",)))
    index = Index(Directory(trunks=trunks, rules=(_rule(1, trunk_ids=("ST_b",), numbers=("1",)),)))
    decision = index.dispatch(Caller("4", "1"), index.authorise(Caller("4", "1")), call_id="SCL_1", room_suffix=lambda: "")
    assert "trunk_ids: ST_a is not ST_b" in decision.trace.to_text()
