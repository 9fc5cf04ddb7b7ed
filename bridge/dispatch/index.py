"""The same answers as `evaluate.PlainMatcher`, from an index compiled once.

Trunks are found by their normalised number; rules by trunk, then by the exact pair of calling and called number (each may be "any"),
then by PIN, the best one first. Contradictions between rules are found at the build: which one a call meets depends on its trunk only.
"""

import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product

from bridge.dispatch import rules as rule_match
from bridge.dispatch import trunks as trunk_match
from bridge.dispatch.conflicts import Conflict, RuleConflicts
from bridge.dispatch.directory import Directory
from bridge.dispatch.evaluate import decide, no_rule, own_number, rule_conflict, rules_for, trunk_conflict, trunk_verdict
from bridge.dispatch.numbers import normalize_number
from bridge.dispatch.outcome import Decision, Verdict
from bridge.dispatch.rules import Ask
from bridge.dispatch.trace import Candidate, Trace
from bridge.dispatch.trunks import TrunkConflict
from bridge.model.caller import Caller
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk

NEAR = 5
"""Trunks or rules that did not match which a live call's trace tells of; `explain` tells of all."""

Selector = tuple[str | None, str | None]
"""Calling and called number of a rule; None is any."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A rule and its place in the order of all."""

    rank: tuple[tuple[int, str], int]
    rule: DispatchRule


def _first(one: Ranked | None, other: Ranked | None) -> Ranked | None:
    if one is None or other is None:
        return one or other
    return one if one.rank <= other.rank else other


@dataclass(slots=True)
class Bucket:
    """The rules of one selector: the best of all, the best without a PIN, and the best of each PIN (by its digest)."""

    best: Ranked | None = None
    best_open: Ranked | None = None
    by_pin: dict[bytes, Ranked] = field(default_factory=dict)

    def add(self, ranked: Ranked, digest: bytes | None) -> None:
        self.best = _first(self.best, ranked)
        if digest is None:
            self.best_open = _first(self.best_open, ranked)
        else:
            best = _first(self.by_pin.get(digest), ranked)
            if best is not None:
                self.by_pin[digest] = best

    def find(self, digest: bytes | None, no_pin: bool) -> Ranked | None:
        if no_pin:
            return self.best_open
        return self.best if digest is None else self.by_pin.get(digest)


class RuleSet:
    """Rules that share a trunk (or that are for any)."""

    __slots__ = ("_buckets", "conflict", "rules")

    def __init__(self, ranked: Iterable[tuple[int, DispatchRule]], digest: Callable[[str], bytes | None]) -> None:
        self.rules: list[DispatchRule] = []
        self.conflict: tuple[int, Conflict] | None = None
        self._buckets: dict[Selector, Bucket] = {}
        conflicts = RuleConflicts()
        for position, rule in ranked:
            self.rules.append(rule)
            if self.conflict is not None:
                continue
            try:
                conflicts.add(rule)
            except Conflict as conflict:
                self.conflict = (position, conflict)
                continue
            entry, pin = Ranked((rule_match.priority(rule), position), rule), digest(rule.pin)
            callers: Sequence[str | None] = tuple(dict.fromkeys(rule.inbound_numbers)) or (None,)
            called: Sequence[str | None] = tuple(dict.fromkeys(rule.numbers)) or (None,)
            for selector in product(callers, called):
                self._buckets.setdefault(selector, Bucket()).add(entry, pin)

    def find(self, caller: str, called: str, digest: bytes | None, no_pin: bool) -> DispatchRule | None:
        best: Ranked | None = None
        for selector in ((caller, called), (caller, None), (None, called), (None, None)):
            bucket = self._buckets.get(selector)
            if bucket is not None:
                best = _first(best, bucket.find(digest, no_pin))
        return best.rule if best is not None else None


