"""The answers, told plainly: match, then build what the caller gets (livekit-sip-semantics.md §2.6, DESIGN §5 steps 2–4).

`PlainMatcher` looks at every trunk and rule; `index.py` gives the same answers from a compiled index.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from bridge.dispatch import rules as rule_match
from bridge.dispatch import trunks as trunk_match
from bridge.dispatch.conflicts import Conflict, numbers_without_trunk
from bridge.dispatch.directory import Directory, UnknownTrunks
from bridge.dispatch.numbers import normalize_number
from bridge.dispatch.outcome import Accept, AskPin, Decision, Refuse, Verdict, VerdictKind
from bridge.dispatch.rules import Ask, NoRule
from bridge.dispatch.trace import Candidate, Mismatch, Trace, shown
from bridge.dispatch.trunks import TrunkConflict
from bridge.model.caller import Caller
from bridge.model.media import MediaConfig, upgraded
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import CalleeRule, DirectRule, DispatchRule, IndividualRule
from bridge.model.trunk import InboundTrunk

RINGING_TIMEOUT = timedelta(minutes=3)
MAX_CALL_DURATION = timedelta(hours=24)
"""§1.1, §4: defaults, and the longest call there is."""

BUSY_HERE = 486
_NOTHING = timedelta()


class PlainMatcher:
    """Implements `outcome.Dispatcher` by looking at everything."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._numbers = numbers_without_trunk(directory)
        self._trunks = directory.trunks_by_id()
        self._rules = directory.rules_by_id()

    def authorise(self, caller: Caller) -> Verdict:
        if number := self._numbers.get(normalize_number(caller.called)):
            return own_number(number)
        looked_at = trunk_match.candidates(self._trunks, caller.called)
        try:
            match = trunk_match.match_trunk(looked_at, caller)
        except TrunkConflict as conflict:
            return trunk_conflict(conflict)
        others = [trunk_candidate(trunk, trunk_match.trunk_mismatch(trunk, caller)) for trunk in looked_at if trunk is not match.trunk]
        return trunk_verdict(match.trunk, caller, self._directory.unknown_trunks, others)

    def dispatch(
        self,
        caller: Caller,
        verdict: Verdict,
        *,
        call_id: str,
        room_suffix: Callable[[], str],
        pin: str | None = None,
        no_pin: bool = False,
    ) -> Decision:
        trunk_id = verdict.trunk.sip_trunk_id if verdict.trunk else ""
        ask = Ask(caller.number, caller.called, trunk_id, pin, no_pin)
        looked_at = rules_for(self._rules, verdict)
        try:
            rule = rule_match.match_rule(looked_at, ask)
        except Conflict as conflict:
            return rule_conflict(conflict)
        except NoRule:
            return no_rule(ask, [_looked_at(rule, ask) for rule in looked_at])
        others = [_looked_at(other, ask) for other in looked_at if other is not rule]
        return decide(verdict.trunk, rule, caller, ask, call_id, room_suffix, chosen_rule(rule, others))


def _looked_at(rule: DispatchRule, ask: Ask) -> Candidate:
    return rule_candidate(rule.sip_dispatch_rule_id, rule.name, rule_match.rule_mismatch(rule, ask))


def rules_for(rules: Sequence[DispatchRule], verdict: Verdict) -> list[DispatchRule]:
    """The candidates of a call: a number of our own with a rule of its own asks only that one."""
    if verdict.phone_number is not None and verdict.phone_number.sip_dispatch_rule_id:
        own = verdict.phone_number.sip_dispatch_rule_id
        return [rule for rule in rules if rule.sip_dispatch_rule_id == own]
    return rule_match.candidates(rules, verdict.trunk.sip_trunk_id if verdict.trunk else "")


# The verdicts


def own_number(number: PhoneNumber) -> Verdict:
    """A number of our own needs no trunk."""
    trace = Trace(f"{number.e164_format} is a phone number of ours")
    return Verdict(VerdictKind.PHONE_NUMBER, trace, phone_number=number)


