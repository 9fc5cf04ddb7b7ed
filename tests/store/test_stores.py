"""What both stores promise, and what only the file can: surviving us, and being nobody else's to read."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.errors import Unavailable
from bridge.model.ending import EndedBy, EndReason
from bridge.model.record import CallRecord
from bridge.store.port import Journal, Level, RecordFilter, Tries
from bridge.store.sqlite import SqliteStore
from bridge.store.sqlite_objects import SqliteObjects
from bridge.testing.fakes import MemoryStore


def as_ports(store: SqliteStore | MemoryStore) -> tuple[Journal, Tries]:
    """For the type checker: both stores are what the ports say."""
    return store, store


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteStore | MemoryStore]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        async with SqliteStore(tmp_path / "roomline.db") as opened:
            yield opened


async def test_given_calls_of_ours_then_they_have_talked_for_what_lies_after_the_moment_asked_for(store: SqliteStore | MemoryStore) -> None:
    facts = {"pbx": "hq", "leg_id": "1", "started_at": 0.0, "end_reason": EndReason.HANGUP, "ended_by": EndedBy.CALLER}

    async def keep(answered: float | None, ended: float, *, outgoing: bool = True) -> None:
        more = {"call_id": f"SCL_{answered}-{ended}", "answered_at": answered, "ended_at": ended, "outgoing": outgoing}
        await store.keep_record(CallRecord.model_validate(facts | more))

    assert await store.talked_out(0.0) == 0.0
    for answered, ended in ((10.0, 20.5), (15.0, 40.0), (None, 50.0), (1.0, 4.0), (50.0, 60.0)):
        await keep(answered, ended)
    await keep(11.0, 21.0, outgoing=False)
    assert await store.talked_out(0.0) == 10.5 + 25 + 3 + 10
    assert await store.talked_out(16.0) == 4.5 + 24 + 10
    assert await store.talked_out(60.0) == 0.0


def modes_in(folder: Path) -> dict[str, int]:
    return {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()}


def record(call_id: str, ended_at: float = 2.0, **changes: object) -> CallRecord:
    facts: dict[str, object] = {"pbx": "hq", "leg_id": "1", "end_reason": EndReason.HANGUP, "ended_by": EndedBy.CALLER}
    return CallRecord.model_validate({"call_id": call_id, "started_at": 1.0, "ended_at": ended_at} | facts | changes)


async def test_given_a_record_then_it_is_kept_once_and_the_first_stays(store: SqliteStore | MemoryStore) -> None:
    first = record("SCL_1", number="+1555", trace={"decision": {"summary": "x"}}, answered_at=1.5)
    assert await store.keep_record(first)
    assert not await store.keep_record(record("SCL_1", end_reason=EndReason.ERROR))
    assert list(await store.records()) == [first]


async def test_given_many_records_then_the_newest_come_first(store: SqliteStore | MemoryStore) -> None:
    for number in (3, 1, 2, 5, 4):
        await store.keep_record(record(f"SCL_{number}", float(number)))
    assert [kept.ended_at for kept in await store.records(3)] == [5.0, 4.0, 3.0]


async def test_given_records_then_those_asked_for_come_in_pages(store: SqliteStore | MemoryStore) -> None:
    for number in range(10):
        await store.keep_record(
            record(f"SCL_{number}", float(number // 2), room="lobby" if number % 3 else "häll", number=f"+{number % 2}")
        )

    async def ids(limit: int = 100, **asked: object) -> str:
        return "".join(kept.call_id.removeprefix("SCL_") for kept in await store.records(limit, RecordFilter(**asked)))  # type: ignore[arg-type]

    assert await ids() == "9876543210"
    assert await ids(3) == "987"
    assert await ids(3, after_id="SCL_7") == "654", "also among those of one moment"
    assert await ids(after_id="SCL_0") == ""
    assert await ids(after_id="SCL_unknown") == ""
    assert await ids(room="häll") == "9630"
    assert await ids(room="häll", number="+1") == "93"
    assert await ids(2, room="lobby", after_id="SCL_8") == "75"
    assert await ids(since=2.0, until=4.0) == "7654"
    assert await ids(end_reason=EndReason.HANGUP, pbx="hq", called="", identity="") == "9876543210"
    assert await ids(end_reason=EndReason.ERROR) == ""
    assert await ids(room="x' OR '1'='1") == ""
    found = await store.record("SCL_4")
    assert found is not None
    assert (found.call_id, found.ended_at) == ("SCL_4", 2.0)
    assert await store.record("SCL_unknown") is None


async def test_given_the_same_record_from_many_at_once_then_one_is_kept(store: SqliteStore | MemoryStore) -> None:
    outcomes = await asyncio.gather(*(store.keep_record(record("SCL_1")) for _ in range(50)))
    assert outcomes.count(True) == 1


async def test_given_a_call_that_goes_on_then_the_latest_is_known_of_it_until_its_record_is_kept(store: SqliteStore | MemoryStore) -> None:
    await store.keep_open(record("SCL_1"))
    await store.keep_open(record("SCL_2"))
    await store.keep_open(record("SCL_1", room="lobby"))
    assert {each.call_id: each.room for each in await store.open_records()} == {"SCL_1": "lobby", "SCL_2": ""}
    await store.keep_record(record("SCL_1"))
    await store.keep_open(record("SCL_1"))  # comes late
    assert [each.call_id for each in await store.open_records()] == ["SCL_2"]


async def test_given_hostile_names_then_they_come_back_as_they_were(store: SqliteStore | MemoryStore) -> None:
    hostile = record("SCL_1", number="'; DROP TABLE calls; --\r\n\0😀\ud83d", called="9" * 65536)
    await store.keep_record(hostile)
    assert list(await store.records()) == [hostile]


async def test_given_levels_then_the_last_counts_and_old_ones_are_forgotten(store: SqliteStore | MemoryStore) -> None:
    await store.keep_level("rule:SDR_1", Level(1.0, 100.0))
    await store.keep_level("rule:SDR_1", Level(2.5, 200.0))
    await store.keep_level("source:203.0.113.7", Level(1.0, 50.0))
    await store.forget_levels(100.0)
    assert dict(await store.levels()) == {"rule:SDR_1": Level(2.5, 200.0)}


async def test_given_a_closed_file_when_opened_again_then_all_is_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "roomline.db"
    async with SqliteStore(path) as store:
        await store.keep_record(record("SCL_1"))
        await store.keep_level("rule:SDR_1", Level(1.0, 100.0))
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["roomline.db"]
    async with SqliteStore(path) as store:
        assert [kept.call_id for kept in await store.records()] == ["SCL_1"]
        assert "rule:SDR_1" in await store.levels()


async def test_given_an_open_file_then_it_is_nobody_elses_to_read(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with SqliteStore(tmp_path / "roomline.db") as store:
            await store.keep_record(record("SCL_1"))
            modes = modes_in(tmp_path)
    finally:
        os.umask(before)
    assert "roomline.db-wal" in modes
    assert set(modes.values()) == {0o600}


async def test_given_a_file_that_others_may_read_then_that_is_put_right(tmp_path: Path) -> None:
    path = tmp_path / "roomline.db"
    # With what a copy made under another's eyes brings along: the log holds what stands in the file.
    for name in ("roomline.db", "roomline.db-wal", "roomline.db-shm"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    async with SqliteStore(path) as store:
        await store.keep_record(record("SCL_1"))
        assert modes_in(tmp_path) == dict.fromkeys(("roomline.db", "roomline.db-wal", "roomline.db-shm"), 0o600)


async def test_given_a_path_that_cannot_be_opened_then_the_error_says_which(tmp_path: Path) -> None:
    (tmp_path / "roomline.db").mkdir()
    with pytest.raises(Unavailable, match=r"roomline\.db"):
        async with SqliteStore(tmp_path / "roomline.db"):
            pass
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="under"):
        async with SqliteStore(tmp_path / "file" / "under"):
            pass


async def test_given_a_file_that_is_no_database_then_the_error_says_which(tmp_path: Path) -> None:
    path = tmp_path / "roomline.db"
    path.write_text("trunks: []\n" * 200)
    with pytest.raises(Unavailable, match=r"roomline\.db"):
        async with SqliteStore(path):
            pass
    assert path.read_text().startswith("trunks")


async def test_given_a_closed_store_then_it_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "roomline.db")
    with pytest.raises(Unavailable):
        await store.records()
    async with store:
        pass
    with pytest.raises(Unavailable):
        await store.records()


_WRITER = """
import asyncio, sys
from pathlib import Path
from bridge.store.sqlite import SqliteStore
from bridge.store.sqlite_objects import SqliteObjects
from tests.store.test_stores import record

