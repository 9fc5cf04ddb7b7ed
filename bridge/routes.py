"""Which room a call goes to, kept in step with the objects that the operator configured: the compiled index of what was read last.

Calls ask `index`; who asks while a new one is built gets the answers of the old one.
"""

import asyncio
import gc
import secrets

import structlog

from bridge.dispatch.directory import UnknownTrunks
from bridge.dispatch.index import Index
from bridge.store.inventory import directory_of
from bridge.store.port import Inventory

log = structlog.get_logger(__name__)

NO_FULL_COLLECTION = 1 << 30
"""Collections of the middle generation before one of all there is."""


class Routes:
    """The index and what it was made of."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._following = asyncio.Lock()
        self._unknown_trunks = UnknownTrunks.ALLOW
        self.inventory = Inventory()
        self.index = Index(directory_of(self.inventory, self._unknown_trunks), self._key)

    async def follow(self, inventory: Inventory, unknown_trunks: UnknownTrunks) -> None:
        """Have these objects decide from now on. One time after the other, beside the calls."""
        async with self._following:
            if inventory is self.inventory and unknown_trunks is self._unknown_trunks:
                return
            self.index = await asyncio.to_thread(self._built, inventory, unknown_trunks)
            self.inventory, self._unknown_trunks = inventory, unknown_trunks
            # What was built stays: the collector need not walk it in the middle of a call. Without a collection before, which would hold
            # up the calls: the builder leaves little behind that is not collected young.
            gc.freeze()
            log.info(
                "these objects decide now",
                trunks=len(inventory.inbound_trunks) + len(inventory.legacy_trunks),
                rules=len(inventory.dispatch_rules),
                numbers=len(inventory.phone_numbers),
            )

    def rule_metadata(self, rule_id: str) -> str:
        """Empty when the rule is gone."""
        rule = self.inventory.dispatch_rules.get(rule_id)
        return rule.metadata if rule is not None else ""

    def _built(self, inventory: Inventory, unknown_trunks: UnknownTrunks) -> Index:
        """In a thread of its own. A full collection there would hold the whole process up, the longer the more there is: none is made
        meanwhile."""
        thresholds = gc.get_threshold()
        gc.set_threshold(*thresholds[:2], NO_FULL_COLLECTION)
        try:
            return Index(directory_of(inventory, unknown_trunks), self._key)
        finally:
            gc.set_threshold(*thresholds)
