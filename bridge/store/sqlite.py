"""The store in one SQLite file: durable (WAL, full sync), readable by its owner only, written by one thread.

The standard library's driver blocks, so every statement runs on the store's own worker thread, in order.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bridge.errors import Unavailable
from bridge.model.record import CallRecord
from bridge.store.port import Level

_Result = TypeVar("_Result")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    call_id TEXT PRIMARY KEY,
    ended_at REAL NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS calls_by_end ON calls (ended_at);
CREATE TABLE IF NOT EXISTS open_calls (
    call_id TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS pin_tries (
    key TEXT PRIMARY KEY,
    level REAL NOT NULL,
    at REAL NOT NULL
) STRICT;
"""


class SqliteStore:
    """Journal and Tries in one file. `async with SqliteStore(path)`: opened and closed once, by its owner."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> "SqliteStore":
        try:
            await self._run(self._open)
        except BaseException:
            self._worker.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        try:
            await asyncio.shield(self._run(self._close))
        finally:
            self._worker.shutdown(wait=False)

    async def keep_record(self, record: CallRecord) -> bool:
        return await self._run(lambda: self._keep_record(record))

    async def keep_open(self, record: CallRecord) -> None:
        statement = "INSERT OR REPLACE INTO open_calls SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM calls WHERE call_id = ?)"
        await self._run(lambda: self._execute(statement, (record.call_id, record.to_json(), record.call_id)))

    async def open_records(self) -> Sequence[CallRecord]:
        rows = await self._run(lambda: self._execute("SELECT record FROM open_calls ORDER BY rowid").fetchall())
        return [CallRecord.from_json(text) for (text,) in rows]

    async def records(self, limit: int = 100) -> Sequence[CallRecord]:
        statement = "SELECT record FROM calls ORDER BY ended_at DESC, rowid DESC LIMIT ?"
        rows = await self._run(lambda: self._execute(statement, (limit,)).fetchall())
        return [CallRecord.from_json(text) for (text,) in rows]

    async def levels(self) -> Mapping[str, Level]:
        rows = await self._run(lambda: self._execute("SELECT key, level, at FROM pin_tries").fetchall())
        return {key: Level(level, at) for key, level, at in rows}

    async def keep_level(self, key: str, level: Level) -> None:
        statement = "INSERT INTO pin_tries VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET level = excluded.level, at = excluded.at"
        await self._run(lambda: self._execute(statement, (key, level.level, level.at)))

    async def forget_levels(self, before: float) -> None:
        await self._run(lambda: self._execute("DELETE FROM pin_tries WHERE at < ?", (before,)))

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        try:
            done = asyncio.get_running_loop().run_in_executor(self._worker, work)
        except RuntimeError as error:
            raise Unavailable(f"the store {self._path} is closed") from error
        try:
            return await done
        except sqlite3.Error as error:
            raise Unavailable(f"the store {self._path} failed: {error}; is the disk full, or the file not ours to write?") from error

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Made before SQLite makes it, so that there is no moment in which others may read it.
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.fchmod(handle, 0o600)
            finally:
                os.close(handle)
        except OSError as error:
            raise Unavailable(f"the store {self._path} cannot be opened: {error.strerror}") from error
        # The worker thread is the only one that uses it, but close() may come from the interpreter's end.
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=5.0, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _keep_record(self, record: CallRecord) -> bool:
        row = (record.call_id, record.ended_at, record.to_json())
        self._execute("BEGIN IMMEDIATE")
        try:
            kept = self._execute("INSERT INTO calls (call_id, ended_at, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row).rowcount == 1
            self._execute("DELETE FROM open_calls WHERE call_id = ?", (record.call_id,))
        except BaseException:
            self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")
        return kept

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        if self._connection is None:
            raise Unavailable(f"the store {self._path} is closed")
        return self._connection.execute(statement, values)