def trunk_conflict(conflict: TrunkConflict) -> Verdict:
    """More than one trunk takes the call (§3.2: 503)."""
    seen = tuple(Candidate("trunk", trunk_id, "", "matched") for trunk_id in conflict.trunk_ids)
    return Verdict(VerdictKind.REFUSED, Trace(str(conflict), seen), status=503, reason=str(conflict))


def trunk_verdict(trunk: InboundTrunk | None, caller: Caller, unknown: UnknownTrunks, others: Sequence[Candidate]) -> Verdict:
    """What the trunk step says, once the trunk is known. `others` are for the trace."""
    if trunk is None:
        if unknown is UnknownTrunks.REJECT:
            reason = f"no trunk takes calls from {shown(caller.number)} to {shown(caller.called)}"
            return Verdict(VerdictKind.REFUSED, Trace(reason, tuple(others)), status=404, reason=reason)
        return Verdict(VerdictKind.NO_TRUNK, Trace("no trunk matches; rules for any trunk may", tuple(others)))
    if trunk.asks_for_credentials and caller.trunk_id != trunk.sip_trunk_id:
        reason = f"trunk {trunk.sip_trunk_id} wants credentials, and the PBX has not authenticated the caller as it"
        failed = Mismatch("credentials", caller.trunk_id or "not authenticated", (trunk.sip_trunk_id,))
        seen = (Candidate("trunk", trunk.sip_trunk_id, trunk.name, "failed", failed), *others)
        return Verdict(VerdictKind.REFUSED, Trace(reason, seen), trunk=trunk, status=403, reason=reason)
    seen = (Candidate("trunk", trunk.sip_trunk_id, trunk.name, "chosen"), *others)
    return Verdict(VerdictKind.TRUNK, Trace(f"trunk {trunk.sip_trunk_id}", seen), trunk=trunk)


def trunk_candidate(trunk: InboundTrunk, mismatch: Mismatch | None) -> Candidate:
    """A trunk that was not chosen."""
    if mismatch is None:
        return Candidate("trunk", trunk.sip_trunk_id, trunk.name, "matched", None, "a trunk that names the number is preferred")
    return Candidate("trunk", trunk.sip_trunk_id, trunk.name, "failed", mismatch)


# The decisions


def rule_conflict(conflict: Conflict) -> Refuse:
    """Contradicting rules break every call that sees them (trap 5; §3.2: 503)."""
    seen = (Candidate("rule", conflict.first, "", "conflicts"), Candidate("rule", conflict.second, "", "conflicts"))
    return Refuse(Trace(str(conflict), seen), 503, str(conflict), conflict=True)


def no_rule(ask: Ask, others: Sequence[Candidate]) -> Refuse:
    """Nothing matches: 404, where LiveKit's open-source server would let the caller ring for ever (DESIGN §5.3)."""
    reason = f"no dispatch rule matches a call from {shown(ask.caller)} to {shown(ask.called)}"
    if ask.trunk_id:
        reason += f" through trunk {ask.trunk_id}"
    return Refuse(Trace(reason, tuple(others)), 404, reason)


def chosen_rule(rule: DispatchRule, others: Sequence[Candidate]) -> Trace:
    """The trace of a rule that was chosen, before `others`."""
    return Trace(f"rule {rule.sip_dispatch_rule_id}", (Candidate("rule", rule.sip_dispatch_rule_id, rule.name, "chosen"), *others))


def rule_candidate(rule_id: str, name: str, mismatch: Mismatch | None) -> Candidate:
    """A rule that was not chosen."""
    if mismatch is None:
        return Candidate("rule", rule_id, name, "matched", None, "a better one was chosen")
    return Candidate("rule", rule_id, name, "failed", mismatch)


