"""Call records and the count of wrong PINs in an SQLite file (`sqlite_file.py`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.model.record import CallRecord
from bridge.store.port import EVERY_RECORD, Level, RecordFilter
from bridge.store.sqlite_file import SqliteFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    call_id TEXT PRIMARY KEY,
    ended_at REAL NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS calls_by_end ON calls (ended_at);
CREATE INDEX IF NOT EXISTS calls_of_ours ON calls (ended_at) WHERE json_extract(record, '$.outgoing');
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


_TALKED_OUT = """
SELECT coalesce(sum(ended_at - max(json_extract(record, '$.answered_at'), ?1)), 0) FROM calls
WHERE json_extract(record, '$.outgoing') AND ended_at > ?1 AND json_extract(record, '$.answered_at') IS NOT NULL
"""


class SqliteStore(SqliteFile):
    """Journal, Airtime and Tries in one file. `async with SqliteStore(path)`: opened and closed once, by its owner."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA)

    async def keep_record(self, record: CallRecord) -> bool:
        return await self._run(lambda: self._keep_record(record))

    async def keep_open(self, record: CallRecord) -> None:
        statement = "INSERT OR REPLACE INTO open_calls SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM calls WHERE call_id = ?)"
        await self._run(lambda: self._execute(statement, (record.call_id, record.to_json(), record.call_id)))

    async def open_records(self) -> Sequence[CallRecord]:
        rows = await self._run(lambda: self._execute("SELECT record FROM open_calls ORDER BY rowid").fetchall())
        return [CallRecord.from_json(text) for (text,) in rows]

    async def record(self, call_id: str) -> CallRecord | None:
        found = await self._run(lambda: self._execute("SELECT record FROM calls WHERE call_id = ?", (call_id,)).fetchone())
        return CallRecord.from_json(found[0]) if found else None

    async def records(self, limit: int = 100, which: RecordFilter = EVERY_RECORD) -> Sequence[CallRecord]:
        conditions, values = _conditions(which)
        statement = f"SELECT record FROM calls{conditions} ORDER BY ended_at DESC, rowid DESC LIMIT ?"  # noqa: S608  (texts of our own)
        rows = await self._run(lambda: self._execute(statement, (*values, limit)).fetchall())
        return [CallRecord.from_json(text) for (text,) in rows]

    async def talked_out(self, since: float) -> float:
        (seconds,) = await self._run(lambda: self._execute(_TALKED_OUT, (since,)).fetchone())
        return float(seconds)

    async def levels(self) -> Mapping[str, Level]:
        rows = await self._run(lambda: self._execute("SELECT key, level, at FROM pin_tries").fetchall())
        return {key: Level(level, at) for key, level, at in rows}

    async def keep_level(self, key: str, level: Level) -> None:
        statement = "INSERT INTO pin_tries VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET level = excluded.level, at = excluded.at"
        await self._run(lambda: self._execute(statement, (key, level.level, level.at)))

    async def forget_levels(self, before: float) -> None:
        await self._run(lambda: self._execute("DELETE FROM pin_tries WHERE at < ?", (before,)))

    def _keep_record(self, record: CallRecord) -> bool:
        row = (record.call_id, record.ended_at, record.to_json())
        with self._transaction():
            kept = self._execute("INSERT INTO calls (call_id, ended_at, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row).rowcount == 1
            self._execute("DELETE FROM open_calls WHERE call_id = ?", (record.call_id,))
        return kept


_IN_RECORD = ("pbx", "number", "called", "trunk_id", "rule_id", "room", "identity", "end_reason")


def _conditions(which: RecordFilter) -> tuple[str, tuple[str | float, ...]]:
    """What follows `FROM calls`, and its values."""
    asked: list[tuple[str, str | float]] = [
        (f"json_extract(record, '$.{field}') = ?", str(value)) for field in _IN_RECORD if (value := getattr(which, field))
    ]
    if which.since is not None:
        asked.append(("ended_at >= ?", which.since))
    if which.until is not None:
        asked.append(("ended_at < ?", which.until))
    if which.after_id:
        asked.append(("(ended_at, rowid) < (SELECT ended_at, rowid FROM calls WHERE call_id = ?)", which.after_id))
    conditions = " AND ".join(condition for condition, _ in asked)
    return f" WHERE {conditions}" if asked else "", tuple(value for _, value in asked)
