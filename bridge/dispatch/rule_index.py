"""Dispatch rules, compiled: the best one for a call, and those that nearly are, without looking at the others.

A rule is found by its trunk, then by the exact pair of calling and called number (each may be "any"), then by its PIN. Which contradiction
a call meets depends on its trunk only, and is known from the build.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from bridge.dispatch import rules as rule_match
from bridge.dispatch.conflicts import Conflict, check_rules, own_contradiction, rules_contradict
from bridge.dispatch.numbers import normalize_number
from bridge.dispatch.rules import Ask
from bridge.dispatch.trace import Mismatch
from bridge.model.rule import DispatchRule

NEAR = 3
"""Trunks and rules that a live call's trace tells of besides the chosen one; `explain` tells of all."""

SHORT = 8
"""Entries of a list that are compared faster one by one than looked up."""

FEW_RULES = 16
"""Rules of one trunk that a trace goes through without lists of them by number."""

Selector = tuple[str | None, str | None]
"""Calling and called number of a rule; None is any."""

Key = tuple[str, str, str]
"""`conflicts.RuleKey` within one trunk: calling number, called number, PIN."""

Contradiction = tuple[int, int]
"""The later and the earlier of two rules, by position; -1 for a rule that contradicts itself. The smallest is the first that is met."""


@dataclass(slots=True, eq=False)
class RuleEntry:
    """A rule, its place in the order of all, its rank (smaller is better), its PIN's digest, and how it contradicts itself ("": not). What
    a trace needs lies here too: a rule that is not chosen is not touched, and memory that is not touched costs no time."""

    position: int
    rule: DispatchRule
    rule_id: str
    name: str
    rank: tuple[tuple[int, str], int]
    digest: bytes | None
    contradiction: str
    inbound_numbers: tuple[str, ...]
    numbers: tuple[str, ...]
    trunk_ids: tuple[str, ...]
    callers: Collection[str]
    called: Collection[str]
    trunks: Collection[str]

    @classmethod
    def of(cls, position: int, rule: DispatchRule, digest: bytes | None) -> "RuleEntry":
        rank = rule_match.priority(rule), position
        lists = (rule.inbound_numbers, rule.numbers, rule.trunk_ids)
        looked_up = (_looked_up(values) for values in lists)
        contradiction = own_contradiction(rule)
        return cls(position, rule, rule.sip_dispatch_rule_id, rule.name, rank, digest, contradiction, *lists, *looked_up)

    def selectors(self) -> Iterator[Selector]:
        callers: Iterable[str | None] = dict.fromkeys(self.rule.inbound_numbers) or (None,)
        called: Iterable[str | None] = dict.fromkeys(self.rule.numbers) or (None,)
        return product(callers, called)

    def conflict_keys(self) -> Iterator[Key]:
        callers = dict.fromkeys(map(normalize_number, self.rule.inbound_numbers)) or ("",)
        called = dict.fromkeys(map(normalize_number, self.rule.numbers)) or ("",)
        return product(callers, called, (self.rule.pin,))

    def mismatch(self, ask: Ask, digest: bytes | None) -> Mismatch | None:
        """`rules.rule_mismatch`, without looking through long lists."""
        if self.callers and ask.caller not in self.callers:
            return Mismatch("inbound_numbers", ask.caller, self.inbound_numbers)
        if self.called and ask.called not in self.called:
            return Mismatch("numbers", ask.called, self.numbers)
        if (self.digest is not None) if ask.no_pin else (digest is not None and self.digest != digest):
            return rule_match.pin_mismatch(ask, asked_for=self.digest is not None)
        if self.trunks and (not ask.trunk_id or ask.trunk_id not in self.trunks):
            return Mismatch("trunk_ids", ask.trunk_id, self.trunk_ids)
        return None


def _looked_up(values: Sequence[str]) -> Collection[str]:
    return values if len(values) <= SHORT else frozenset(values)


class Bucket:
    """The rules of one selector: the best of all, the best without a PIN, the best of each PIN, and the first few."""

    __slots__ = ("best", "best_open", "by_pin", "first")

    def __init__(self) -> None:
        self.best: RuleEntry | None = None
        self.best_open: RuleEntry | None = None
        self.by_pin: dict[bytes, RuleEntry] | None = None
        self.first: tuple[RuleEntry, ...] = ()

    def add(self, entry: RuleEntry) -> None:
        self.best = _better(self.best, entry)
        if entry.digest is None:
            self.best_open = _better(self.best_open, entry)
        else:
            self.by_pin = self.by_pin if self.by_pin is not None else {}
            self.by_pin[entry.digest] = _better(self.by_pin.get(entry.digest), entry)
        if len(self.first) <= NEAR:
            self.first = (*self.first, entry)

    def find(self, digest: bytes | None, no_pin: bool) -> RuleEntry | None:
        if no_pin:
            return self.best_open
        if digest is None:
            return self.best
        return self.by_pin.get(digest) if self.by_pin is not None else None


def _better(one: RuleEntry | None, other: RuleEntry) -> RuleEntry:
    return one if one is not None and one.rank <= other.rank else other


