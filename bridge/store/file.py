"""The objects that stand in roomline.yaml, as a store that only its owner writes: read anew when the file changes. A file that is wrong
changes nothing, and that is said.

How the file is read is its caller's (`load`): this module knows when.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from bridge.dispatch.directory import UnknownTrunks
from bridge.errors import ConfigurationError
from bridge.store.inventory import Kind
from bridge.store.port import Edit, Inventory, ReadOnlyObject
from bridge.store.watch import Watch

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.5
"""Seconds between two looks at the file's date."""


@dataclass(frozen=True, slots=True)
class FileContents:
    """What the file says of calls. `places`: where each object stands (`roomline.yaml:12`), by the name of its kind and its id."""

    inventory: Inventory
    unknown_trunks: UnknownTrunks = UnknownTrunks.ALLOW
    places: Mapping[tuple[str, str], str] = field(default_factory=dict)


_Signature = tuple[int, int, int] | None
"""What changes when a file does: its inode (editors write a new one), size and date; None where there is none."""


class FileStore:
    """An ObjectStore. `load` reads and checks the whole file in a thread, or raises ConfigurationError; `contents` is what it gave last, at
    first what its owner has read already."""

    writable = False

    def __init__(self, path: Path, contents: FileContents, load: Callable[[], FileContents]) -> None:
        self._path = path
        self._load = load
        self._signature = _signature(path)
        self._loading = asyncio.Lock()
        self._watch = Watch(str(path), self.read, LOOK_EVERY)
        self.contents = contents
        self.trouble = ""

    def where(self, kind: Kind, object_id: str) -> str:
        """Where an object stands; empty when it is not of this file."""
        if object_id not in kind.of(self.contents.inventory):
            return ""
        return self.contents.places.get((kind.name, object_id), str(self._path))

    async def read(self) -> Inventory:
        async with self._loading:
            signature = _signature(self._path)
            if signature != self._signature:
                await self._read_anew(signature)
        return self.contents.inventory

    async def reload(self) -> None:
        """Read it though its date may be the same. One reading follows the other."""
        async with self._loading:
            await self._read_anew(_signature(self._path))
        self._watch.look_now()

    async def _read_anew(self, signature: _Signature) -> None:
        """Only what was read to its end counts as read: who asked may go away in the middle."""
        try:
            self.contents = await asyncio.to_thread(self._load)
        except ConfigurationError as error:
            self._signature = signature
            self.trouble = f"the configuration is wrong: what was read last stays\n{error}"
            log.error("the configuration is wrong: what was read last stays", error=str(error))
            return
        self._signature = signature
        self.trouble = ""
        inventory = self.contents.inventory
        log.info("trunks, rules and numbers read anew", trunks=len(inventory.inbound_trunks), rules=len(inventory.dispatch_rules))

    async def change(self, decide: Callable[[Inventory], Edit]) -> Inventory:
        """Decides, so that what is wrong with it is said first; and refuses every edit that would change something."""
        inventory = await self.read()
        edit = decide(inventory)
        if edit.put or edit.delete:
            raise ReadOnlyObject(f"the objects stand in {self._path} (store: file): change them there")
        return inventory

    def changes(self) -> AsyncIterator[Inventory]:
        return self._watch.changes()


def _signature(path: Path) -> _Signature:
    try:
        # A look at a date: microseconds, and on a network's file system no longer than reading the file would hold us up.
        found = os.stat(path)  # noqa: PTH116  (one call, no object)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
