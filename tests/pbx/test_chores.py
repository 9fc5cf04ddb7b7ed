"""What is left to do with channels, one beside the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.errors import LegGone, LocalProtocolError, Unavailable
from bridge.pbx import chores as chores_module
from bridge.pbx.chores import Chores


@asynccontextmanager
async def stopped(chores: Chores) -> AsyncIterator[asyncio.Event]:
    """Chores of a PBX that runs; it is told to stop at the end of the block, and has stopped behind it. Gives what is set meanwhile."""
    stopping = asyncio.Event()

    async def pbx() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(chores.run())
            await chores.until_stopped()

    running = asyncio.create_task(pbx())
    await asyncio.sleep(0)
    yield stopping
    await asyncio.sleep(0.01)
    assert not running.done()
    running.cancel()
    stopping.set()
    async with asyncio.timeout(5):
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("error", [LegGone, LocalProtocolError, Unavailable])
async def test_given_a_chore_that_fails_and_one_that_takes_its_time_then_the_next_is_done(error: type[Exception]) -> None:
    done = asyncio.Event()
    chores = Chores("hq", lambda: True)

    async def fail() -> None:
        raise error("no")

    async def finish() -> None:
        done.set()

    running = asyncio.create_task(chores.run())
    for chore in (fail, asyncio.Event().wait, finish):
        chores.put(chore)
    async with asyncio.timeout(5):
        await done.wait()
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_given_what_is_owed_when_the_pbx_is_stopped_then_that_is_done_first_and_nothing_else() -> None:
    done: list[str] = []
    chores = Chores("hq", lambda: True)
    async with stopped(chores) as stopping:

        async def begun() -> None:
            await stopping.wait()
            await asyncio.sleep(0.02)
            done.append("begun")
            chores.put(found, owed=True)

        async def found() -> None:
            await asyncio.sleep(0.02)
            done.append("found meanwhile")

        chores.put(begun, owed=True)
        chores.put(asyncio.Event().wait)
    assert done == ["begun", "found meanwhile"]


@pytest.mark.parametrize(("reachable", "limit"), [(True, 0.02), (False, 60.0)])
async def test_given_what_is_owed_and_never_done_when_the_pbx_is_stopped_then_it_ends_in_time_and_at_once_where_it_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch, reachable: bool, limit: float
) -> None:
    monkeypatch.setattr(chores_module, "FINISHING", limit)
    chores = Chores("hq", lambda: reachable)
    async with stopped(chores):
        chores.put(asyncio.Event().wait, owed=True)


async def test_given_a_fault_of_the_pbx_when_something_is_owed_then_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores_module, "FINISHING", 60.0)
    chores = Chores("hq", lambda: True)

    async def pbx() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(chores.run())
            chores.put(asyncio.Event().wait, owed=True)
            group.create_task(fail())
            await chores.until_stopped()

    async def fail() -> None:
        raise ValueError

    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup):
            await pbx()
