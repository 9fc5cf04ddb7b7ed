"""Why does a call go where it goes? Runs the plain matcher and shows every trunk and every rule, the best first (DESIGN §11)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.dispatch import rules as rule_match
from bridge.dispatch import trunks as trunk_match
from bridge.dispatch.directory import Directory
from bridge.dispatch.evaluate import PlainMatcher, rules_for
from bridge.dispatch.outcome import Accept, AskPin, Decision, Refuse, Verdict, VerdictKind
from bridge.dispatch.rules import Ask
from bridge.dispatch.trace import Candidate, Mismatch, shown
from bridge.model.caller import Caller
from bridge.model.rule import DispatchRule


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict, the decision (None after a refusal), and every candidate. Holds no PIN."""

    caller: Caller
    verdict: Verdict
    decision: Decision | None
    trunks: tuple[Candidate, ...]
    rules: tuple[Candidate, ...]

    @property
    def outcome(self) -> str:
        """One sentence: what the caller gets."""
        match self.decision:
            case None:
                return f"refused with {self.verdict.status}: {self.verdict.reason}"
            case Accept() as accept:
                return f"room {shown(accept.room_name)!r} as {shown(accept.identity)!r} ({shown(accept.name)})"
            case AskPin():
                return "the caller is answered and asked for the PIN"
            case Refuse(status=status, reason=reason):
                return f"refused with {status}: {reason}"

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "call": {
                "from": self.caller.number,
                "to": self.caller.called,
                "source_ip": self.caller.source_address,
                "host": self.caller.host,
                "authenticated_as": self.caller.trunk_id,
            },
            "outcome": self.outcome,
            "verdict": self.verdict.kind.value,
            "trunks": [candidate.to_json() for candidate in self.trunks],
            "rules": [candidate.to_json() for candidate in self.rules],
        }
        match self.decision:
            case None:
                found["status"] = self.verdict.status
            case Accept() as accept:
                found["decision"] = "accept"
                found["room"] = accept.room_name
                found["identity"] = accept.identity
                found["name"] = accept.name
                found["metadata"] = accept.metadata
                found["attributes"] = dict(accept.attributes)
            case AskPin():
                found["decision"] = "ask_pin"
            case Refuse(status=status):
                found["decision"] = "refuse"
                found["status"] = status
        return found

    def to_text(self) -> str:
        number, called, source = (shown(text) for text in (self.caller.number, self.caller.called, self.caller.source_address))
        lines = [
            f"call from {number or '(nobody)'} to {called}, source {source or '(unknown)'}",
            f"→ {self.outcome}",
            "",
            f"Trunks ({self.verdict.trace.summary}):",
            *(_line(candidate) for candidate in self.trunks),
            *([] if self.trunks else ["    none configured"]),
            "",
            "Rules, the best first:",
            *(_line(candidate) for candidate in self.rules),
            *([] if self.rules else ["    none configured"]),
        ]
        return "\n".join(lines)


def _line(candidate: Candidate) -> str:
    marks = {"chosen": "✔", "matched": "·", "failed": "✘"}
    return f"  {marks.get(candidate.outcome, '!')} {candidate}"


def explain(
    directory: Directory, caller: Caller, *, room_suffix: Callable[[], str], pin: str | None = None, no_pin: bool = False
) -> Explanation:
    """What would become of this call. `pin`: what the caller would enter, None for a caller who was not asked yet."""
    matcher = PlainMatcher(directory)
    verdict = matcher.authorise(caller)
    decision: Decision | None = None
    if verdict.kind is not VerdictKind.REFUSED:
        decision = matcher.dispatch(caller, verdict, call_id="SCL_explained", room_suffix=room_suffix, pin=pin, no_pin=no_pin)
    trunk_id = verdict.trunk.sip_trunk_id if verdict.trunk else ""
    ask = Ask(caller.number, caller.called, trunk_id, pin, no_pin)
    return Explanation(caller, verdict, decision, _trunks(directory, caller, verdict), _rules(directory, ask, verdict, decision))


def _trunks(directory: Directory, caller: Caller, verdict: Verdict) -> tuple[Candidate, ...]:
    """Trunks with numbers before those without: that is their priority (§2.2)."""
    found: list[Candidate] = []
    for trunk in sorted(directory.trunks_by_id(), key=lambda trunk: not trunk.numbers):
        mismatch = trunk_match.trunk_mismatch(trunk, caller)
        if verdict.kind is VerdictKind.PHONE_NUMBER:
            found.append(Candidate("trunk", trunk.sip_trunk_id, trunk.name, "not asked", note="the called number needs no trunk"))
        elif mismatch is not None:
            found.append(Candidate("trunk", trunk.sip_trunk_id, trunk.name, "failed", mismatch))
        elif verdict.trunk is None or verdict.trunk.sip_trunk_id != trunk.sip_trunk_id:
            note = "" if verdict.kind is VerdictKind.REFUSED else "a trunk that names the number is preferred"
            found.append(Candidate("trunk", trunk.sip_trunk_id, trunk.name, "matched", note=note))
        elif verdict.kind is VerdictKind.REFUSED:
            credentials = Mismatch("credentials", caller.trunk_id or "not authenticated", (trunk.sip_trunk_id,))
            found.append(Candidate("trunk", trunk.sip_trunk_id, trunk.name, "failed", credentials))
        else:
            found.append(Candidate("trunk", trunk.sip_trunk_id, trunk.name, "chosen"))
    return tuple(found)


def _rules(directory: Directory, ask: Ask, verdict: Verdict, decision: Decision | None) -> tuple[Candidate, ...]:
    chosen = decision.rule_id if isinstance(decision, Accept | AskPin) else None
    own = {rule.sip_dispatch_rule_id for rule in rules_for(directory.rules, verdict)} if verdict.phone_number else None
    return tuple(_rule(rule, ask, chosen, own) for rule in _by_priority(directory.rules_by_id()))


def _by_priority(rules: Sequence[DispatchRule]) -> list[DispatchRule]:
    """A rule for the matched trunk beats any other, whatever their priorities (§2.4 step 4)."""
    return sorted(rules, key=lambda rule: (not rule.trunk_ids, rule_match.priority(rule)))


def _rule(rule: DispatchRule, ask: Ask, chosen: str | None, own: set[str] | None) -> Candidate:
    if own is not None and rule.sip_dispatch_rule_id not in own:
        return Candidate("rule", rule.sip_dispatch_rule_id, rule.name, "not asked", note="the phone number has a rule of its own")
    mismatch = rule_match.rule_mismatch(rule, ask)
    if mismatch is not None:
        return Candidate("rule", rule.sip_dispatch_rule_id, rule.name, "failed", mismatch)
    if rule.sip_dispatch_rule_id == chosen:
        return Candidate("rule", rule.sip_dispatch_rule_id, rule.name, "chosen")
    note = "a better one was chosen" if chosen else ""
    return Candidate("rule", rule.sip_dispatch_rule_id, rule.name, "matched", note=note)
