"""One SQLite file: durable (WAL, full sync), readable by its owner only, used by one thread.

The standard library's driver blocks, so every statement runs on the file's own worker thread, in order. What stands in it is
`sqlite.py`'s and `sqlite_objects.py`'s.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from bridge.errors import Unavailable

_Result = TypeVar("_Result")

_BUSY_PATIENCE = 5.0
"""Seconds that a statement waits for another connection's transaction."""


class SqliteFile:
    """`async with SqliteFile(path, schema)`: opened and closed once, by its owner. Everything raises Unavailable when the file cannot be
    read or written."""

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        self._schema = schema
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
        except BaseException:
            self._worker.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await asyncio.shield(self._run(self._close))
        finally:
            self._worker.shutdown(wait=False)

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
            # Made before SQLite makes it, so that there is no moment in which others may read it. One that is there is not opened: closing
            # any handle of a file gives up every POSIX lock that this process has on it (sqlite.org/howtocorrupt.html, 2.2), those of our
            # other connection to it too. The next reader would take itself for the last one, and delete the log that is being written.
            try:
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                # What lies beside it, from a backup say, keeps the mode that it came with.
                for name in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        self._path.with_name(self._path.name + name).chmod(0o600)
        except OSError as error:
            raise Unavailable(f"the store {self._path} cannot be opened: {error.strerror}") from error
        # The worker thread is the only one that uses it, but close() may come from the interpreter's end.
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_PATIENCE, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(self._schema)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """On the worker thread."""
        if self._connection is None:
            raise Unavailable(f"the store {self._path} is closed")
        return self._connection.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """On the worker thread. No other connection writes between its first statement and its end; all of it counts or nothing."""
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            # SQLite may have rolled back by itself (a full disk).
            if self._connection is not None and self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """On the worker thread. What is read meanwhile is of one moment."""
        self._execute("BEGIN")
        try:
            yield
        finally:
            if self._connection is not None and self._connection.in_transaction:
                self._execute("ROLLBACK")
