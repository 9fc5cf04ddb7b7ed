"""Dispatch rules that share a trunk, or are for any, compiled: the best one for a pair of numbers and a PIN, and those that nearly are.

One rule more or less costs as much as that rule is long, as long as no two contradict: then each key of §2.5 has one rule, and nothing
has to be searched for. Which rules share a trunk is `rule_index.py`'s.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

from bridge.dispatch import rules as rule_match
from bridge.dispatch.conflicts import own_contradiction
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
    rank: tuple[tuple[int, str], str, int]
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
        rank = rule_match.priority(rule), rule.sip_dispatch_rule_id, position
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

    def remove(self, entry: RuleEntry) -> bool:
        """Of rules that do not contradict one another. Whether the bucket is empty now."""
        if entry.digest is None:
            self.best_open = None
        elif self.by_pin is not None:
            del self.by_pin[entry.digest]
        if entry is self.best:
            self.best = min(self._all(), key=lambda other: other.rank, default=None)
        if entry in self.first:
            self.first = tuple(islice(self._all(), NEAR + 1))
        return self.best is None

    def _all(self) -> Iterator[RuleEntry]:
        if self.best_open is not None:
            yield self.best_open
        if self.by_pin is not None:
            yield from self.by_pin.values()

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

    def remove(self, number: str | None, entry: RuleEntry) -> None:
        """There may be others now that are not among the few: a trace tells of a few, not of which."""
        few = tuple(other for other in self._of.get(number, ()) if other is not entry)
        if few:
            self._of[number] = few
        else:
            self._of.pop(number, None)

    def near(self, number: str) -> tuple[RuleEntry, ...]:
        return (*self._of.get(number, ()), *self._of.get(None, ()))


class RuleSet:
    """Rules that share a trunk, or that are for any."""

    __slots__ = ("_away", "_buckets", "_few", "_taken", "contradiction", "first")

    def __init__(self, entries: Sequence[RuleEntry]) -> None:
        self.first = tuple(entries[:NEAR])
        self._taken: dict[Key, RuleEntry] = {}
        self.contradiction = first_contradiction(entries, self._taken)
        self._buckets: dict[Selector, Bucket] = {}
        for entry in entries:
            for selector in entry.selectors():
                self._buckets.setdefault(selector, Bucket()).add(entry)
        # A trunk with few rules, as most have, is seen at a glance; else there is a list for each number.
        few = len(entries) <= FEW_RULES
        self._few = tuple(sorted(entries, key=lambda entry: entry.rank)) if few else ()
        self._away = None if few else _one_number_away(entries)

    def has_room_for(self, entry: RuleEntry, instead_of: RuleEntry | None) -> bool:
        """Whether it contradicts none of the others."""
        return all(self._taken.get(key, instead_of) is instead_of for key in entry.conflict_keys())

    def add(self, entry: RuleEntry) -> None:
        """One there is room for."""
        self._taken.update(dict.fromkeys(entry.conflict_keys(), entry))
        for selector in entry.selectors():
            self._buckets.setdefault(selector, Bucket()).add(entry)
        if len(self.first) < NEAR:
            self.first = (*self.first, entry)
        if self._away is not None:
            for postings, number in _away_places(entry, self._away):
                postings.add(number, entry)
            return
        self._few = tuple(sorted((*self._few, entry), key=lambda other: other.rank))
        if len(self._few) > FEW_RULES:
            self._away, self._few = _one_number_away(self._few), ()

    def remove(self, entry: RuleEntry) -> bool:
        """Whether it is empty now."""
        for key in entry.conflict_keys():
            del self._taken[key]
        for selector in entry.selectors():
            if self._buckets[selector].remove(entry):
                del self._buckets[selector]
        if entry in self.first:
            self.first = tuple(islice(dict.fromkeys(islice(self._taken.values(), NEAR * SHORT)), NEAR))
        if self._away is not None:
            for postings, number in _away_places(entry, self._away):
                postings.remove(number, entry)
        self._few = tuple(other for other in self._few if other is not entry)
        return not self._taken

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
    away = Postings(), Postings()
    for entry in entries:
        for postings, number in _away_places(entry, away):
            postings.add(number, entry)
    return away


def _away_places(entry: RuleEntry, away: tuple[Postings, Postings]) -> Iterator[tuple[Postings, str | None]]:
    by_called, by_caller = away
    if entry.callers:
        for called in entry.called or (None,):
            yield by_called, called
    if entry.called:
        for caller in entry.callers or (None,):
            yield by_caller, caller


def best_of(buckets: Sequence[Bucket], digest: bytes | None, no_pin: bool) -> RuleEntry | None:
    best: RuleEntry | None = None
    for bucket in buckets:
        entry = bucket.find(digest, no_pin)
        if entry is not None:
            best = _better(best, entry)
    return best


def first_contradiction(entries: Iterable[RuleEntry], taken: dict[Key, RuleEntry] | None = None) -> Contradiction | None:
    """The first among rules that share a trunk, in order. Rules of one trunk share a key if and only if they share one of that trunk.
    `taken` gets the keys and whose they are."""
    taken = {} if taken is None else taken
    for entry in entries:
        if entry.contradiction:
            return entry.position, -1
        keys = list(entry.conflict_keys())
        before = min((taken[key].position for key in keys if key in taken), default=None)
        if before is not None:
            return entry.position, before
        taken.update(dict.fromkeys(keys, entry))
    return None
