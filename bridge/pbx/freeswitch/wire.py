"""The event socket that is kept: made, watched and made again until cancelled. What is sent is checked here, and has its deadline.

The connection itself lives in a thread (`connection.py`); what events mean is `pbx.py`'s.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from bridge.errors import LocalProtocolError, Unavailable
from bridge.pbx.freeswitch.connection import Connection, Place, Reply
from bridge.pbx.freeswitch.messages import Event
from bridge.pbx.freeswitch.options import WireOptions

log = structlog.get_logger(__name__)

COMMAND_LIMIT: Final = 1 << 17
"""Bytes of one command we send: far less than FreeSWITCH takes (10 MB, mod_event_socket.c), far more than a note."""

CLOSING: Final = 5.0
"""Seconds for a connection's thread to end; a thread that hangs in a name look-up is left to itself."""

NOT_OURS: Final = "its answers are not those to our commands"
"""Why a connection is given up that is out of step."""

_FORBIDDEN: Final = frozenset("\r\n\0")


@dataclass(frozen=True, slots=True)
class Up:
    """Logged in, and nothing subscribed to. Events from here on are this connection's."""

    version: str


@dataclass(frozen=True, slots=True)
class Down:
    """The connection is gone; `reason` is a sentence."""

    reason: str


Item = Up | Down | Event


class Wire:
    """One event socket."""

    def __init__(self, options: WireOptions) -> None:
        self._options = options
        self._connection: Connection | None = None
        # Bounded by the connection: it ends when there are more events than anybody reads. Up and Down always fit.
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self._pings = itertools.count(1)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def drop(self, reason: str) -> None:
        """Give this connection up: it is of no use, and the next one may be."""
        if self._connection is not None:
            self._connection.close(reason)

    async def items(self) -> AsyncIterator[Item]:
        """Up, its events, Down, Up, …: in order, to one reader, for ever."""
        while True:
            if self._items.empty():
                self._take_events()
            yield await self._items.get()

    async def api(self, command: str) -> Reply:
        """Have FreeSWITCH carry out an API command, and wait for its words. Raises Unavailable when there is no connection, when it
        breaks, or when no answer comes in time; LocalProtocolError when it cannot be sent. `-ERR …` is an answer like any other."""
        return await self._ask(f"api {command}", is_api=True)

    async def command(self, command: str, headers: Mapping[str, str] | None = None) -> Reply:
        """The same for a command of the event socket itself, such as `sendmsg`."""
        return await self._ask(command, is_api=False, headers=headers or {})

    async def _ask(self, command: str, *, is_api: bool, headers: Mapping[str, str] | None = None) -> Reply:
        if self._connection is None:
            raise Unavailable("there is no event socket connection")
        return await self._ask_on(self._connection, command, is_api, self._options.command_timeout, headers)

    async def _ask_on(
        self, connection: Connection, command: str, is_api: bool, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Reply:
        text = written(command, headers or {})
        try:
            async with asyncio.timeout(timeout):
                return await connection.ask(text, is_api=is_api)
        except TimeoutError:
            raise Unavailable(f"{' '.join(command.split()[:2])} was not answered within {timeout:g} s") from None

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        wait, told, loop = self._options.shortest_wait, "", asyncio.get_running_loop()
        while True:
            connection = self._new_connection()
            try:
                try:
                    version = await self._connect(connection)
                except (Unavailable, LocalProtocolError) as error:
                    if str(error) != told:
                        told = str(error)
                        log.warning("no event socket connection", error=told, next_try_in=round(wait, 1))
                        self._items.put_nowait(Down(told))
                else:
                    told, since = "", loop.time()
                    reason = await self._serve(connection, version)
                    # Only one that stood for longer than we waited for it was worth coming back quickly for.
                    if loop.time() - since > wait:
                        wait = self._options.shortest_wait
                    log.warning("event socket connection lost", reason=reason)
                    self._items.put_nowait(Down(reason))
            finally:
                self._connection = None
                await _end(connection)
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))
            wait = min(wait * 2, self._options.longest_wait)

    def _new_connection(self) -> Connection:
        options = self._options
        place = Place(options.host, options.port, options.password, options.connect_timeout)
        return Connection(place, options.events_kept, self._take_events)

    async def _connect(self, connection: Connection) -> str:
        options = self._options
        written(f"auth {options.password}", {})
        connection.start()
        try:
            async with asyncio.timeout(options.connect_timeout):
                await connection.ready
                return (await self._ask_on(connection, "api version", True, options.connect_timeout)).text
        except TimeoutError:
            raise Unavailable(f"the event socket at {options.host}:{options.port} does not answer") from None

    async def _serve(self, connection: Connection, version: str) -> str:
        """Pass events on and ping, until the connection is gone; returns why."""
        self._items.put_nowait(Up(version))
        self._connection = connection
        async with asyncio.TaskGroup() as group:
            ping = group.create_task(self._ping(connection))
            reason = await asyncio.shield(connection.lost)
            ping.cancel()
        self._take_events()
        return reason

    def _take_events(self) -> None:
        """As long as the reader is behind, events stay with the connection, which counts them."""
        if self._connection is not None and self._items.qsize() < self._options.events_kept:
            for event in self._connection.take():
                self._items.put_nowait(event)

    async def _ping(self, connection: Connection) -> None:
        """A connection that is up but silent (half open, a stopped FreeSWITCH), or whose answers are not those to our commands any more,
        is noticed here: each ping is answered by its own number."""
        while True:
            await asyncio.sleep(self._options.ping_interval)
            number = f"roomline-{next(self._pings)}"
            try:
                reply = await self._ask_on(connection, f"api echo {number}", True, self._options.ping_timeout)
            except Unavailable as error:
                connection.close(str(error))
                return
            if reply.text != number:
                connection.close(NOT_OURS)
                return


def written(command: str, headers: Mapping[str, str]) -> str:
    """A command as it is sent, without its end. Raises LocalProtocolError when a part of it could be read as more than that part."""
    lines = [command, *(f"{name}: {value}" for name, value in headers.items())]
    if any(not _FORBIDDEN.isdisjoint(line) for line in lines) or any(":" in name or not name.strip() for name in headers):
        raise LocalProtocolError("a command to FreeSWITCH holds a line break or a NUL")
    text = "\n".join(lines)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise LocalProtocolError("a command to FreeSWITCH holds half a character") from None
    if size > COMMAND_LIMIT:
        raise LocalProtocolError(f"a command to FreeSWITCH is over {COMMAND_LIMIT} bytes long")
    return text


async def _end(connection: Connection) -> None:
    connection.close("closed by us")
    if connection.started:
        await asyncio.wait({connection.lost}, timeout=CLOSING)