async def write():
    async with SqliteStore(Path(sys.argv[1])) as store:
        number = 0
        while True:
            await store.keep_record(record(f"SCL_{number}", float(number)))
            print(number, flush=True)
            number += 1

asyncio.run(write())
"""


async def test_given_a_writer_killed_at_once_then_whatever_it_was_told_is_kept_is_there(tmp_path: Path) -> None:
    path = tmp_path / "roomline.db"
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, str(path), stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert writer.stdout is not None
    told = -1
    while told < 20:
        told = int(await writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    for line in (await writer.stdout.read()).split():
        told = int(line)
    await writer.wait()
    async with SqliteStore(path) as store:
        kept = {kept.call_id for kept in await store.records(100_000)}
    assert {f"SCL_{number}" for number in range(told + 1)} <= kept
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_given_two_connections_of_ours_to_one_file_and_a_reader_beside_them_then_what_is_written_is_there(tmp_path: Path) -> None:
    """A reader who takes itself for the last one would delete the log that we write."""
    path = tmp_path / "roomline.db"
    count = f"import sqlite3; c = sqlite3.connect({str(path)!r}); print(c.execute('SELECT count(*) FROM calls').fetchone()[0]); c.close()"

    async def counted() -> int:
        reader = await asyncio.create_subprocess_exec(sys.executable, "-c", count, stdout=subprocess.PIPE)
        output, _ = await reader.communicate()
        return int(output)

    async with SqliteStore(path) as store, SqliteObjects(path):
        for number in range(3):
            assert await counted() == number
            await store.keep_record(record(f"SCL_{number}"))
    assert await counted() == 3
