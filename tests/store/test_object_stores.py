"""What every store of LiveKit's objects promises, whatever stands behind it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, LegacyTrunk
from bridge.store.inventory import differences, edited
from bridge.store.port import Edit, Inventory, ObjectStore, StoredObject
from bridge.store.redis import RedisObjects
from bridge.store.sqlite_objects import SqliteObjects
from bridge.testing.redis_server import RedisServer
from tests.store.objects import ONE_OF_EACH, OpenStore, delete, everything, needs_redis, next_where, put, room_of, rule


@pytest.fixture(params=["sqlite", "redis"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Opens one instance after the other over the same objects."""
    if request.param == "sqlite":
        yield lambda: SqliteObjects(tmp_path / "roomline.db")
        return
    with needs_redis():
        async with RedisServer(tmp_path / "redis") as server:
            yield lambda: RedisObjects(server.url)


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[ObjectStore]:
    async with open_store() as opened:
        yield opened


@pytest.fixture
async def other(open_store: OpenStore, store: ObjectStore) -> AsyncIterator[ObjectStore]:
    """A second instance beside the first."""
    async with open_store() as opened:
        yield opened


async def test_given_nothing_then_the_inventory_is_empty(store: ObjectStore) -> None:
    assert await store.read() == Inventory()
    assert store.writable


async def test_given_who_asked_goes_away_in_the_middle_of_a_change_then_it_is_whole_or_not_there_and_the_next_one_is_made(
    store: ObjectStore, other: ObjectStore
) -> None:
    deciding, going_on = threading.Event(), threading.Event()
    objects = (rule("SDR_a"), rule("SDR_b", pin="1"), rule("SDR_c", pin="2"))

    def slowly(_: Inventory) -> Edit:
        deciding.set()
        assert going_on.wait(10)
        return Edit(put=objects)

    changing = asyncio.create_task(store.change(slowly))
    assert await asyncio.to_thread(deciding.wait, 10)
    behind = asyncio.create_task(store.change(put(rule("SDR_d", pin="3"), rule("SDR_e", pin="4"))))
    await asyncio.sleep(0)
    for asker in (behind, changing):
        asker.cancel()
    going_on.set()
    for asker in (behind, changing):
        with pytest.raises(asyncio.CancelledError):
            await asker
    after = await store.change(put(rule("SDR_last", pin="9")))
    there = set(after.dispatch_rules) - {"SDR_last"}
    assert there & {"SDR_a", "SDR_b", "SDR_c"} in (set(), {"SDR_a", "SDR_b", "SDR_c"})
    assert there & {"SDR_d", "SDR_e"} in (set(), {"SDR_d", "SDR_e"})
    assert await other.read() == await store.read() == after


async def test_given_one_of_each_kind_then_all_of_it_comes_back_to_the_last_field_also_after_a_restart(open_store: OpenStore) -> None:
    async with open_store() as store:
        assert await store.change(put(*ONE_OF_EACH)) == everything()
        assert await store.read() == everything()
    async with open_store() as again:
        assert await again.read() == everything()


@pytest.mark.parametrize("found", ONE_OF_EACH, ids=lambda found: type(found).__name__)
async def test_given_an_object_when_it_is_deleted_then_it_alone_is_gone_and_a_second_time_is_no_error(
    store: ObjectStore, found: StoredObject
) -> None:
    await store.change(put(*ONE_OF_EACH))
    for _ in range(2):
        after = await store.change(delete(found))
        assert after == await store.read() == edited(everything(), delete(found)(after))
    assert differences(everything(), after).delete


async def test_given_an_edit_that_puts_and_deletes_then_both_are_done_at_once(store: ObjectStore, other: ObjectStore) -> None:
    await store.change(put(rule("SDR_a"), rule("SDR_b")))
    await store.change(lambda _: Edit(put=(rule("SDR_c"),), delete=((DispatchRule, "SDR_a"), (DispatchRule, "SDR_b"))))
    assert set((await other.read()).dispatch_rules) == {"SDR_c"}


async def test_given_a_decision_that_raises_then_it_is_raised_here_and_nothing_is_changed(store: ObjectStore) -> None:
    await store.change(put(rule("SDR_a", "before")))

    def refuse(inventory: Inventory) -> Edit:
        assert room_of(inventory) == "before"
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await store.change(refuse)
    assert room_of(await store.read()) == "before"
    assert room_of(await store.change(put(rule("SDR_a", "after")))) == "after", "it goes on"


async def test_given_an_empty_edit_then_nothing_is_changed(store: ObjectStore) -> None:
    before = await store.change(put(rule()))
    assert await store.change(lambda _: Edit()) == before


async def test_given_an_inventory_then_a_later_change_does_not_touch_it(store: ObjectStore) -> None:
    first = await store.change(put(rule("SDR_a", "one")))
    await store.change(put(rule("SDR_a", "two"), rule("SDR_b")))
    assert room_of(first) == "one"
    assert set(first.dispatch_rules) == {"SDR_a"}


