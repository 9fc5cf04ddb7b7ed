"""What contradicts itself in a set of trunks and rules (livekit-sip-semantics.md §2.3, §2.5), and what an operator should know of."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from bridge.dispatch.addresses import is_valid_mask, parse_mask
from bridge.dispatch.directory import Directory
from bridge.dispatch.numbers import normalize_number
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import PIN_LENGTH, DispatchRule, can_be_entered
from bridge.model.trunk import InboundTrunk


class Conflict(Exception):  # noqa: N818  (says what it is)
    """Two objects (or one with itself) claim the same calls: invalid_argument at create, 503 at call time."""

    def __init__(self, first: str, second: str, what: str) -> None:
        super().__init__(f"{first or '<new>'} and {second or '<new>'} conflict: {what}")
        self.first = first
        self.second = second


TrunkKey = tuple[str, str]
RuleKey = tuple[str, str, str, str]


def trunk_keys(trunk: InboundTrunk) -> Iterator[TrunkKey]:
    """Called number × allowed number, normalised; duplicates in one trunk are one."""
    numbers = {normalize_number(number) for number in trunk.numbers} or {""}
    callers = {normalize_number(number) for number in trunk.allowed_numbers} or {""}
    return product(numbers, callers)


def check_trunks(trunks: Iterable[InboundTrunk]) -> None:
    """Raises Conflict for two different ids on one key (§2.3)."""
    taken: dict[TrunkKey, str] = {}
    for trunk in trunks:
        for key in trunk_keys(trunk):
            other = taken.setdefault(key, trunk.sip_trunk_id)
            if other != trunk.sip_trunk_id:
                raise Conflict(other, trunk.sip_trunk_id, trunk_words(key))


def rule_keys(rule: DispatchRule) -> Iterator[RuleKey]:
    """Trunk × calling number × called number × PIN; duplicates are *not* one: such a rule conflicts with itself (trap 7)."""
    callers = [normalize_number(number) for number in rule.inbound_numbers] or [""]
    numbers = [normalize_number(number) for number in rule.numbers] or [""]
    return product(rule.trunk_ids or ("",), callers, numbers, (rule.pin,))


def own_contradiction(rule: DispatchRule) -> str:
    """How a rule contradicts itself, "" if it does not: it is of no kind, or one of its lists names something twice (trap 7)."""
    if rule.rule is None or rule.rule.kind is None:
        return "the rule is of no kind that is known"
    lists: tuple[tuple[str, Sequence[str]], ...] = (
        ("trunk", rule.trunk_ids),
        ("calling number", [normalize_number(number) for number in rule.inbound_numbers]),
        ("called number", [normalize_number(number) for number in rule.numbers]),
    )
    for what, values in lists:
        if len(set(values)) != len(values):
            twice = next(value for position, value in enumerate(values) if value in values[:position])
            return f"{what} {twice!r} is named twice"
    return ""


def rules_contradict(first: DispatchRule, second: DispatchRule) -> Conflict:
    """The Conflict of two rules that share a key."""
    keys = (_common(side) for side in zip(_sides(first), _sides(second), strict=True))
    trunk, caller, number = keys
    return Conflict(first.sip_dispatch_rule_id, second.sip_dispatch_rule_id, _rule_words((trunk, caller, number, second.pin)))


def _sides(rule: DispatchRule) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    return (
        rule.trunk_ids or ("",),
        [normalize_number(number) for number in rule.inbound_numbers] or [""],
        [normalize_number(number) for number in rule.numbers] or [""],
    )


def _common(side: tuple[Sequence[str], Sequence[str]]) -> str:
    of_first = frozenset(side[0])
    return next(value for value in side[1] if value in of_first)


class RuleConflicts:
    """The check of §2.5, one rule after the other. It ends at the first rule that contradicts itself or one before it; of those before it
    the first is named."""

    def __init__(self) -> None:
        self._rules: list[DispatchRule] = []
        self._taken: dict[RuleKey, int] = {}

    def add(self, rule: DispatchRule) -> None:
        """Raises Conflict."""
        contradiction = own_contradiction(rule)
        if contradiction:
            raise Conflict(rule.sip_dispatch_rule_id, rule.sip_dispatch_rule_id, contradiction)
        keys = list(rule_keys(rule))
        before = min((self._taken[key] for key in keys if key in self._taken), default=None)
        if before is not None:
            raise rules_contradict(self._rules[before], rule)
        self._taken.update(dict.fromkeys(keys, len(self._rules)))
        self._rules.append(rule)


def check_rules(rules: Iterable[DispatchRule]) -> None:
    """Raises the first Conflict."""
    conflicts = RuleConflicts()
    for rule in rules:
        conflicts.add(rule)


def check_own_numbers(trunks: Iterable[InboundTrunk], numbers: Iterable[PhoneNumber]) -> None:
    """A call to a number of our own never reaches a trunk: one with that number would lose its password. Raises Conflict."""
    own = {normalize_number(number.e164_format): number for number in numbers if number.takes_calls}
    for trunk in trunks if own else ():
        for called in trunk.numbers:
            if number := own.get(normalize_number(called)):
                what = f"{number.e164_format} is a phone number of its own, calls to which would go past the trunk's password and addresses"
                raise Conflict(number.id, trunk.sip_trunk_id, what)


def numbers_without_trunk(directory: Directory) -> Mapping[str, PhoneNumber]:
    """The phone numbers whose calls need no trunk, normalised; of several of one number the first. One that a trunk names too is none of
    them: whoever let both be, a call to it has to pass the trunk's password and addresses."""
    of_trunks = {normalize_number(number) for trunk in directory.trunks for number in trunk.numbers}
    found: dict[str, PhoneNumber] = {}
    for number in directory.phone_numbers:
        normal = normalize_number(number.e164_format)
        if number.takes_calls and normal not in of_trunks:
            found.setdefault(normal, number)
    return found