def decide(
    trunk: InboundTrunk | None,
    rule: DispatchRule,
    caller: Caller,
    ask: Ask,
    call_id: str,
    room_suffix: Callable[[], str],
    trace: Trace,
    extra_attributes: Mapping[str, str] | None = None,
) -> Decision:
    """What a caller gets from the rule that matched (§2.6)."""
    trunk_id = trunk.sip_trunk_id if trunk is not None else ask.trunk_id
    media = merged_media(trunk, rule)
    pin = rule.pin
    if pin and not ask.pin:
        return AskPin(trace, trunk_id, rule.sip_dispatch_rule_id, media)
    if pin and ask.pin and not rule_match.same_pin(pin, ask.pin):
        # Cannot be after matching; a caller of this function may not have matched.
        return Refuse(trace, 403, "the PIN is another one")
    number = caller.number
    identity, shown = f"sip_{number}", number
    attributes = {**rule.attributes, **(extra_attributes or {}), "sip.callID": call_id, "sip.trunkID": trunk_id}
    if rule.hide_phone_number:
        identity, shown = f"sip_{hashlib.sha256(number.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}", masked(number)
    else:
        attributes |= {"sip.phoneNumber": number, "sip.hostname": caller.host, "sip.trunkPhoneNumber": caller.called}
    attributes["sip.ruleID"] = rule.sip_dispatch_rule_id
    return Accept(
        trace=trace,
        trunk_id=trunk_id,
        rule_id=rule.sip_dispatch_rule_id,
        room_name=room_name(rule, shown, caller.called, room_suffix),
        identity=identity,
        name=f"Phone {shown}",
        metadata=rule.metadata,
        attributes=attributes,
        media=media,
        room_preset=rule.room_preset,
        room_config=rule.room_config or {},
        headers=trunk.headers if trunk else {},
        headers_to_attributes=trunk.headers_to_attributes if trunk else {},
        attributes_to_headers=trunk.attributes_to_headers if trunk else {},
        include_headers=int(trunk.include_headers) if trunk else 0,
        ringing_timeout=_positive(trunk.ringing_timeout if trunk else None, RINGING_TIMEOUT),
        ringing_timeout_status=(trunk.ringing_timeout_status if trunk else 0) or BUSY_HERE,
        max_call_duration=min(_positive(trunk.max_call_duration if trunk else None, MAX_CALL_DURATION), MAX_CALL_DURATION),
        krisp_enabled=rule.krisp_enabled or (trunk is not None and trunk.krisp_enabled),
    )


def merged_media(trunk: InboundTrunk | None, rule: DispatchRule) -> MediaConfig:
    """The trunk's media settings under the rule's (§1.6)."""
    of_rule = upgraded(rule.media, rule.media_encryption)
    if trunk is None:
        return of_rule
    return upgraded(trunk.media, trunk.media_encryption).merged_with(of_rule)


def masked(number: str) -> str:
    """The end of a hidden number: four characters, of a short one (or none) one."""
    return number[-4:] if len(number) > 4 else number[-1:]


def room_name(rule: DispatchRule, shown: str, called: str, room_suffix: Callable[[], str]) -> str:
    """§2.6 step 5. No escaping."""
    kind = rule.rule.kind if rule.rule else None
    match kind:
        case DirectRule():
            return kind.room_name
        case IndividualRule():
            return _joined(kind.room_prefix, shown, None if kind.no_randomness else room_suffix)
        case CalleeRule():
            return _joined(kind.room_prefix, called, room_suffix if kind.randomize else None)
        case _:
            raise ValueError("a rule of no kind has no room")  # conflicts.py lets none through


def _joined(prefix: str, middle: str, room_suffix: Callable[[], str] | None) -> str:
    name = f"{prefix}_{middle}" if prefix else middle
    return f"{name}_{room_suffix()}" if room_suffix is not None else name


def _positive(value: timedelta | None, default: timedelta) -> timedelta:
    return value if value is not None and value > _NOTHING else default
