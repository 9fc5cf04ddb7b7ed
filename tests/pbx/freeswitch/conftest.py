"""The adapter is tested against real loopback connections in real time: its socket lives in a thread, where no test's clock reaches."""

import threading
from collections.abc import AsyncIterator

import pytest

from bridge.testing.freeswitch import FreeSwitchServer
from tests.pbx.freeswitch.stage import PASSWORD, until


@pytest.fixture
async def server() -> AsyncIterator[FreeSwitchServer]:
    """At the end nobody may be connected any more, and no thread be left."""
    async with FreeSwitchServer(PASSWORD) as server:
        yield server
        await until(lambda: not server.open_connections and all(thread.name != "event socket" for thread in threading.enumerate()))
        assert not server.crashed
