"""Which of many trunks or rules claim which calls, so that one more is checked against those alone that could contradict it.

The checks are `conflicts.py`'s (livekit-sip-semantics.md §2.3, §2.5), which go through all there is; here they cost what has changed. A set
that contradicts itself already is left to them: then it is they who say where.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from bridge.dispatch.conflicts import (
    Conflict,
    check_rules,
    check_trunks,
    own_contradiction,
    rule_keys,
    rules_contradict,
    trunk_keys,
    trunk_words,
)
from bridge.dispatch.numbers import normalize_number
from bridge.model.list_filter import filter_rules
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk

_Object = TypeVar("_Object")
_Key = TypeVar("_Key", bound=Hashable)


class Claims(Generic[_Object, _Key]):
    """The keys of the objects of one mapping, by id. `keys_of` gives each key once or more, `is_wrong` says of an object that it
    contradicts itself. Not for two threads at once."""

    def __init__(self, keys_of: Callable[[_Object], Iterable[_Key]], is_wrong: Callable[[_Object], bool] = lambda _: False) -> None:
        self._keys_of = keys_of
        self._is_wrong = is_wrong
        self._objects: Mapping[str, _Object] = {}
        self._owners: dict[_Key, dict[str, None]] = {}
        self._wrong: set[str] = set()
        self._shared: set[_Key] = set()

    @property
    def sound(self) -> bool:
        """Whether no object contradicts itself or another one."""
        return not self._wrong and not self._shared

    def follow(self, objects: Mapping[str, _Object]) -> None:
        """Have these instead. What is the same object as before costs a glance."""
        before = self._objects
        if objects is before:
            return
        for object_id, was in before.items():
            if objects.get(object_id) is not was:
                self._remove(object_id, was)
        for object_id, now in objects.items():
            if before.get(object_id) is not now:
                self._add(object_id, now)
        self._objects = objects

    def owner(self, keys: Iterable[_Key], besides: str) -> tuple[_Key, str] | None:
        """The first of these keys that an object with another id than `besides` has, and that object's id."""
        for key in keys:
            for owner in self._owners.get(key, ()):
                if owner != besides:
                    return key, owner
        return None

    def _add(self, object_id: str, added: _Object) -> None:
        if self._is_wrong(added):
            self._wrong.add(object_id)
        for key in self._keys_of(added):
            owners = self._owners.setdefault(key, {})
            owners[object_id] = None
            if len(owners) > 1:
                self._shared.add(key)

    def _remove(self, object_id: str, removed: _Object) -> None:
        self._wrong.discard(object_id)
        for key in self._keys_of(removed):
            owners = self._owners.get(key, {})
            owners.pop(object_id, None)
            if len(owners) < 2:
                self._shared.discard(key)
            if not owners:
                self._owners.pop(key, None)


class TrunkClaims:
    """`check`: whether a trunk may be put among others."""

    def __init__(self) -> None:
        self._claims = Claims(trunk_keys)

    def check(self, trunks: Mapping[str, InboundTrunk], trunk: InboundTrunk, shown_id: str) -> None:
        """`trunk` takes the place of the one with its id. `shown_id`: empty for a new one, which LiveKit calls `<new>`. Raises Conflict."""
        self._claims.follow(trunks)
        shown = trunk.model_copy(update={"sip_trunk_id": shown_id})
        if not self._claims.sound:
            check_trunks((*_near(trunks.values(), trunk), shown))
        elif found := self._claims.owner(trunk_keys(trunk), besides=trunk.sip_trunk_id):
            key, other_id = found
            raise Conflict(other_id, shown_id, trunk_words(key))


def _near(trunks: Iterable[InboundTrunk], trunk: InboundTrunk) -> Iterator[InboundTrunk]:
    """Those among which LiveKit looks: with a number of this one, or for any number. Contradictions elsewhere are not this one's."""
    numbers = {normalize_number(number) for number in trunk.numbers}
    for other in trunks:
        same = not numbers or not other.numbers or not numbers.isdisjoint(normalize_number(number) for number in other.numbers)
        if same and other.sip_trunk_id != trunk.sip_trunk_id:
            yield other


class RuleClaims:
    """`check`: whether a rule may be put among others."""

    def __init__(self) -> None:
        self._claims = Claims(rule_keys, lambda rule: bool(own_contradiction(rule)))

    def check(self, rules: Mapping[str, DispatchRule], rule: DispatchRule, shown_id: str, among: Collection[str] = ()) -> None:
        """As `TrunkClaims.check`. `among`: only the rules for these trunks and for any. Raises Conflict."""
        self._claims.follow(rules)
        shown = rule.model_copy(update={"sip_dispatch_rule_id": shown_id})
        if not self._claims.sound or (among and set(among) != set(rule.trunk_ids)):
            others = [other for other_id, other in rules.items() if other_id != rule.sip_dispatch_rule_id]
            near = [other for other in filter_rules(others, (), tuple(among)) if other is not None] if among else others
            check_rules((*near, shown))
            return
        check_rules([shown])
        if found := self._claims.owner(rule_keys(rule), besides=rule.sip_dispatch_rule_id):
            raise rules_contradict(rules[found[1]], shown)
