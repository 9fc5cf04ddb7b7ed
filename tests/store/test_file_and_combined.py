"""The objects in roomline.yaml: always there, nobody's to write but their owner's, read anew when the file changes."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.objects import configured_objects, contents_of, open_objects
from bridge.settings import Settings
from bridge.store.combined import CombinedStore
from bridge.store.file import FileContents, FileStore
from bridge.store.port import Edit, Inventory, ReadOnlyObject, WatchedStore
from bridge.store.sqlite_objects import SqliteObjects
from bridge.store.watch import Watch
from tests.store.objects import delete, next_where, put, room_of, rule

RULE = "dispatch_rules: [{{sip_dispatch_rule_id: SDR_file, rule: {{dispatch_rule_direct: {{room_name: {room}}}}}}}]\n"


def write(path: Path, more: str) -> None:
    path.write_text(f"pbx: [{{name: hq, ami: {{secret: x}}}}]\nrecords: sqlite:///{path.parent}/records.db\n{more}")


def spoil(path: Path, broken: str | None) -> None:
    """None: it is gone."""
    path.unlink() if broken is None else write(path, broken)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "roomline.yaml", RULE.format(room="first"))
    return tmp_path / "roomline.yaml"


@pytest.fixture
def file(path: Path) -> FileStore:
    return configured_objects(Settings.load(path, {}).sound())


@pytest.fixture
async def both(file: FileStore, tmp_path: Path) -> AsyncIterator[WatchedStore]:
    async with open_objects(file, f"sqlite:///{tmp_path}/roomline.db") as opened:
        yield opened


async def test_given_the_file_then_its_objects_are_there_and_cannot_be_changed(file: FileStore) -> None:
    assert not file.writable
    assert room_of(await file.read(), "SDR_file") == "first"
    with pytest.raises(ReadOnlyObject, match=r"roomline\.yaml"):
        await file.change(put(rule()))
    with pytest.raises(LookupError):
        await file.change(lambda _: (_ for _ in ()).throw(LookupError()))  # what is wrong with the edit itself comes first
    assert await file.change(lambda _: Edit()) == await file.read()


async def test_given_a_file_that_changes_then_it_is_heard_of_within_a_second(file: FileStore, path: Path) -> None:
    changes = file.changes()
    await anext(changes)
    for room in ("second", "third"):
        write(path, RULE.format(room=room))
        async with asyncio.timeout(1.0):
            await next_where(changes, lambda inventory: room_of(inventory, "SDR_file") == room)  # noqa: B023  (used before the next round)


async def test_given_a_file_that_is_replaced_by_renaming_then_it_is_read_anew(file: FileStore, path: Path) -> None:
    write(path.with_suffix(".new"), RULE.format(room="other"))
    path.with_suffix(".new").rename(path)
    assert room_of(await file.read(), "SDR_file") == "other"


@pytest.mark.parametrize("broken", ["dispatch_rules: [\n", "nonsense: 1\n", None])
async def test_given_a_broken_file_then_the_last_good_one_stays_and_it_is_said_once_until_it_is_mended(
    file: FileStore, path: Path, broken: str | None
) -> None:
    with capture_logs() as logs:
        spoil(path, broken)
        for _ in range(3):
            assert room_of(await file.read(), "SDR_file") == "first"
        assert "what was read last stays" in file.trouble
        assert [line["log_level"] for line in logs] == ["error"]
    write(path, RULE.format(room="mended"))
    assert room_of(await file.read(), "SDR_file") == "mended"
    assert file.trouble == ""


async def test_given_who_asked_goes_away_while_a_changed_file_is_read_then_the_next_one_gets_what_it_says(path: Path) -> None:
    reading, going_on = threading.Event(), threading.Event()

    def slowly() -> FileContents:
        reading.set()
        assert going_on.wait(10)
        return contents_of(Settings.load(path, {}).sound())

    file = FileStore(path, contents_of(Settings.load(path, {}).sound()), slowly)
    write(path, RULE.format(room="second"))
    for ask in (file.read, file.reload):
        asking = asyncio.create_task(ask())
        await asyncio.to_thread(reading.wait, 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        reading.clear()
    going_on.set()
    assert room_of(await file.read(), "SDR_file") == "second"


async def test_given_a_fault_of_ours_while_it_is_read_then_it_is_logged_once_and_who_follows_goes_on(file: FileStore, path: Path) -> None:
    faults = 3

    async def look() -> Inventory:
        nonlocal faults
        faults -= 1
        if faults >= 0:
            raise ZeroDivisionError("geheim")
        return await file.read()

    watch = Watch("the store", look, 0.01)
    with capture_logs() as logs:
        async with asyncio.timeout(5):
            assert room_of(await anext(watch.changes()), "SDR_file") == "first"
    assert [line["log_level"] for line in logs] == ["error", "info"]
    assert (faults, watch.trouble) == (-1, "")


async def test_given_file_and_store_then_both_count_and_the_files_are_told_where_they_stand(both: WatchedStore, path: Path) -> None:
    assert isinstance(both, CombinedStore)
    after = await both.change(put(rule("SDR_a", "stored")))
    assert after == await both.read()
    assert {rule_id: room_of(after, rule_id) for rule_id in after.dispatch_rules} == {"SDR_file": "first", "SDR_a": "stored"}
    for refused in (put(rule("SDR_file")), delete(rule("SDR_file")), put(rule("SDR_b"), rule("SDR_file"))):
        with pytest.raises(ReadOnlyObject, match=rf"SDR_file stands in {path}:3: change it there"):
            await both.change(refused)
    assert await both.read() == after


async def test_given_a_decision_then_it_sees_the_files_objects_too(both: WatchedStore) -> None:
    def refuse(inventory: Inventory) -> Edit:
        raise LookupError(room_of(inventory, "SDR_file"))

    with pytest.raises(LookupError, match="first"):
        await both.change(refuse)


async def test_given_an_id_in_both_then_the_files_counts(file: FileStore, tmp_path: Path) -> None:
    async with SqliteObjects(tmp_path / "roomline.db") as store:
        await store.change(put(rule("SDR_file", "stored")))
        assert room_of(await CombinedStore(file, store).read(), "SDR_file") == "first"


async def test_given_both_then_a_change_of_either_is_heard_of_within_a_second(both: WatchedStore, path: Path) -> None:
    before = asyncio.all_tasks()
    changes = both.changes()
    assert set((await anext(changes)).dispatch_rules) == {"SDR_file"}
    write(path, RULE.format(room="second"))
    async with asyncio.timeout(1.0):
        await next_where(changes, lambda inventory: room_of(inventory, "SDR_file") == "second")
    await both.change(put(rule("SDR_a")))
    async with asyncio.timeout(1.0):
        await next_where(changes, lambda inventory: "SDR_a" in inventory.dispatch_rules)
    await changes.aclose()  # type: ignore[attr-defined]  # an async generator, as the port need not say
    assert asyncio.all_tasks() == before


async def test_given_a_broken_file_beside_a_store_then_the_store_goes_on(both: WatchedStore, path: Path) -> None:
    write(path, "nonsense: 1\n")
    changes = both.changes()
    await anext(changes)
    await both.change(put(rule("SDR_a")))
    async with asyncio.timeout(1.0):
        found = await next_where(changes, lambda inventory: "SDR_a" in inventory.dispatch_rules)
    assert room_of(found, "SDR_file") == "first"
    assert "nonsense" in both.trouble


async def test_given_store_file_then_what_stands_in_it_is_all(file: FileStore) -> None:
    async with open_objects(file, "file") as opened:
        assert opened is file
