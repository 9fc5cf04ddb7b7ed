"""LiveKit's objects in an SQLite file (`sqlite_file.py`): a row for each, and a number that counts every change.

A row remembers the number of the change that wrote it. So a reader whose file was changed by somebody else reads the new rows only, however
many there are, and a glance at one number says that nothing is new.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from bridge.store.inventory import BY_MODEL, BY_NAME, KINDS, Kind, edited
from bridge.store.port import Edit, Inventory, StoredObject
from bridge.store.sqlite_file import SqliteFile
from bridge.store.watch import Watch

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.3
"""Seconds between two glances at what others may have changed."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_by_revision ON objects (revision);
CREATE TABLE IF NOT EXISTS objects_revision (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO objects_revision VALUES (1, 0) ON CONFLICT DO NOTHING;
"""

_Key = tuple[str, str]
"""Kind and id of a row."""


class SqliteObjects(SqliteFile):
    """An ObjectStore. `async with SqliteObjects(path)`: opened and closed once, by its owner. What stands in a row and cannot be understood
    (a newer Roomline's) is passed over, said once, and left as it is."""

    writable = True

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA)
        # What the worker thread read last, and the change it is of.
        self._inventory = Inventory()
        self._revision = -1
        self._rows: set[_Key] = set()
        self._said: set[_Key] = set()
        self._watch = Watch(str(path), self.read, LOOK_EVERY)

    async def read(self) -> Inventory:
        return await self._run(self._read_latest)

    async def change(self, decide: Callable[[Inventory], Edit]) -> Inventory:
        inventory = await self._run(lambda: self._change(decide))
        self._watch.look_now()
        return inventory

    def changes(self) -> AsyncIterator[Inventory]:
        return self._watch.changes()

    @property
    def trouble(self) -> str:
        return self._watch.trouble

    # On the worker thread

    def _read_latest(self) -> Inventory:
        if self._stored_revision() != self._revision:
            with self._snapshot():
                self._catch_up(self._stored_revision())
        return self._inventory

    def _change(self, decide: Callable[[Inventory], Edit]) -> Inventory:
        with self._transaction():
            stored = self._stored_revision()
            self._catch_up(stored)
            edit = decide(self._inventory)
            changed = edited(self._inventory, edit)
            if changed is self._inventory:
                return changed
            for model, object_id in edit.delete:
                self._execute("DELETE FROM objects WHERE kind = ? AND id = ?", (BY_MODEL[model].name, object_id))
            for found in edit.put:
                kind = BY_MODEL[type(found)]
                row = (kind.name, kind.id_of(found), stored + 1, found.model_dump_json(exclude_defaults=True))
                self._execute("INSERT INTO objects VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET revision = ?3, body = ?4", row)
            self._execute("UPDATE objects_revision SET revision = ?", (stored + 1,))
        # Only now it is durable; until then the old one counted.
        self._inventory, self._revision = changed, stored + 1
        self._rows -= {(BY_MODEL[model].name, object_id) for model, object_id in edit.delete}
        self._rows |= {(BY_MODEL[type(found)].name, BY_MODEL[type(found)].id_of(found)) for found in edit.put}
        return changed

    def _stored_revision(self) -> int:
        return int(self._execute("SELECT revision FROM objects_revision").fetchone()[0])

    def _catch_up(self, stored: int) -> None:
        """Read what others have written since our last look."""
        if stored == self._revision:
            return
        if stored < self._revision:  # an older file was put in its place
            self._inventory, self._revision, self._rows = Inventory(), -1, set()
        rows = self._execute("SELECT kind, id, body FROM objects WHERE revision > ?", (self._revision,)).fetchall()
        keys = self._rows | {(name, object_id) for name, object_id, _ in rows}
        (count,) = self._execute("SELECT count(*) FROM objects").fetchone()
        gone: set[_Key] = set()
        if count != len(keys):
            present = set(self._execute("SELECT kind, id FROM objects").fetchall())
            gone, keys = keys - present, present
        changed: dict[str, dict[str, Any]] = {kind.place: dict(kind.of(self._inventory)) for kind in KINDS}
        for name, object_id in gone:
            if name in BY_NAME:
                changed[BY_NAME[name].place].pop(object_id, None)
        for name, object_id, body in rows:
            found = self._understood(name, object_id, body)
            if found is not None:
                changed[BY_NAME[name].place][object_id] = found
            elif name in BY_NAME:
                changed[BY_NAME[name].place].pop(object_id, None)
        self._inventory, self._revision, self._rows = Inventory(**changed), stored, keys

    def _understood(self, name: str, object_id: str, body: str) -> StoredObject | None:
        kind: Kind | None = BY_NAME.get(name)
        try:
            if kind is not None and kind.id_of(found := kind.model.model_validate_json(body)) == object_id:
                return found
        except ValidationError:
            pass  # said below without its words: they would show the object, which may hold a password
        if (name, object_id) not in self._said:
            self._said.add((name, object_id))
            log.warning("an object in the store cannot be understood: passed over, and left as it is", kind=name, id=object_id)
        return None
