"""Word of changes for stores that have to be asked: one look after the other, at once after a change of our own. While a store is away,
what was read last stays, and that is said once. The same goes for a look that fails by a fault of ours: whoever follows goes on following.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from bridge.errors import Unavailable
from bridge.store.port import Inventory

log = structlog.get_logger(__name__)


class Watch:
    """`look` gives the inventory as it is now, the very same object when nothing has changed, or raises Unavailable."""

    def __init__(self, name: str, look: Callable[[], Awaitable[Inventory]], every: float) -> None:
        self._name = name
        self._look = look
        self._every = every
        self._waiting: set[asyncio.Event] = set()
        self.trouble = ""
        """Why what was told last may be old; empty while all is well."""

    def look_now(self) -> None:
        """Something has changed: do not wait for the next look."""
        for event in self._waiting:
            event.set()

    async def changes(self) -> AsyncIterator[Inventory]:
        """As `ObjectStore.changes`."""
        told: Inventory | None = None
        wanted = asyncio.Event()
        self._waiting.add(wanted)
        try:
            while True:
                wanted.clear()
                inventory = await self._looked()
                if inventory is not None and inventory is not told:
                    told = inventory
                    yield inventory
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every):
                        await wanted.wait()
        finally:
            self._waiting.discard(wanted)

    async def _looked(self) -> Inventory | None:
        try:
            inventory = await self._look()
        except Unavailable as error:
            if not self.trouble:
                log.error("the store cannot be read: what was read last stays", store=self._name, error=str(error))
            self.trouble = str(error)
            return None
        except Exception:
            if not self.trouble:
                log.exception("a fault of ours while the store was read: what was read last stays", store=self._name)
            self.trouble = f"a fault of ours while {self._name} was read: the log has it"
            return None
        if self.trouble:
            log.info("the store can be read again", store=self._name)
            self.trouble = ""
        return inventory