class Severity(StrEnum):
    """Whether calls suffer."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in the operator's set. `place` is where (as `Name` says it), `text` what, and what to do."""

    severity: Severity
    place: str
    text: str


Name = Callable[[str, int], str]
"""What an object is called: from its section (`trunks`, `dispatch_rules`, `phone_numbers`) and its place in the order given."""


def by_place(section: str, position: int) -> str:
    """`dispatch_rules[2]`."""
    return f"{section}[{position}]"


def problems(directory: Directory, name: Name = by_place, *, complete: bool = True) -> tuple[Problem, ...]:
    """Everything wrong with a set, in the order in which it was given. `complete`: there are no other objects, so that what is named and
    not there is wrong too."""
    return (
        *_trunk_problems(directory.trunks, name),
        *_rule_problems(directory.rules, name),
        *_number_problems(directory, name),
        *(_missing(directory, name) if complete else ()),
    )


def _trunk_problems(trunks: tuple[InboundTrunk, ...], name: Name) -> Iterator[Problem]:
    taken: dict[TrunkKey, int] = {}
    for position, trunk in enumerate(trunks):
        place = name("trunks", position)
        for key in trunk_keys(trunk):
            other = taken.setdefault(key, position)
            if other != position:
                yield Problem(
                    Severity.ERROR,
                    place,
                    f"takes the same calls as {name('trunks', other)} ({trunk_words(key)}); no call could be decided",
                )
                break
        if bool(trunk.auth_username) != bool(trunk.auth_password):
            yield Problem(Severity.WARNING, place, "has only one of auth_username and auth_password: no caller is asked for credentials")
        masks = trunk.allowed_addresses
        broken = [mask for mask in masks if not is_valid_mask(mask)]
        if masks and len(broken) == len(masks):
            yield Problem(
                Severity.ERROR, f"{place}.allowed_addresses", "no entry can be an address, so everybody is admitted (as in LiveKit)"
            )
        elif broken:
            yield Problem(Severity.WARNING, f"{place}.allowed_addresses", f"these entries are passed over: {', '.join(broken)}")
        for mask in masks:
            if is_valid_mask(mask) and "/" in mask and parse_mask(mask) is None:
                yield Problem(Severity.ERROR, f"{place}.allowed_addresses", f"{mask!r} is no address and no network")


