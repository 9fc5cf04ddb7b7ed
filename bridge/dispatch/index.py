"""The same answers as `evaluate.PlainMatcher`, from an index compiled once, in microseconds at any size.

`trunk_index.py` and `rule_index.py` find; this module puts the answers and their traces together.

A trace tells, besides the trunk and the rule that were chosen, of the nearest others: those that would have been chosen if one thing had
been different. Of trunks: those that name the called number but not this caller or source; where none that names it takes the call, those
without numbers, and where none takes it at all, those that admit the source. Of rules: those that fit but for their priority or their
PIN, those that fail by one number (of a trunk with few rules: its best), and those with these numbers for another trunk. A few of each,
and never a search: `explain` tells of all.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import partial

from bridge.dispatch.conflicts import numbers_without_trunk
from bridge.dispatch.directory import Directory
from bridge.dispatch.evaluate import (
    chosen_rule,
    decide,
    no_rule,
    own_number,
    rule_candidate,
    rule_conflict,
    trunk_candidate,
    trunk_conflict,
    trunk_verdict,
)
from bridge.dispatch.numbers import normalize_number
from bridge.dispatch.outcome import Decision, Verdict
from bridge.dispatch.rule_index import RuleAnswer, RuleIndex
from bridge.dispatch.rule_set import NEAR
from bridge.dispatch.rules import Ask
from bridge.dispatch.trace import Candidate
from bridge.dispatch.trunk_index import TrunkAnswer, TrunkEntry, TrunkIndex
from bridge.dispatch.trunks import TrunkConflict
from bridge.model.caller import Caller
from bridge.model.rule import DispatchRule

DIGEST_SIZE = 16
"""Bytes of a PIN's digest."""


class Index:
    """Implements `outcome.Dispatcher`. A changed directory gets a new index; a few changed rules are worked into the one there is."""

    def __init__(self, directory: Directory, key: bytes = b"", *, same_rules: "Index | None" = None) -> None:
        """`same_rules`: an index with the very same rules, to be used no more: they are not gone through again if need not be."""
        self._unknown_trunks = directory.unknown_trunks
        # PINs are looked up by a digest: how much of one is right cannot be heard from how long the answer takes. `key` is chance's
        # part of it (at most 64 bytes), which comes from outside.
        self._phone_numbers = numbers_without_trunk(directory)
        own_rules = {number.sip_dispatch_rule_id for number in self._phone_numbers.values() if number.sip_dispatch_rule_id}
        self._trunks = TrunkIndex(directory.trunks_by_id())
        self._rules: RuleIndex
        if same_rules is not None and same_rules._rules.own_rules == own_rules:
            self._rules = same_rules._rules
        else:
            self._rules = RuleIndex(directory.rules_by_id(), own_rules, partial(_digest, key))

    def change_rules(self, put: Iterable[DispatchRule], remove: Iterable[str]) -> bool:
        """Between two calls, at a cost that does not grow with the other rules. False where a new index is needed (something contradicts,
        say): until then this one answers with some of the changes."""
        return all(self._rules.remove(rule_id) for rule_id in remove) and all(self._rules.put(rule) for rule in put)

    def authorise(self, caller: Caller) -> Verdict:
        called = normalize_number(caller.called)
        number = self._phone_numbers.get(called)
        if number is not None:
            return own_number(number)
        answer = self._trunks.find(caller, called)
        if len(answer.found) > 1:
            return trunk_conflict(TrunkConflict([entry.trunk.sip_trunk_id for entry in answer.found]))
        chosen = answer.found[0] if answer.found else None
        others = self._other_trunks(answer, chosen, caller)
        return trunk_verdict(chosen.trunk if chosen is not None else None, caller, self._unknown_trunks, others)

    def _other_trunks(self, answer: TrunkAnswer, chosen: TrunkEntry | None, caller: Caller) -> list[Candidate]:
        seen = [chosen]
        others: list[Candidate] = []
        for entry in self._trunks.near(answer):
            if entry not in seen:
                seen.append(entry)
                others.append(trunk_candidate(entry.trunk, self._trunks.mismatch(entry, answer, caller)))
                if len(others) == NEAR:
                    break
        return others

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
        own_rule = verdict.phone_number.sip_dispatch_rule_id if verdict.phone_number else ""
        ask = Ask(caller.number, caller.called, trunk_id, pin, no_pin)
        answer = self._rules.find(ask, own_rule)
        if answer.candidates.conflict is not None:
            return rule_conflict(answer.candidates.conflict)
        others = self._other_rules(answer)
        if answer.chosen is None:
            return no_rule(ask, others)
        rule = answer.chosen.rule
        return decide(verdict.trunk, rule, caller, ask, call_id, room_suffix, chosen_rule(rule, others))

    def _other_rules(self, answer: RuleAnswer) -> list[Candidate]:
        seen = [answer.chosen]
        others: list[Candidate] = []
        for entry in self._rules.near(answer):
            if entry not in seen:
                seen.append(entry)
                others.append(rule_candidate(entry.rule_id, entry.name, entry.mismatch(answer.ask, answer.digest)))
                if len(others) == NEAR:
                    break
        return others


def _digest(key: bytes, pin: str) -> bytes | None:
    # No method: an index that refers to itself would stay when another has taken its place, and nobody collects what was frozen (app.py).
    if not pin:
        return None
    return hashlib.blake2b(pin.encode("utf-8", "surrogatepass"), key=key, digest_size=DIGEST_SIZE).digest()