class Postings:
    """The first few rules for each number."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[str | None, tuple[RuleEntry, ...]] = {}

    def add(self, number: str | None, entry: RuleEntry) -> None:
        few = self._of.get(number, ())
        if len(few) < NEAR:
            self._of[number] = (*few, entry)

    def near(self, number: str) -> tuple[RuleEntry, ...]:
        return (*self._of.get(number, ()), *self._of.get(None, ()))


class RuleSet:
    """Rules that share a trunk, or that are for any."""

    __slots__ = ("_away", "_buckets", "_few", "contradiction", "first")

    def __init__(self, entries: Sequence[RuleEntry]) -> None:
        self.first = tuple(entries[:NEAR])
        self.contradiction = first_contradiction(entries)
        self._buckets: dict[Selector, Bucket] = {}
        for entry in entries:
            for selector in entry.selectors():
                self._buckets.setdefault(selector, Bucket()).add(entry)
        # A trunk with few rules, as most have, is seen at a glance; else there is a list for each number.
        few = len(entries) <= FEW_RULES
        self._few = tuple(sorted(entries, key=lambda entry: entry.rank)) if few else ()
        self._away = None if few else _one_number_away(entries)

    def buckets(self, ask: Ask) -> list[Bucket]:
        """Those whose numbers fit, the narrowest first."""
        of = self._buckets
        found = (of.get((ask.caller, ask.called)), of.get((ask.caller, None)), of.get((None, ask.called)), of.get((None, None)))
        return [bucket for bucket in found if bucket is not None]

    def one_number_away(self, ask: Ask) -> tuple[RuleEntry, ...]:
        """Of few rules all, the best first."""
        if self._away is None:
            return self._few
        by_called, by_caller = self._away
        return by_called.near(ask.called) + by_caller.near(ask.caller)


def _one_number_away(entries: Iterable[RuleEntry]) -> tuple[Postings, Postings]:
    """Rules that want a calling number, by the called one, and the other way round."""
    by_called, by_caller = Postings(), Postings()
    for entry in entries:
        if entry.callers:
            for called in entry.called or (None,):
                by_called.add(called, entry)
        if entry.called:
            for caller in entry.callers or (None,):
                by_caller.add(caller, entry)
    return by_called, by_caller


def best_of(buckets: Sequence[Bucket], digest: bytes | None, no_pin: bool) -> RuleEntry | None:
    best: RuleEntry | None = None
    for bucket in buckets:
        entry = bucket.find(digest, no_pin)
        if entry is not None:
            best = _better(best, entry)
    return best


@dataclass(slots=True, eq=False)
class Candidates:
    """What the calls of one trunk, of none, or of one phone number choose from; `conflict` is what they meet instead. `first`: the first
    few that are looked at; `all_rules`: whether every rule might have been."""

    specific: RuleSet | None
    default: RuleSet
    conflict: Conflict | None
    first: tuple[RuleEntry, ...]
    all_rules: bool = True

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
    """Immutable. `rules` in id order; `own_rules` are the ids that phone numbers name; `digest` hides PINs."""

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
        self._without_trunk = replace(self._candidates(None, self._default, of_all), first=tuple(self._entries[:NEAR]))
        self._build_by_rule(own_rules)
        self._build_elsewhere()

    def _build_by_trunk(self, by_trunk: dict[str, list[RuleEntry]], default_keys: dict[Key, int]) -> None:
        self._by_trunk: dict[str, Candidates] = {}
        made: dict[tuple[int, ...], Candidates] = {}
        for trunk_id, of_trunk in by_trunk.items():
            positions = tuple(entry.position for entry in of_trunk)
            if positions not in made:
                specific = RuleSet(of_trunk)
                across = _first_across([entry for entry in of_trunk if "" in entry.trunks], default_keys)
                met = _first([specific.contradiction, self._default.contradiction, across])
                made[positions] = self._candidates(specific, self._default, met)
            self._by_trunk[trunk_id] = made[positions]

    def _build_by_rule(self, own_rules: Collection[str]) -> None:
        by_id: dict[str, list[RuleEntry]] = {rule_id: [] for rule_id in own_rules}
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
        return Candidates(None, rules, conflict, tuple(entries[:NEAR]), all_rules=False)

    def _build_elsewhere(self) -> None:
        self._elsewhere: dict[Selector, tuple[RuleEntry, ...]] = {}
        for entry in self._entries:
            if entry.trunks and (entry.callers or entry.called):
                for selector in entry.selectors():
                    few = self._elsewhere.get(selector, ())
                    if len(few) < NEAR:
                        self._elsewhere[selector] = (*few, entry)

    def _candidates(self, specific: RuleSet | None, default: RuleSet, met: Contradiction | None) -> Candidates:
        first = specific.first + default.first if specific is not None else default.first
        return Candidates(specific, default, None if met is None else self._conflict(met), first)

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


def first_contradiction(entries: Iterable[RuleEntry]) -> Contradiction | None:
    """The first among rules that share a trunk, in order. Rules of one trunk share a key if and only if they share one of that trunk."""
    taken: dict[Key, int] = {}
    for entry in entries:
        if entry.contradiction:
            return entry.position, -1
        keys = list(entry.conflict_keys())
        before = min((taken[key] for key in keys if key in taken), default=None)
        if before is not None:
            return entry.position, before
        taken.update(dict.fromkeys(keys, entry.position))
    return None


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
