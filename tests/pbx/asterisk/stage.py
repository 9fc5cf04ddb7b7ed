"""What the tests of the adapter share: a kept connection, a whole PBX, callers as Asterisk announces them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bridge.pbx.asterisk.notes import note_variables
from bridge.pbx.asterisk.options import AsteriskOptions, WireOptions
from bridge.pbx.asterisk.pbx import HEARTBEAT, AsteriskPbx
from bridge.pbx.asterisk.wire import Down, Event, Item, Up, Wire
from bridge.pbx.port import Leg, LegEvent
from bridge.testing.ami_server import AmiAction, AmiChannel, AmiServer

SECRET = "s3cr3t-7f1d"
"""A text that stands nowhere else, to be looked for in logs."""


async def until(true: Callable[[], object], limit: float = 120.0) -> None:
    """Let (jumping) time pass until this is true. Raises TimeoutError."""
    step = 0.01
    async with asyncio.timeout(limit):
        while not true():
            await asyncio.sleep(step)
            step = min(1.2 * step, 0.2)


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


FACTS = {
    "called": "+15550100",
    "number": "+15550123",
    "name": "Ada 😀",
    "technology": "PJSIP",
    "formats": "(ulaw)",
    "endpoint": "carrier-a",
    "call_id": "abc@example.net",
    "address": "203.0.113.7:5060",
    "tag": "tag-1",
    "from": "sip:+15550123@sip.example.net",
}
"""What the dialplan tells of a call that came by PJSIP."""


def encoded(**values: str) -> str:
    """As the dialplan writes them: URIENCODE leaves letters, digits and a few marks."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in values.items())


@dataclass
class Exchange:
    """A controller's Asterisk that runs, the legs it gave so far, and what happened on each."""

    pbx: AsteriskPbx
    server: AmiServer
    running: "asyncio.Task[None]"
    legs: list[Leg] = field(default_factory=list)
    happened: dict[str, list[LegEvent]] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    """The legs whose events have ended."""

    async def read(self) -> None:
        async with asyncio.TaskGroup() as group:
            async for leg in self.pbx.legs():
                self.legs.append(leg)
                self.happened[leg.id] = []
                group.create_task(self._listen(leg))

    async def _listen(self, leg: Leg) -> None:
        async for event in leg.events():
            self.happened[leg.id].append(event)
        self.over.add(leg.id)

    def events(self, leg: Leg) -> list[LegEvent]:
        return self.happened[leg.id]

    async def call(self, channel: AmiChannel | None = None, **facts: str) -> tuple[AmiChannel, Leg]:
        """A caller comes in and is parked; returns the channel, and the leg that was made of it."""
        channel = channel or a_channel(self.server, **facts)
        before = len(self.legs)
        announce(self.server, channel)
        await until(lambda: len(self.legs) > before)
        return channel, self.legs[-1]

    async def stop(self) -> None:
        """As a server that is stopped in the middle of anything."""
        stopped, self.running = self.running, asyncio.create_task(asyncio.sleep(0))
        stopped.cancel()
        await asyncio.gather(stopped, return_exceptions=True)

    def said(self, *names: str) -> list[AmiAction]:
        """What was said to Asterisk, without the heart's beats and the wire's own actions."""
        return [
            action
            for action in self.server.actions
            if action.name not in ("Login", "Ping", "Status") and action["Variable"] != HEARTBEAT and (not names or action.name in names)
        ]


def a_channel(server: AmiServer, context: str = "roomline-park", **facts: str) -> AmiChannel:
    """A channel that the dialplan has taken in, with these facts in place of the usual ones."""
    told = FACTS | facts
    number = len(server.channels) + 1
    name = f"{told['technology'] or 'Local'}/carrier-a-{number:08x}"
    variables = {"ROOMLINE_FACTS": encoded(**told), "ROOMLINE_HEADERS": "&X-Ticket=42", "ROOMLINE_READY": "1"}
    channel = AmiChannel(name, f"1795328054.{number}", context, variables=variables)
    server.channels[name] = channel
    return channel


def in_note(text: str, generation: int = 1) -> dict[str, str]:
    """The channel variables that hold this note."""
    return dict(note_variables(text, generation))


def announce(server: AmiServer, channel: AmiChannel) -> None:
    server.user_event(
        channel, "RoomlineParked", {"Facts": channel.variables["ROOMLINE_FACTS"], "Headers": channel.variables["ROOMLINE_HEADERS"]}
    )


@asynccontextmanager
async def exchange(server: AmiServer, *, up: bool = True, **changes: Any) -> AsyncIterator[Exchange]:
    """A controller at this server; `up`: it has looked at it. It must still run at the end unless the test has ended it."""
    facts: dict[str, Any] = {"name": "hq", "port": server.port, "secret": SECRET}
    pbx = AsteriskPbx(AsteriskOptions(**(facts | changes)))
    on = Exchange(pbx, server, asyncio.create_task(pbx.run()))
    reading = asyncio.create_task(on.read())
    running = on.running
    try:
        if up:
            await server.until(lambda: server.named("Status"))
            await asyncio.sleep(0.01)
        yield on
        assert on.running is not running or not running.done()
        assert not reading.done()
    finally:
        for task in (running, reading):
            task.cancel()
        await asyncio.gather(running, reading, return_exceptions=True)
