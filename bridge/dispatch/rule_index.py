"""Dispatch rules, compiled: the best one for a call, and those that nearly are, without looking at the others.

A rule is found by its trunk, then by the exact pair of calling and called number (each may be "any"), then by its PIN. Which contradiction
a call meets depends on its trunk only, and is known from the build.

One rule more or less is worked in where it stands (`put`, `remove`), at a cost that does not grow with the others, as long as nothing
contradicts: then each key of §2.5 has one rule, so that nothing has to be searched for.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from bridge.dispatch.conflicts import Conflict, check_rules, rules_contradict
from bridge.dispatch.rule_set import NEAR, Bucket, Contradiction, Key, RuleEntry, RuleSet, Selector, best_of, first_contradiction
from bridge.dispatch.rules import Ask
from bridge.model.rule import DispatchRule

SHARED_FROM = 64
"""Rules of a trunk from which on trunks with the very same ones share what is made of them."""


@dataclass(slots=True, eq=False)
class Candidates:
    """What the calls of one trunk, of none, or of one phone number choose from; `conflict` is what they meet instead. `few`: the first
    few that are looked at, where those are not the first of the sets; `all_rules`: whether every rule might have been; `trunks`: whose."""

    specific: RuleSet | None
    default: RuleSet
    conflict: Conflict | None
    few: tuple[RuleEntry, ...] | None = None
    all_rules: bool = True
    trunks: set[str] = field(default_factory=set)

    @property
    def first(self) -> tuple[RuleEntry, ...]:
        if self.few is not None:
            return self.few
        return self.specific.first + self.default.first if self.specific is not None else self.default.first

    def sets(self) -> tuple[RuleSet, ...]:
        return (self.default,) if self.specific is None else (self.specific, self.default)


@dataclass(slots=True, eq=False)
class RuleAnswer:
    """The best rule, or None; and the buckets looked into and what was asked, to say later why others were not chosen."""

    chosen: RuleEntry | None
    candidates: Candidates
    buckets: list[Bucket]
    ask: Ask
    digest: bytes | None


class RuleIndex:
    """`rules` in id order; `own_rules` are the ids that phone numbers name; `digest` hides PINs. `put` and `remove` change it between two
    calls."""

    def __init__(self, rules: Sequence[DispatchRule], own_rules: Collection[str], digest: Callable[[str], bytes | None]) -> None:
        self._digest = digest
        self._entries = [RuleEntry.of(position, rule, digest(rule.pin)) for position, rule in enumerate(rules)]
        self._words: dict[Contradiction, Conflict] = {}
        default = [entry for entry in self._entries if not entry.trunks]
        by_trunk: dict[str, list[RuleEntry]] = {}
        for entry in self._entries:
            for trunk_id in dict.fromkeys(entry.rule.trunk_ids):
                by_trunk.setdefault(trunk_id, []).append(entry)
        # A rule that names the empty id takes no call by it, but its keys are those of the rules for any trunk (§2.5).
        nameless = by_trunk.pop("", [])
        self._default = RuleSet(default)
        self._default_only = self._candidates(None, self._default, self._default.contradiction)
        self._build_by_trunk(by_trunk, _first_by_key(default) if nameless else {})
        of_any = first_contradiction(sorted((*default, *nameless), key=lambda entry: entry.position))
        of_all = _first([of_any, *(found.contradiction for candidates in self._by_trunk.values() for found in candidates.sets())])
        self._without_trunk = replace(self._candidates(None, self._default, of_all), few=tuple(self._entries[:NEAR]))
        self.own_rules = frozenset(own_rules)
        self._build_by_rule()
        self._build_elsewhere()
        self._by_id = {entry.rule_id: entry for entry in self._entries}
        self._next_position = len(self._entries)
        self._changeable = of_all is None and not nameless and len(self._by_id) == len(self._entries)
        del self._entries, self._words  # of the build

    def _build_by_trunk(self, by_trunk: dict[str, list[RuleEntry]], default_keys: dict[Key, int]) -> None:
        self._by_trunk: dict[str, Candidates] = {}
        made: dict[tuple[int, ...], Candidates] = {}
        for trunk_id, of_trunk in by_trunk.items():
            positions = tuple(entry.position for entry in of_trunk)
            candidates = made.get(positions)
            if candidates is None:
                specific = RuleSet(of_trunk)
                across = _first_across([entry for entry in of_trunk if "" in entry.trunks], default_keys)
                met = _first([specific.contradiction, self._default.contradiction, across])
                candidates = self._candidates(specific, self._default, met)
                if len(positions) >= SHARED_FROM:
                    made[positions] = candidates
            candidates.trunks.add(trunk_id)
            self._by_trunk[trunk_id] = candidates

    def _build_by_rule(self) -> None:
        by_id: dict[str, list[RuleEntry]] = {rule_id: [] for rule_id in self.own_rules}
        for entry in self._entries:
            if entry.rule.sip_dispatch_rule_id in by_id:
                by_id[entry.rule.sip_dispatch_rule_id].append(entry)
        self._by_rule = {rule_id: self._of_number(entries) for rule_id, entries in by_id.items()}

    def _of_number(self, entries: Sequence[RuleEntry]) -> Candidates:
        conflict: Conflict | None = None
        try:
            # One rule, but for a set with an id twice: the plain check does.
            check_rules(entry.rule for entry in entries)
        except Conflict as found:
            conflict = found
        rules = RuleSet([entry for entry in entries if not entry.trunks])
        return Candidates(None, rules, conflict, few=tuple(entries[:NEAR]), all_rules=False)

    def _build_elsewhere(self) -> None:
        self._elsewhere: dict[Selector, tuple[RuleEntry, ...]] = {}
        for entry in self._entries:
            self._show_elsewhere(entry)

    def _show_elsewhere(self, entry: RuleEntry) -> None:
        if entry.trunks and (entry.callers or entry.called):
            for selector in entry.selectors():
                few = self._elsewhere.get(selector, ())
                if len(few) < NEAR:
                    self._elsewhere[selector] = (*few, entry)

    def _candidates(self, specific: RuleSet | None, default: RuleSet, met: Contradiction | None) -> Candidates:
        return Candidates(specific, default, None if met is None else self._conflict(met))

    def put(self, rule: DispatchRule) -> bool:
        """One rule new or changed. False, and nothing has changed, where all has to be built anew: something contradicts, or trunks that
        shared their rules do so no more."""
        entry = RuleEntry.of(self._next_position, rule, self._digest(rule.pin))
        before = self._by_id.get(entry.rule_id)
        if not self._changeable or entry.contradiction or "" in rule.trunk_ids:
            return False
        named = set(rule.trunk_ids)
        for candidates in self._of(entry):
            if not candidates.trunks <= named or not (candidates.specific or candidates.default).has_room_for(entry, before):
                return False
        if before is not None:
            self._take_out(before)
        self._next_position += 1
        self._by_id[entry.rule_id] = entry
        self._work_in(entry)
        self._renew_firsts(entry.rule_id)
        return True

    def remove(self, rule_id: str) -> bool:
        """One rule less, if it is there. False as `put`."""
        if not self._changeable:
            return False
        entry = self._by_id.pop(rule_id, None)
        if entry is not None:
            self._take_out(entry)
            self._renew_firsts(rule_id)
        return True

    def _of(self, entry: RuleEntry) -> list[Candidates]:
        """What it belongs to, each once."""
        if not entry.trunk_ids:
            return [self._default_only]
        found = {id(candidates): candidates for trunk_id in entry.trunk_ids if (candidates := self._by_trunk.get(trunk_id)) is not None}
        return list(found.values())

    def _work_in(self, entry: RuleEntry) -> None:
        for candidates in self._of(entry):
            (candidates.specific or candidates.default).add(entry)
        for trunk_id in entry.trunk_ids:
            if trunk_id not in self._by_trunk:
                self._by_trunk[trunk_id] = Candidates(RuleSet([entry]), self._default, None, trunks={trunk_id})
        self._show_elsewhere(entry)

    def _take_out(self, entry: RuleEntry) -> None:
        for candidates in self._of(entry):
            if (candidates.specific or candidates.default).remove(entry):
                for trunk_id in candidates.trunks:
                    del self._by_trunk[trunk_id]
        if entry.trunks and (entry.callers or entry.called):
            for selector in entry.selectors():
                few = tuple(other for other in self._elsewhere.get(selector, ()) if other is not entry)
                if few:
                    self._elsewhere[selector] = few
                else:
                    self._elsewhere.pop(selector, None)

    def _renew_firsts(self, rule_id: str) -> None:
        self._without_trunk.few = tuple(islice(self._by_id.values(), NEAR))
        if rule_id in self._by_rule:
            entry = self._by_id.get(rule_id)
            self._by_rule[rule_id] = self._of_number([] if entry is None else [entry])

    def _conflict(self, found: Contradiction) -> Conflict:
        """The same rules may contradict each other in the eyes of many trunks: it is said once."""
        conflict = self._words.get(found)
        if conflict is None:
            later = self._entries[found[0]]
            if found[1] < 0:
                conflict = Conflict(later.rule.sip_dispatch_rule_id, later.rule.sip_dispatch_rule_id, later.contradiction)
            else:
                conflict = rules_contradict(self._entries[found[1]].rule, later.rule)
            self._words[found] = conflict
        return conflict

    def find(self, ask: Ask, own_rule: str = "") -> RuleAnswer:
        """`own_rule`: the only one to ask, of a phone number that names it."""
        digest = self._digest(ask.pin) if ask.pin and not ask.no_pin else None
        if own_rule:
            candidates = self._by_rule[own_rule]
        elif ask.trunk_id:
            candidates = self._by_trunk.get(ask.trunk_id, self._default_only)
        else:
            candidates = self._without_trunk
        chosen: RuleEntry | None = None
        buckets: list[Bucket] = []
        if candidates.conflict is None:
            if candidates.specific is not None:
                buckets = candidates.specific.buckets(ask)
                chosen = best_of(buckets, digest, ask.no_pin)
            if chosen is None:
                of_any = candidates.default.buckets(ask)
                chosen = best_of(of_any, digest, ask.no_pin)
                buckets += of_any
        return RuleAnswer(chosen, candidates, buckets, ask, digest)

    def near(self, answer: RuleAnswer) -> Iterator[RuleEntry]:
        """The nearest first, some perhaps twice: those whose numbers fit (so that the priority or the PIN decided), those that fail by one
        number, those with these numbers for another trunk; and where nothing was chosen the first of all."""
        ask, sets = answer.ask, answer.candidates.sets()
        for bucket in answer.buckets:
            yield from bucket.first
        for rules in sets:
            yield from rules.one_number_away(ask)
        if answer.chosen is not None and answer.chosen.trunks:  # rules for any trunk were not asked
            for bucket in answer.candidates.default.buckets(ask):
                yield from bucket.first
        if answer.candidates.all_rules:
            for selector in ((ask.caller, ask.called), (ask.caller, None), (None, ask.called)):
                yield from self._elsewhere.get(selector, ())
        if answer.chosen is None:
            yield from answer.candidates.first


def _first_by_key(entries: Iterable[RuleEntry]) -> dict[Key, int]:
    taken: dict[Key, int] = {}
    for entry in entries:
        for key in entry.conflict_keys():
            taken.setdefault(key, entry.position)
    return taken


def _first_across(nameless: Iterable[RuleEntry], default_keys: Mapping[Key, int]) -> Contradiction | None:
    pairs = ((entry.position, default_keys[key]) for entry in nameless for key in entry.conflict_keys() if key in default_keys)
    return min(((max(pair), min(pair)) for pair in pairs), default=None)


def _first(found: Iterable[Contradiction | None]) -> Contradiction | None:
    return min((contradiction for contradiction in found if contradiction is not None), default=None)
