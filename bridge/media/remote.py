"""A node in another process, with the same face as one in ours: `bridge.media.port.Node` over the node's Unix socket.

The connection is kept while `run` runs: made, watched by pings, made again. While it is away the node counts as lost, and all that is
asked of its calls ends with NodeGone; the node itself goes on for a while (`node_server.py`) and still has them when it is back.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from bridge.errors import NodeGone, RemoteProtocolError, Unavailable
from bridge.media import messages as m
from bridge.media.port import Clip, ClipName, NodeLoad, SoundState
from bridge.model.ending import EndReason
from bridge.model.media_address import MediaAddress
from bridge.model.ticket import DigitsToSend, EndAsked, RoomTicket, SeatBack, SeatEvent, SeatGone, SeatLost

log = structlog.get_logger(__name__)

_LOST: Final = NodeLoad(calls=0, room_for=0, lost=True)


@dataclass(frozen=True, slots=True)
class RemoteNodeOptions:
    """Seconds. `answer_timeout` is for what the node does at once; who waits for company or a prompt's end waits as long as it takes."""

    path: Path
    connect_timeout: float = 3.0
    answer_timeout: float = 5.0
    ping_interval: float = 0.5
    ping_timeout: float = 1.0
    shortest_wait: float = 0.05
    longest_wait: float = 2.0


