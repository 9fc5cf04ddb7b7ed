"""What the tests of the adapter share: a kept connection, a whole PBX, callers as Asterisk announces them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bridge.pbx.asterisk.wire import Down, Event, Item, Up, Wire, WireOptions
from bridge.testing.ami_server import AmiServer

SECRET = "s3cr3t-7f1d"
"""A text that stands nowhere else, to be looked for in logs."""


async def until(true: Callable[[], object], limit: float = 120.0) -> None:
    """Let (jumping) time pass until this is true. Raises TimeoutError."""
    async with asyncio.timeout(limit):
        while not true():  # noqa: ASYNC110  (there is no event for everything that a test waits for)
            await asyncio.sleep(0.01)


@dataclass
class Wired:
    """A wire that runs, and what came of it so far."""

    wire: Wire
    running: "asyncio.Task[None]"
    items: list[Item] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event) and item.name != "FullyBooted"]

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
        """Whether an action is answered now."""
        answer = await self.wire.action("Getvar", {"Variable": "ANY"})
        return answer.ok


def wire_options(port: int, **changes: Any) -> WireOptions:
    facts: dict[str, Any] = {"host": "127.0.0.1", "port": port, "user": "roomline", "secret": SECRET}
    return WireOptions(**(facts | changes))


@asynccontextmanager
async def wired(server: AmiServer, *, reads: bool = True, up: bool = True, **changes: Any) -> AsyncIterator[Wired]:
    """A wire to this server; `up`: logged in. It must still run at the end, and is cancelled then."""
    wire = Wire(wire_options(server.port, **changes))
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