class Index:
    """Implements `outcome.Dispatcher`. Immutable: a changed directory gets a new index."""

    def __init__(self, directory: Directory, key: bytes = b"") -> None:
        self._unknown_trunks = directory.unknown_trunks
        # PINs are looked up by a digest: how much of one is right cannot be heard from how long the answer takes. `key` is chance's
        # part of it, which comes from outside.
        self._key = key
        self._phone_numbers = {
            normalize_number(number.e164_format): number for number in reversed(directory.phone_numbers) if number.takes_calls
        }
        self._build_trunks(directory.trunks_by_id())
        self._build_rules(directory.rules_by_id())

    def _build_trunks(self, trunks: Sequence[InboundTrunk]) -> None:
        self._by_number: dict[str, list[InboundTrunk]] = {}
        self._any_number_by_caller: dict[str, list[tuple[int, InboundTrunk]]] = {}
        self._any_number_any_caller: list[tuple[int, InboundTrunk]] = []
        for position, trunk in enumerate(trunks):
            for number in dict.fromkeys(normalize_number(number) for number in trunk.numbers):
                self._by_number.setdefault(number, []).append(trunk)
            if trunk.numbers:
                continue
            if not trunk.allowed_numbers:
                self._any_number_any_caller.append((position, trunk))
            for number in dict.fromkeys(normalize_number(number) for number in trunk.allowed_numbers):
                self._any_number_by_caller.setdefault(number, []).append((position, trunk))

    def _build_rules(self, rules: Sequence[DispatchRule]) -> None:
        self._rules = rules
        by_trunk: dict[str, list[tuple[int, DispatchRule]]] = {}
        for position, rule in enumerate(rules):
            for trunk_id in dict.fromkeys(rule.trunk_ids) if rule.trunk_ids else ("",):
                if trunk_id or not rule.trunk_ids:
                    by_trunk.setdefault(trunk_id, []).append((position, rule))
        self._any_trunk = RuleSet(by_trunk.pop("", ()), self._digest)
        self._by_trunk = {trunk_id: RuleSet(ranked, self._digest) for trunk_id, ranked in by_trunk.items()}
        self._conflict_of_all = _first_conflict(rules)
        self._by_id: dict[str, list[DispatchRule]] = {}
        for rule in rules:
            self._by_id.setdefault(rule.sip_dispatch_rule_id, []).append(rule)

    def authorise(self, caller: Caller) -> Verdict:
        called = normalize_number(caller.called)
        number = self._phone_numbers.get(called)
        if number is not None:
            return own_number(number)
        near = self._by_number.get(called, ())
        specific = [trunk for trunk in near if trunk_match.trunk_mismatch(trunk, caller) is None]
        if len(specific) > 1:
            return trunk_conflict(TrunkConflict([trunk.sip_trunk_id for trunk in specific[:2]]))
        if specific:
            return trunk_verdict(specific[0], caller, self._unknown_trunks, ())
        of_caller = self._any_number_by_caller.get(normalize_number(caller.number), ())
        of_any = sorted((*of_caller, *self._any_number_any_caller)) if of_caller else self._any_number_any_caller
        defaults = [trunk for _, trunk in of_any if trunk_match.trunk_mismatch(trunk, caller) is None]
        if len(defaults) > 1:
            return trunk_conflict(TrunkConflict([trunk.sip_trunk_id for trunk in defaults]))
        if defaults:
            return trunk_verdict(defaults[0], caller, self._unknown_trunks, ())
        looked_at = [*near[:NEAR], *(trunk for _, trunk in self._any_number_any_caller[:NEAR])][:NEAR]
        return trunk_verdict(None, caller, self._unknown_trunks, looked_at)

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
        number = verdict.phone_number
        if number is not None and number.sip_dispatch_rule_id:
            of_number = rules_for(self._by_id.get(number.sip_dispatch_rule_id, ()), verdict)
            chosen, conflict, near = _match_few(of_number, ask)
        else:
            of_trunk = self._by_trunk.get(trunk_id) if trunk_id else None
            conflict = self._conflict_met(of_trunk, trunk_id)
            chosen = None if conflict else self._best(of_trunk, ask)
            near = [*(of_trunk.rules[:NEAR] if of_trunk else ()), *self._any_trunk.rules[:NEAR]][:NEAR]
        if conflict is not None:
            return rule_conflict(conflict)
        if chosen is None:
            return no_rule(near, ask)
        rule_id = chosen.sip_dispatch_rule_id
        trace = Trace(f"rule {rule_id}", (Candidate("rule", rule_id, chosen.name, "chosen"),))
        return decide(verdict.trunk, chosen, caller, ask, call_id, room_suffix, trace)

    def _conflict_met(self, of_trunk: RuleSet | None, trunk_id: str) -> Conflict | None:
        """The first contradiction among a call's candidates. Rules of a trunk and rules for any trunk never share a key, so the two sets
        meet their contradictions apart, and the one that stands first counts."""
        if not trunk_id:
            return self._conflict_of_all
        met = [found for found in (of_trunk.conflict if of_trunk else None, self._any_trunk.conflict) if found is not None]
        return min(met, key=lambda found: found[0])[1] if met else None

    def _best(self, of_trunk: RuleSet | None, ask: Ask) -> DispatchRule | None:
        digest = self._digest(ask.pin) if ask.pin and not ask.no_pin else None
        if of_trunk is not None:
            specific = of_trunk.find(ask.caller, ask.called, digest, ask.no_pin)
            if specific is not None:
                return specific
        return self._any_trunk.find(ask.caller, ask.called, digest, ask.no_pin)

    def _digest(self, pin: str) -> bytes | None:
        return hmac.digest(self._key, pin.encode("utf-8", "surrogatepass"), "sha256") if pin else None


def _first_conflict(rules: Iterable[DispatchRule]) -> Conflict | None:
    conflicts = RuleConflicts()
    for rule in rules:
        try:
            conflicts.add(rule)
        except Conflict as conflict:
            return conflict
    return None


def _match_few(rules: list[DispatchRule], ask: Ask) -> tuple[DispatchRule | None, Conflict | None, list[DispatchRule]]:
    try:
        return rule_match.match_rule(rules, ask), None, rules
    except Conflict as conflict:
        return None, conflict, rules
    except rule_match.NoRule:
        return None, None, rules
