"""Two stores as one: what stands in roomline.yaml always counts and is read-only, the rest lives in the store that the operator named."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from bridge.store.file import FileStore
from bridge.store.inventory import BY_MODEL, KINDS
from bridge.store.port import Edit, Inventory, ReadOnlyObject, WatchedStore


class CombinedStore:
    """An ObjectStore. An id that stands in both is the file's."""

    def __init__(self, configured: FileStore, store: WatchedStore) -> None:
        self._configured = configured
        self._store = store

    @property
    def writable(self) -> bool:
        return self._store.writable

    @property
    def trouble(self) -> str:
        return "\n".join(trouble for trouble in (self._configured.trouble, self._store.trouble) if trouble)

    async def read(self) -> Inventory:
        return combined(await self._configured.read(), await self._store.read())

    async def change(self, decide: Callable[[Inventory], Edit]) -> Inventory:
        """Raises ReadOnlyObject, which says where it stands, for an edit of an object in the file."""
        configured = await self._configured.read()

        def of_both(stored: Inventory) -> Edit:
            edit = decide(combined(configured, stored))
            self._refuse_configured(edit)
            return edit

        return combined(configured, await self._store.change(of_both))

    def _refuse_configured(self, edit: Edit) -> None:
        """In whatever thread the store decides: reads only."""
        touched = [(BY_MODEL[model], object_id) for model, object_id in edit.delete]
        touched += [(BY_MODEL[type(found)], BY_MODEL[type(found)].id_of(found)) for found in edit.put]
        for kind, object_id in touched:
            if where := self._configured.where(kind, object_id):
                raise ReadOnlyObject(f"{object_id} stands in {where}: change it there")

    async def changes(self) -> AsyncIterator[Inventory]:
        news = asyncio.Event()
        latest: dict[int, Inventory] = {}

        async def follow(place: int, store: FileStore | WatchedStore) -> None:
            async for inventory in store.changes():
                latest[place] = inventory
                news.set()

        following = {asyncio.create_task(follow(place, store)) for place, store in enumerate((self._configured, self._store))}
        try:
            while True:
                hearing = asyncio.create_task(news.wait())
                try:
                    done, _ = await asyncio.wait({hearing, *following}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    hearing.cancel()
                for ended in done - {hearing}:
                    ended.result()  # it ends by a fault of ours only
                news.clear()
                if len(latest) == len(following):
                    yield combined(latest[0], latest[1])
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)


def combined(configured: Inventory, stored: Inventory) -> Inventory:
    """Both; an id that stands in both is the configured one's."""
    changed = {}
    for kind in KINDS:
        if of_file := kind.of(configured):
            changed[kind.place] = {**kind.of(stored), **of_file}
    return replace(stored, **changed) if changed else stored
