"""The adapter is tested against real loopback connections on a loop whose time jumps: minutes of silence pass in no time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from types import SimpleNamespace

import pytest

from bridge.testing.ami_server import AmiServer
from bridge.testing.time_travel import PATIENCE, TimeTravelLoop
from tests.pbx.asterisk.stage import SECRET

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    del item
    return {"travel": partial(TimeTravelLoop, PATIENCE)}


@pytest.fixture(autouse=True)
def loop_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter's own clock is the loop's here, so that it jumps along."""
    monkeypatch.setattr("bridge.pbx.asterisk.pbx.time", SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time()))


@pytest.fixture
async def server() -> AsyncIterator[AmiServer]:
    """At the end nobody may be connected any more."""
    async with AmiServer(secret=SECRET) as server:
        yield server
        await asyncio.sleep(0.1)
        assert server.open_connections == 0
