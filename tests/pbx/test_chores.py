"""What is left to do with channels, one beside the other."""

import asyncio

import pytest

from bridge.errors import LegGone, LocalProtocolError, Unavailable
from bridge.pbx.chores import Chores


@pytest.mark.parametrize("error", [LegGone, LocalProtocolError, Unavailable])
async def test_given_a_chore_that_fails_and_one_that_takes_its_time_then_the_next_is_done(error: type[Exception]) -> None:
    done = asyncio.Event()
    chores = Chores("hq")

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