async def test_given_two_instances_when_one_writes_then_the_other_reads_it_and_hears_of_it_within_a_second(
    store: ObjectStore, other: ObjectStore
) -> None:
    changes = other.changes()
    assert (await anext(changes)) == Inventory()
    for room in ("one", "two", "three"):
        await store.change(put(rule("SDR_a", room)))
        async with asyncio.timeout(1.0):
            await next_where(changes, lambda inventory: room_of(inventory) == room)  # noqa: B023  (used before the next round)
        assert room_of(await other.read()) == room
    await store.change(delete(rule()))
    async with asyncio.timeout(1.0):
        await next_where(changes, lambda inventory: not inventory.dispatch_rules)


async def test_given_a_change_of_our_own_then_every_listener_hears_of_it_at_once(store: ObjectStore) -> None:
    listeners = [store.changes() for _ in range(3)]
    for changes in listeners:
        await anext(changes)
    waiting = [asyncio.create_task(next_where(changes, lambda inventory: bool(inventory.dispatch_rules))) for changes in listeners]
    await asyncio.sleep(0)
    await store.change(put(rule()))
    async with asyncio.timeout(0.9):
        await asyncio.gather(*waiting)


async def test_given_a_thousand_changes_of_one_rule_at_once_from_two_instances_then_none_is_lost(
    store: ObjectStore, other: ObjectStore
) -> None:
    """Each adds one to what it finds: a lost change would be missing from the sum."""
    await store.change(put(rule("SDR_a", metadata="0")))

    def one_more(inventory: Inventory) -> Edit:
        found = inventory.dispatch_rules["SDR_a"]
        return Edit(put=(found.model_copy(update={"metadata": str(int(found.metadata) + 1)}),))

    await asyncio.gather(*(each.change(one_more) for _ in range(500) for each in (store, other)))
    for each in (store, other):
        assert (await each.read()).dispatch_rules["SDR_a"].metadata == "1000"


async def test_given_writers_that_want_the_same_when_each_checks_for_it_then_one_wins(store: ObjectStore, other: ObjectStore) -> None:
    def claim(rule_id: str) -> Callable[[Inventory], Edit]:
        def decide(inventory: Inventory) -> Edit:
            if any(found.pin == "1234" for found in inventory.dispatch_rules.values()):
                raise LookupError("taken")
            return Edit(put=(rule(rule_id, pin="1234"),))

        return decide

    outcomes = await asyncio.gather(
        *(each.change(claim(f"SDR_{number}_{place}")) for number in range(20) for place, each in enumerate((store, other))),
        return_exceptions=True,
    )
    assert sum(not isinstance(outcome, LookupError) for outcome in outcomes) == 1
    assert len((await other.read()).dispatch_rules) == 1


async def test_given_a_writer_that_is_cancelled_then_the_store_goes_on_and_its_change_is_whole_or_not_there(store: ObjectStore) -> None:
    for number in range(30):
        writing = asyncio.create_task(store.change(put(rule("SDR_a", f"r{number}"), rule("SDR_b", f"r{number}"))))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        inventory = await store.read()
        assert not inventory.dispatch_rules or room_of(inventory, "SDR_a") == room_of(inventory, "SDR_b")
    assert room_of(await store.change(put(rule("SDR_a", "last")))) == "last"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ids = st.sampled_from(["ST_a", "ST_b", "SDR_a", "SDR_b"])
found_objects = st.one_of(
    st.builds(
        InboundTrunk,
        sip_trunk_id=ids,
        name=texts,
        numbers=st.lists(texts, max_size=3).map(tuple),
        headers=st.dictionaries(texts, texts, max_size=2),
        auth_password=texts,
        max_call_duration=st.none() | st.timedeltas(timedelta(0), timedelta(days=999)),
        created_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    ),
    st.builds(LegacyTrunk, sip_trunk_id=ids, metadata=texts),
    st.builds(rule, ids, texts, texts),
)
edits = st.builds(
    Edit,
    put=st.lists(found_objects, max_size=3).map(tuple),
    delete=st.lists(st.tuples(st.sampled_from([InboundTrunk, LegacyTrunk, DispatchRule]), ids), max_size=2).map(tuple),
)


@asynccontextmanager
async def _fresh(folder: Path) -> AsyncIterator[tuple[ObjectStore, ObjectStore]]:
    async with SqliteObjects(folder / "one.db") as store, SqliteObjects(folder / "one.db") as other:
        known = await store.read()
        await store.change(lambda _: differences(known, Inventory()))
        yield store, other


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(edits, st.booleans()), max_size=6))
def test_given_any_edits_through_two_instances_then_both_hold_what_a_plain_inventory_would(
    tmp_path_factory: pytest.TempPathFactory, given_edits: list[tuple[Edit, bool]]
) -> None:
    folder = tmp_path_factory.getbasetemp()

    async def run() -> None:
        async with _fresh(folder) as (store, other):
            expected = Inventory()
            for edit, by_other in given_edits:
                expected = edited(expected, edit)
                assert await (other if by_other else store).change(lambda _, edit=edit: edit) == expected  # type: ignore[misc]  # a default that binds
                assert await (store if by_other else other).read() == expected

    asyncio.run(run())


def test_given_two_inventories_then_their_differences_make_one_of_the_other() -> None:
    before, after = everything(), replace(everything(), dispatch_rules={"SDR_x": rule("SDR_x")}, phone_numbers={})
    assert edited(before, differences(before, after)) == after
    assert differences(after, after) == Edit()