def _rule_problems(rules: tuple[DispatchRule, ...], name: Name) -> Iterator[Problem]:
    taken: dict[RuleKey, int] = {}
    for position, rule in enumerate(rules):
        place = name("dispatch_rules", position)
        if rule.rule is None or rule.rule.kind is None:
            text = "says no room: give it a dispatch_rule_direct, dispatch_rule_individual or dispatch_rule_callee"
            yield Problem(Severity.ERROR, f"{place}.rule", text)
            continue
        for key in rule_keys(rule):
            other = taken.setdefault(key, position)
            if other != position:
                text = f"takes the same calls as {name('dispatch_rules', other)} ({_rule_words(key)}); every call that sees both gets 503"
                yield Problem(Severity.ERROR, place, text)
                break
        contradiction = own_contradiction(rule)
        if contradiction:
            text = f"conflicts with itself, so that every call that sees it gets 503: {contradiction}"
            yield Problem(Severity.ERROR, place, text)
        if rule.pin and not can_be_entered(rule.pin):
            text = f"this PIN can never be entered: callers can press at most {PIN_LENGTH} of 0-9, * and a-d"
            yield Problem(Severity.ERROR, f"{place}.rule", text)
        if "" in rule.trunk_ids:
            yield Problem(Severity.ERROR, f"{place}.trunk_ids", "holds an empty id; leave trunk_ids out for a rule for any trunk")


def _missing(directory: Directory, name: Name) -> Iterator[Problem]:
    trunks = {trunk.sip_trunk_id for trunk in directory.trunks}
    for position, rule in enumerate(directory.rules):
        for trunk_id in rule.trunk_ids:
            if trunk_id and trunk_id not in trunks:
                yield Problem(Severity.WARNING, f"{name('dispatch_rules', position)}.trunk_ids", f"there is no trunk {trunk_id!r}")
    rules = {rule.sip_dispatch_rule_id for rule in directory.rules}
    for position, number in enumerate(directory.phone_numbers):
        rule_id = number.sip_dispatch_rule_id
        if number.takes_calls and rule_id and rule_id not in rules:
            yield Problem(Severity.ERROR, name("phone_numbers", position), f"there is no dispatch rule {rule_id!r}: its callers get 404")


def _number_problems(directory: Directory, name: Name) -> Iterator[Problem]:
    trunk_of = {normalize_number(number): trunk.sip_trunk_id for trunk in directory.trunks for number in trunk.numbers}
    known_rules = {rule.sip_dispatch_rule_id: bool(rule.trunk_ids) for rule in directory.rules}
    taken: dict[str, int] = {}
    for position, number in enumerate(directory.phone_numbers):
        place, normal = name("phone_numbers", position), normalize_number(number.e164_format)
        if not number.takes_calls:
            continue
        if normal in trunk_of:
            text = f"{number.e164_format} is also a number of trunk {trunk_of[normal]}"
            yield Problem(Severity.ERROR, place, f"{text}: calls to it go by that trunk, or they would get round its password")
        other = taken.setdefault(normal, position)
        if other != position:
            yield Problem(Severity.ERROR, place, f"{number.e164_format} is {name('phone_numbers', other)} already")
        if known_rules.get(number.sip_dispatch_rule_id):
            text = f"its dispatch rule {number.sip_dispatch_rule_id!r} is for calls through trunks; a call to a phone number has none"
            yield Problem(Severity.ERROR, place, text)


def trunk_words(key: TrunkKey) -> str:
    return f"called number {key[0] or 'any'}, caller {key[1] or 'any'}"


def _rule_words(key: RuleKey) -> str:
    trunk, caller, number, pin = key
    return f"trunk {trunk or 'any'}, caller {caller or 'any'}, called number {number or 'any'}, {'the same PIN' if pin else 'no PIN'}"
