"""What the tests of the adapter share: a kept connection, and patience."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bridge.pbx.freeswitch.messages import Event
from bridge.pbx.freeswitch.wire import Down, Item, Up, Wire, WireOptions
from bridge.testing.freeswitch import FreeSwitchServer

PASSWORD = "p4ssw0rd-93ab"
"""A text that stands nowhere else, to be looked for in logs."""


async def until(true: Callable[[], object], limit: float = 10.0) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(limit):
        while not true():  # noqa: ASYNC110  (what is waited for may be a thread's doing)
            await asyncio.sleep(0.005)


@dataclass
class Wired:
    """A wire that runs, and what came of it so far."""

    wire: Wire
    running: "asyncio.Task[None]"
    items: list[Item] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event)]

    @property
    def ups(self) -> int:
        return sum(isinstance(item, Up) for item in self.items)

    @property
    def downs(self) -> list[str]:
        return [item.reason for item in self.items if isinstance(item, Down)]

    async def read(self) -> None:
        async for item in self.wire.items():
            self.items.append(item)

    async def works(self) -> bool:
        """Whether a command is answered now, and by its own answer."""
        return (await self.wire.api("echo still here")).text == "still here"


@asynccontextmanager
async def wired(server: FreeSwitchServer, *, reads: bool = True, up: bool = True, **changes: Any) -> AsyncIterator[Wired]:
    """A wire to this server; `up`: logged in. It must still run at the end, and is cancelled then."""
    facts: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "password": PASSWORD, "shortest_wait": 0.02}
    wire = Wire(WireOptions(**(facts | changes)))
    wired = Wired(wire, asyncio.create_task(wire.run()))
    reading = asyncio.create_task(wired.read()) if reads else None
    try:
        if up:
            await until(lambda: wire.connected)
        yield wired
        assert not wired.running.done()
    finally:
        tasks = [task for task in (wired.running, reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