class _Connection:
    """One connection to the node: requests by their id, and who listens at which seat."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._seats: dict[int, asyncio.Queue[SeatEvent | None]] = {}
        self.load = _LOST

    async def greet(self) -> None:
        """Raises RemoteProtocolError when the node speaks another language."""
        hello = m.read_from_node(await self._reader.readline())
        if not isinstance(hello, m.Hello) or hello.version != m.VERSION:
            raise RemoteProtocolError("the node is of another version than this controller: upgrade both")

    async def read(self) -> None:
        """Until the node goes. Raises RemoteProtocolError for what is no message."""
        while line := await self._reader.readline():
            match m.read_from_node(line):
                case m.Load(calls=calls, room_for=room_for, draining=draining):
                    self.load = NodeLoad(calls, room_for, draining=draining)
                case m.Answer(id=number, value=value):
                    self._settle(number, value, None)
                case m.Refusal(id=number, error=error):
                    self._settle(number, None, Unavailable(error))
                case m.SeatTold() as word:
                    if word.seat in self._seats:
                        self._seats[word.seat].put_nowait(_event(word))
                case m.Hello():
                    raise RemoteProtocolError("a second greeting")

    def close(self, reason: str) -> None:
        """Everybody who waits is told."""
        self._writer.transport.abort()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NodeGone(reason))
                future.exception()  # seen, even if its waiter has just given up
        self._waiting.clear()

    async def ask(self, request: type[m.Request], timeout: float | None, **fields: Any) -> Any:
        """Raises NodeGone when the connection goes, Unavailable when the node refuses or takes too long."""
        self._ids += 1
        number = self._ids
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(m.encode(request(id=number, **fields)))
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            self._cancel(number)
            raise Unavailable(f"the media node did not answer within {timeout:g} s") from None
        except asyncio.CancelledError:
            self._cancel(number)
            raise
        finally:
            self._waiting.pop(number, None)

    async def listen(self, seat: int) -> AsyncIterator[SeatEvent]:
        """To one reader. Ends with the seat; raises NodeGone when the node goes first."""
        events = self._seats[seat] = asyncio.Queue()
        asking = asyncio.ensure_future(self.ask(m.Listen, None, seat=seat))
        asking.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await asking
        finally:
            self._seats.pop(seat, None)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def _cancel(self, number: int) -> None:
        if not self._writer.is_closing():
            self._writer.write(m.encode(m.Cancel(id=number)))

    def _settle(self, number: int, value: Any, error: Exception | None) -> None:
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)


class RemoteNode:
    """Implements `bridge.media.port.Node` while `run` runs."""

    def __init__(self, options: RemoteNodeOptions) -> None:
        self._options = options
        self._connection: _Connection | None = None

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        wait, told = self._options.shortest_wait, ""
        while True:
            try:
                connection = await self._connect()
            except (Unavailable, RemoteProtocolError) as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("no connection to a media node", node=self._options.path.name, error=told)
            else:
                wait, told = self._options.shortest_wait, ""
                await self._serve(connection)
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))
            wait = min(wait * 2, self._options.longest_wait)

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                reader, writer = await asyncio.open_unix_connection(self._options.path, limit=m.LINE_LIMIT)
                connection = _Connection(reader, writer)
                try:
                    await connection.greet()
                except BaseException:
                    connection.close("not greeted")
                    raise
        except TimeoutError:
            raise Unavailable("the media node does not answer") from None
        except (OSError, ValueError) as error:
            raise Unavailable(f"the media node cannot be reached: {getattr(error, 'strerror', None) or error}") from None
        return connection

    async def _serve(self, connection: _Connection) -> None:
        self._connection = connection
        reason = "the media node has gone"
        reading = asyncio.create_task(connection.read())
        pinging = asyncio.create_task(self._ping(connection))
        try:
            done, _ = await asyncio.wait({reading, pinging}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) is not None:
                    reason = str(error) or reason
        finally:
            self._connection = None
            for task in (reading, pinging):
                task.cancel()
            await asyncio.gather(reading, pinging, return_exceptions=True)
            connection.close(reason)
        log.warning("connection to a media node lost", node=self._options.path.name, reason=reason)

    async def _ping(self, connection: _Connection) -> None:
        """Raises Unavailable for a node that is frozen: its socket is open, and silent."""
        while True:
            await asyncio.sleep(self._options.ping_interval)
            await connection.ask(m.Ping, self._options.ping_timeout)

    async def ask(self, request: type[m.Request], *, patient: bool = False, **fields: Any) -> Any:
        """Raises NodeGone, Unavailable. `patient`: as long as it takes."""
        return await self._now().ask(request, None if patient else self._options.answer_timeout, **fields)

    def listen(self, seat: int) -> AsyncIterator[SeatEvent]:
        return self._now().listen(seat)

    def _now(self) -> _Connection:
        if self._connection is None:
            raise NodeGone("the media node is not there")
        return self._connection

    async def open(self, call_id: str, rate: int) -> "RemoteSound":
        await self.ask(m.Open, call_id=call_id, rate=rate)
        return RemoteSound(self, call_id)

    async def sounds(self) -> Mapping[str, "RemoteSound"]:
        return {call_id: RemoteSound(self, call_id) for call_id in await self.ask(m.Sounds)}

    async def probe(self) -> None:
        await self.ask(m.Probe)

    def load(self) -> NodeLoad:
        return self._connection.load if self._connection is not None else _LOST


class RemoteSound:
    """Implements `bridge.media.port.Sound`. What only looks or ends does not raise when the node is gone: there is nothing left then."""

    def __init__(self, node: RemoteNode, call_id: str) -> None:
        self._node = node
        self._call_id = call_id

    @property
    def call_id(self) -> str:
        return self._call_id

    async def invite(self) -> MediaAddress:
        return MediaAddress(**await self._node.ask(m.Invite, call_id=self._call_id))

    async def connected(self) -> None:
        await self._node.ask(m.Connected, patient=True, call_id=self._call_id)

    async def disconnected(self) -> None:
        try:
            await self._node.ask(m.Disconnected, patient=True, call_id=self._call_id)
        except Unavailable:
            return

    async def play(self, clip: Clip) -> bool:
        try:
            return bool(await self._node.ask(m.Play, patient=True, call_id=self._call_id, clip=clip.name, loop=clip.loop))
        except Unavailable:
            return False

    async def stop(self) -> None:
        try:
            await self._node.ask(m.Stop, call_id=self._call_id)
        except Unavailable:
            return

    async def take_seat(self, ticket: RoomTicket) -> "RemoteSeat":
        number = await self._node.ask(m.TakeSeat, patient=True, call_id=self._call_id, ticket=ticket)
        return RemoteSeat(self._node, number, ticket)

    async def snapshot(self) -> SoundState:
        try:
            state = await self._node.ask(m.Snapshot, call_id=self._call_id)
        except Unavailable:
            return SoundState(self._call_id, connected=False, playing=None, seated_in=None, opened=False)
        playing = state["playing"]
        return SoundState(**{**state, "playing": ClipName(playing) if playing else None})

    async def hand_over(self) -> None:
        """The node notices by itself that we are gone."""

    async def close(self) -> None:
        try:
            await self._node.ask(m.Close, call_id=self._call_id)
        except Unavailable:
            return


class RemoteSeat:
    """Implements `bridge.media.port.Seat`."""

    def __init__(self, node: RemoteNode, number: int, ticket: RoomTicket) -> None:
        self._node = node
        self._number = number
        self._ticket = ticket

    @property
    def ticket(self) -> RoomTicket:
        return self._ticket

    async def company(self) -> None:
        await self._node.ask(m.Company, patient=True, seat=self._number)

    async def open(self) -> None:
        await self._node.ask(m.OpenSeat, seat=self._number)

    def events(self) -> AsyncIterator[SeatEvent]:
        return self._node.listen(self._number)

    async def publish_digit(self, digit: str) -> None:
        await self._node.ask(m.PublishDigit, seat=self._number, digit=digit)

    async def set_attributes(self, changes: Mapping[str, str]) -> None:
        await self._node.ask(m.SetAttributes, seat=self._number, changes=dict(changes))

    async def leave(self, reason: EndReason) -> None:
        try:
            await self._node.ask(m.Leave, seat=self._number, reason=reason)
        except Unavailable:
            return


def _event(word: m.SeatTold) -> SeatEvent:
    match word.event:
        case "digits":
            return DigitsToSend(word.text)
        case "lost":
            return SeatLost()
        case "back":
            return SeatBack()
        case "gone":
            return SeatGone(word.text, word.detail)
        case "end":
            return EndAsked(word.text)
