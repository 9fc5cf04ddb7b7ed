"""Which dispatch rule is a call's? (livekit-sip-semantics.md §2.4)"""

import hmac
from collections.abc import Iterable
from typing import NamedTuple

from bridge.dispatch.conflicts import RuleConflicts
from bridge.dispatch.trace import Mismatch
from bridge.model.rule import CalleeRule, DirectRule, DispatchRule, IndividualRule


class NoRule(Exception):  # noqa: N818  (an answer, not a fault)
    """No rule matches (failed_precondition)."""


class Ask(NamedTuple):
    """What a rule is asked: exact numbers, the trunk that matched ("" for none), and the PIN as far as it goes."""

    caller: str
    called: str
    trunk_id: str
    pin: str | None = None
    no_pin: bool = False

    def __repr__(self) -> str:
        return f"Ask(caller={self.caller!r}, called={self.called!r}, trunk_id={self.trunk_id!r}, no_pin={self.no_pin})"


def match_rule(rules: Iterable[DispatchRule], ask: Ask) -> DispatchRule:
    """The best rule. Raises NoRule; raises Conflict at the first contradiction among the candidates, whether it concerns this call or
    not (step 0). `rules`: the candidates in id order."""
    conflicts = RuleConflicts()
    best_specific: DispatchRule | None = None
    best_default: DispatchRule | None = None
    for rule in rules:
        conflicts.add(rule)
        if rule_mismatch(rule, ask) is not None:
            continue
        if rule.trunk_ids:
            best_specific = better(best_specific, rule)
        else:
            best_default = better(best_default, rule)
    best = best_specific or best_default
    if best is None:
        raise NoRule("no dispatch rule matches this call")
    return best


def rule_mismatch(rule: DispatchRule, ask: Ask) -> Mismatch | None:
    """Why this rule does not take this call; None when it may. Numbers are compared to the letter (trap 3)."""
    if rule.inbound_numbers and ask.caller not in rule.inbound_numbers:
        return Mismatch("inbound_numbers", ask.caller, rule.inbound_numbers)
    if rule.numbers and ask.called not in rule.numbers:
        return Mismatch("numbers", ask.called, rule.numbers)
    if not _pin_fits(rule.pin, ask):
        return pin_mismatch(ask, asked_for=bool(rule.pin))
    if rule.trunk_ids and (not ask.trunk_id or ask.trunk_id not in rule.trunk_ids):
        return Mismatch("trunk_ids", ask.trunk_id, rule.trunk_ids)
    return None


def _pin_fits(pin: str, ask: Ask) -> bool:
    """Step 2: with no_pin open rules only, with a PIN the rules with that PIN only, else both kinds."""
    if ask.no_pin:
        return not pin
    return not ask.pin or (pin != "" and same_pin(pin, ask.pin))


def pin_mismatch(ask: Ask, *, asked_for: bool) -> Mismatch:
    """How a PIN that does not fit is spoken of: never by its digits. `asked_for`: the rule has one."""
    if ask.no_pin:
        return _NONE_ENTERED
    return _WRONG if asked_for else _ENTERED_IN_VAIN


_NONE_ENTERED = Mismatch("pin", "none was entered", ("asked for",))
_ENTERED_IN_VAIN = Mismatch("pin", "one was entered", ("none",))
_WRONG = Mismatch("pin", "the one entered", ("the rule's",))


def same_pin(one: str, other: str) -> bool:
    """Constant time: how much of a PIN is right must not be heard from how long the answer takes."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def priority(rule: DispatchRule) -> tuple[int, str]:
    """Smaller is better: the number, then the room's name or prefix."""
    kind = rule.rule.kind if rule.rule else None
    match kind:
        case DirectRule():
            base, name = 0, kind.room_name
        case IndividualRule():
            base, name = 1, kind.room_prefix
        case CalleeRule():
            base, name = 2, kind.room_prefix
        case _:
            base, name = 3, ""
    number = base + (0 if rule.pin else 100) + (0 if rule.inbound_numbers else 1000) + (0 if rule.numbers else 1000)
    return number, name


def better(best: DispatchRule | None, rule: DispatchRule) -> DispatchRule:
    """Full ties stay with the first."""
    return rule if best is None or priority(rule) < priority(best) else best


def candidates(rules: Iterable[DispatchRule], trunk_id: str) -> list[DispatchRule]:
    """Those that LiveKit would look at: of the matched trunk and of any trunk; without a trunk, all of them."""
    if not trunk_id:
        return list(rules)
    return [rule for rule in rules if not rule.trunk_ids or trunk_id in rule.trunk_ids]
