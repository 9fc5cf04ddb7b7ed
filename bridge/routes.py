"""Which room a call goes to, kept in step with the objects that the operator configured: the compiled index of what was read last.

Calls ask `index`; who asks while a new one is built gets the answers of the old one.
"""

import asyncio
import gc
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from bridge.call.registry import random_letters
from bridge.dispatch.directory import UnknownTrunks
from bridge.dispatch.explain import Explanation, explain
from bridge.dispatch.index import Index
from bridge.model.caller import Caller
from bridge.model.rule import DispatchRule
from bridge.store.inventory import directory_of
from bridge.store.port import Inventory

log = structlog.get_logger(__name__)

NO_FULL_COLLECTION = 1 << 30
"""Collections of the middle generation before one of all there is."""


FEW = 200
"""Changed rules that are worked into the index there is: some milliseconds. More are faster in a new one, beside the calls."""


@dataclass(frozen=True, slots=True)
class _ChangedRules:
    put: Sequence[DispatchRule]
    removed: Sequence[str]


class Routes:
    """The index and what it was made of."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._building = threading.Lock()
        self._following = asyncio.Lock()
        self._unknown_trunks = UnknownTrunks.ALLOW
        self.inventory = Inventory()
        self.index = Index(directory_of(self.inventory, self._unknown_trunks), self._key)

    async def follow(self, inventory: Inventory, unknown_trunks: UnknownTrunks) -> bool:
        """Have these objects decide from now on. One time after the other, beside the calls. A few changed rules cost little, however many
        others there are; returns whether there was more to it than that."""
        async with self._following:
            if inventory is self.inventory and unknown_trunks is self._unknown_trunks:
                return False
            change = await asyncio.to_thread(_changed_rules, self.inventory, inventory)
            # Here on the loop no call is in the middle of a question.
            in_place = (
                unknown_trunks is self._unknown_trunks
                and change is not None
                and len(change.put) + len(change.removed) <= FEW
                and self.index.change_rules(change.put, change.removed)
            )
            if not in_place:
                # The rules of the index there is need not be gone through again where only trunks or numbers have changed.
                same_rules = self.index if inventory.dispatch_rules is self.inventory.dispatch_rules else None
                self.index = await asyncio.to_thread(self._built, inventory, unknown_trunks, same_rules)
                # What was built stays: the collector need not walk it in the middle of a call. Without a collection before, which would
                # hold up the calls: the builder leaves little behind that is not collected young.
                gc.freeze()
            self.inventory, self._unknown_trunks = inventory, unknown_trunks
            log.info(
                "these objects decide now",
                trunks=len(inventory.inbound_trunks) + len(inventory.legacy_trunks),
                rules=len(inventory.dispatch_rules),
                numbers=len(inventory.phone_numbers),
            )
            return not in_place

    async def explain(self, caller: Caller, pin: str | None) -> Explanation:
        """What would become of this call, beside the calls there are. `pin`: what the caller enters; None before they are asked, "" for `#`
        alone."""
        inventory, unknown_trunks = self.inventory, self._unknown_trunks
        return await asyncio.to_thread(
            lambda: explain(directory_of(inventory, unknown_trunks), caller, room_suffix=random_letters, pin=pin or None, no_pin=pin == "")
        )

    def rule_metadata(self, rule_id: str) -> str:
        """Empty when the rule is gone."""
        rule = self.inventory.dispatch_rules.get(rule_id)
        return rule.metadata if rule is not None else ""

    def _built(self, inventory: Inventory, unknown_trunks: UnknownTrunks, same_rules: Index | None) -> Index:
        """In a thread of its own. A full collection there would hold the whole process up, the longer the more there is: none is made
        meanwhile. One after the other: whoever waited for the one before may have gone away."""
        with self._building:
            thresholds = gc.get_threshold()
            gc.set_threshold(*thresholds[:2], NO_FULL_COLLECTION)
            try:
                return Index(directory_of(inventory, unknown_trunks), self._key, same_rules=same_rules)
            finally:
                gc.set_threshold(*thresholds)


def _changed_rules(before: Inventory, after: Inventory) -> _ChangedRules | None:
    """None where something else has changed that decides calls."""
    for place in ("inbound_trunks", "legacy_trunks", "phone_numbers"):
        if getattr(before, place) != getattr(after, place):
            return None
    old, new = before.dispatch_rules, after.dispatch_rules
    put = [rule for rule_id, rule in new.items() if (was := old.get(rule_id)) is not rule and was != rule]
    return _ChangedRules(put, [rule_id for rule_id in old if rule_id not in new])
