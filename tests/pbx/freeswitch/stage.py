"""What the tests of the adapter share: a kept connection, a whole PBX with its calls, a node that hears them; and patience."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from bridge.model.media_address import Datagrams, MediaAddress
from bridge.pbx.freeswitch.messages import Event
from bridge.pbx.freeswitch.options import FreeSwitchOptions, WireOptions
from bridge.pbx.freeswitch.pbx import FreeSwitchPbx
from bridge.pbx.freeswitch.places import HEARTBEAT
from bridge.pbx.freeswitch.wire import Down, Item, Up, Wire
from bridge.pbx.port import Leg, LegEvent
from bridge.testing.freeswitch import EslCommand, FreeSwitchServer
from bridge.testing.freeswitch_channel import SwitchChannel

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


@dataclass
class Exchange:
    """A controller's FreeSWITCH that runs, the legs it gave so far, and what happened on each."""

    pbx: FreeSwitchPbx
    server: FreeSwitchServer
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

    async def call(self, **changes: str) -> tuple[SwitchChannel, Leg]:
        """A caller comes in and is parked; returns the channel, and the leg that was made of it, once all its events come."""
        before = len(self.legs)
        channel = self.server.calls.call(**changes)
        await until(lambda: len(self.legs) > before)
        await until(lambda: len(self.server.named("sched_api")) and self.leases(channel) and not self.parked_for(channel))
        return channel, self.legs[-1]

    async def talking(self, node: "Node", **changes: str) -> tuple[SwitchChannel, Leg]:
        channel, leg = await self.call(**changes)
        await leg.connect(node.address)
        await until(lambda: node.heard)
        return channel, leg

    def leases(self, channel: SwitchChannel) -> list[str]:
        """What is scheduled for this call."""
        return [command for group, command in self.server.calls.scheduled if group == f"roomline-{channel.unique_id}"]

    def parked_for(self, channel: SwitchChannel) -> bool:
        """Whether the dialplan's own lease is still there."""
        return len(self.leases(channel)) > 1

    async def stop(self) -> None:
        """As a server that is stopped in the middle of anything."""
        stopped, self.running = self.running, asyncio.create_task(asyncio.sleep(0))
        stopped.cancel()
        await asyncio.gather(stopped, return_exceptions=True)

    def said(self, *names: str) -> list[EslCommand]:
        """What was said of calls, without the heart's beats, the leases and the wire's own commands."""
        own = ("auth", "version", "echo", "filter", "event", "show", "sched_api", "sched_del", "uuid_dump")
        return [
            command
            for command in self.server.commands
            if command.name not in own
            and HEARTBEAT not in command.arguments
            and "max_session_transfers" not in command.arguments
            and (not names or command.name in names)
        ]


class Node(asyncio.DatagramProtocol):
    """Hears a call's audio, and answers each datagram with one of its own."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.says = b"\x21"
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.heard.append(data)
        assert self._transport is not None
        self._transport.sendto(self.says * len(data), addr)

    @property
    def address(self) -> MediaAddress:
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")
        return MediaAddress(host, port, "7b4c1d9e-0000-4000-8000-000000000001", 8000, Datagrams("127.0.0.1"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def a_node() -> AsyncIterator[Node]:
    node = Node()
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: node, ("127.0.0.1", 0))
    try:
        yield node
    finally:
        node.close()


@asynccontextmanager
async def exchange(server: FreeSwitchServer, *, up: bool = True, **changes: Any) -> AsyncIterator[Exchange]:
    """A controller at this server; `up`: it has looked at it. It must still run at the end unless the test has ended it."""
    facts: dict[str, Any] = {"name": "hq", "port": server.port, "password": PASSWORD, "beat": 0.1}
    pbx = FreeSwitchPbx(FreeSwitchOptions(**(facts | changes)))
    on = Exchange(pbx, server, asyncio.create_task(pbx.run()))
    reading = asyncio.create_task(on.read())
    running = on.running
    before = len(server.named("show"))
    try:
        if up:
            await server.until(lambda: len(server.named("show")) > before)
            await asyncio.sleep(0.02)
        yield on
        assert on.running is not running or not running.done()
        assert not reading.done()
    finally:
        for task in (running, reading):
            task.cancel()
        await asyncio.gather(running, reading, return_exceptions=True)
