"""A node in another process, with the same face as one in ours: `bridge.media.port.Node` over the node's Unix socket.

The connection is kept while `run` runs: made, watched by pings, made again. While it is away the node counts as lost, and all that is
asked of its calls ends with NodeGone; the node itself goes on for a while (`node_server.py`) and still has them when it is back: who
looks for a call there is made to wait for a moment, and what was to be closed meanwhile is closed then. A node that serves a newer
controller is left to it: all that is asked of it ends with Superseded.
"""

import asyncio
import contextlib
import errno
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client.core import Metric
from pydantic import TypeAdapter

from bridge.errors import NodeGone, RemoteProtocolError, RoomlineError, Superseded, Unavailable
from bridge.media import messages as m
from bridge.media.epoch import Epoch
from bridge.media.figures_text import read
from bridge.media.node_connection import LOST, NodeConnection
from bridge.media.peer import Peer, peer_of
from bridge.media.port import Clip, ClipName, NodeLoad, SoundState
from bridge.model.ending import EndReason
from bridge.model.media_address import Carriage, MediaAddress, Stream
from bridge.model.ticket import RoomTicket, SeatEvent

log = structlog.get_logger(__name__)

LATE: Final = 0.3
"""A time limit that is noticed so many seconds late says that it was we who did not run (stopped, or the machine was): the answer may be
there already, unread."""


class Presence(StrEnum):
    """What is known of a node from here."""

    UNKNOWN = "unknown"  # not tried yet, or its connection has just ended: the next try tells
    THERE = "there"
    SILENT = "silent"  # it listens, and does not answer
    ABSENT = "absent"  # nobody listens at its place
    LEFT = "left"  # to a newer controller


class Silence(NodeGone):
    """The node did not answer in time, though we were there to hear it."""


GONE: Final = "the media node has gone"

_ADDRESS: Final = TypeAdapter(MediaAddress)


@dataclass(frozen=True, slots=True)
class RemoteNodeOptions:
    """Seconds. `epoch` is the controller's. `answer_timeout` is for what the node does at once; who waits for company or a prompt's end
    waits as long as it takes. `back_within`: for a node that was lost to be there again before its calls are looked for elsewhere; its
    callers hear nothing meanwhile."""

    path: Path
    epoch: Epoch = field(default_factory=Epoch.now)
    connect_timeout: float = 3.0
    answer_timeout: float = 5.0
    ping_interval: float = 0.5
    ping_timeout: float = 1.0
    back_within: float = 1.5
    shortest_wait: float = 0.05
    longest_wait: float = 0.25


class RemoteNode:
    """Implements `bridge.media.port.Node` while `run` runs."""

    def __init__(self, options: RemoteNodeOptions) -> None:
        self._options = options
        self._connection: NodeConnection | None = None
        self._presence = Presence.UNKNOWN
        self._news = asyncio.Event()
        self._away_since = float("-inf")
        self._to_close: set[str] = set()
        self._wants_closing = asyncio.Event()
        self.process: Peer | None = None
        """That of the node, as long as it listened when we tried last."""

    @property
    def presence(self) -> Presence:
        return self._presence

    @presence.setter
    def presence(self, presence: Presence) -> None:
        self._presence = presence
        self._news.set()
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Keep the connection until cancelled, or until the node is a newer controller's."""
        self._away_since = asyncio.get_running_loop().time()
        try:
            await self._keep_connected()
        except Superseded as error:
            self.presence = Presence.LEFT
            log.warning("a media node is left alone", node=self._options.path.name, why=str(error))

    async def _keep_connected(self) -> None:
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

    async def _connect(self) -> NodeConnection:
        self.process = None
        loop, limit = asyncio.get_running_loop(), asyncio.timeout(self._options.connect_timeout)
        try:
            async with limit:
                reader, writer = await asyncio.open_unix_connection(self._options.path, limit=m.LINE_LIMIT)
                self.process = peer_of(writer)
                connection = NodeConnection(reader, writer)
                try:
                    await connection.greet(self._options.epoch)
                except BaseException:
                    connection.close(NodeGone("not greeted"))
                    raise
        except TimeoutError:
            on_time = loop.time() - (limit.when() or 0.0) <= LATE
            self.presence = Presence.SILENT if on_time else Presence.UNKNOWN
            raise Unavailable("the media node does not answer") from None
        except RemoteProtocolError:
            self.presence = Presence.UNKNOWN
            raise
        except (OSError, ValueError) as error:
            self.presence = _PRESENCE.get(getattr(error, "errno", None) or 0, Presence.UNKNOWN)
            raise Unavailable(f"the media node cannot be reached: {getattr(error, 'strerror', None) or error}") from None
        return connection

    async def _serve(self, connection: NodeConnection) -> None:
        """Until the connection ends. Raises Superseded when a newer controller has come."""
        self._connection, self.presence = connection, Presence.THERE
        gone: RoomlineError = NodeGone(GONE)
        reading = asyncio.create_task(connection.read())
        pinging = asyncio.create_task(self._ping(connection))
        closing = asyncio.create_task(self._close_what_is_over(connection))
        try:
            done, _ = await asyncio.wait({reading, pinging}, return_when=asyncio.FIRST_COMPLETED)
            gone = _why_gone(*(task.exception() for task in done))
        finally:
            self._connection = None
            self._away_since = asyncio.get_running_loop().time()
            self.presence = _presence_after(gone)
            for task in (reading, pinging, closing):
                task.cancel()
            await asyncio.gather(reading, pinging, closing, return_exceptions=True)
            connection.close(gone)
        if isinstance(gone, Superseded):
            raise gone
        log.warning("connection to a media node lost", node=self._options.path.name, reason=str(gone))

    async def _ping(self, connection: NodeConnection) -> None:
        """Raises Silence for a node that is frozen: its socket is open, and silent. When it was us who froze, it is asked again."""
        loop, timeout = asyncio.get_running_loop(), self._options.ping_timeout
        while True:
            await asyncio.sleep(self._options.ping_interval)
            asked_at = loop.time()
            try:
                await connection.ask(m.Ping, timeout)
            except NodeGone:
                raise
            except Unavailable as error:
                if loop.time() - asked_at <= timeout + LATE:
                    raise Silence(str(error)) from None

    async def _close_what_is_over(self, connection: NodeConnection) -> None:
        while True:
            for call_id in list(self._to_close):
                await self._close_now(connection, call_id)
            self._wants_closing.clear()
            await self._wants_closing.wait()

    async def _close_now(self, connection: NodeConnection, call_id: str) -> None:
        try:
            await connection.ask(m.Close, self._options.answer_timeout, call_id=call_id)
        except NodeGone:
            raise
        except Unavailable:
            pass  # it does not carry the call any more; or it hangs, which the pings will tell
        self._to_close.discard(call_id)

    def close_later(self, call_id: str) -> None:
        """The call is over, or goes on elsewhere: the node is not to keep it, now or when it is back. Its seat would be a ghost's."""
        self._to_close.add(call_id)
        self._wants_closing.set()

    async def _back_or_gone(self) -> None:
        """Returns once the node is there, or nobody listens at its place, or it has been away for too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._away_since + self._options.back_within):
                while self.presence in (Presence.UNKNOWN, Presence.SILENT):
                    await self._news.wait()

    async def ask(self, request: type[m.Request], *, patient: bool = False, **fields: Any) -> Any:
        """Raises NodeGone, Unavailable, Superseded. `patient`: as long as it takes."""
        return await self._now().ask(request, None if patient else self._options.answer_timeout, **fields)

    def listen(self, seat: int) -> AsyncIterator[SeatEvent]:
        return self._now().listen(seat)

    def _now(self) -> NodeConnection:
        if self.presence is Presence.LEFT:
            raise Superseded("a newer controller has taken the node over")
        if self._connection is None:
            raise NodeGone("the media node is not there")
        return self._connection

    async def open(self, call_id: str, rate: int) -> "RemoteSound":
        if call_id in self._to_close:
            await self._close_now(self._now(), call_id)
        self._now().expect_a_call()
        try:
            await self.ask(m.Open, call_id=call_id, rate=rate)
        except BaseException:
            self.close_later(call_id)  # the node may have opened it all the same, and nobody will know of it
            raise
        return RemoteSound(self, call_id)

    async def sounds(self) -> Mapping[str, "RemoteSound"]:
        """See the port. Waits for a node that was lost just now, or not tried yet: it may be back with its calls."""
        await self._back_or_gone()
        return {call_id: RemoteSound(self, call_id) for call_id in await self.ask(m.Sounds)}

    async def probe(self) -> None:
        await self.ask(m.Probe)

    async def metrics(self) -> Sequence[Metric]:
        """What the node and its process count. Raises Unavailable."""
        return read(await self.ask(m.Figures))

    def load(self) -> NodeLoad:
        return self._connection.load if self._connection is not None else LOST


class RemoteSound:
    """Implements `bridge.media.port.Sound`. What only looks or ends does not raise when the node is gone: there is nothing left then."""

    def __init__(self, node: RemoteNode, call_id: str) -> None:
        self._node = node
        self._call_id = call_id

    @property
    def call_id(self) -> str:
        return self._call_id

    async def invite(self, carriage: Carriage = Stream()) -> MediaAddress:  # noqa: B008  (frozen, and the port's own default)
        return _ADDRESS.validate_python(await self._node.ask(m.Invite, call_id=self._call_id, carriage=carriage))

    async def connected(self) -> None:
        await self._node.ask(m.Connected, patient=True, call_id=self._call_id)

    async def disconnected(self) -> None:
        try:
            await self._node.ask(m.Disconnected, patient=True, call_id=self._call_id)
        except Unavailable:
            return

    async def silent_for(self, seconds: float) -> None:
        await self._node.ask(m.SilentFor, patient=True, call_id=self._call_id, seconds=seconds)

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
        except NodeGone:
            self._node.close_later(self._call_id)
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


_PRESENCE: Final = {
    errno.ENOENT: Presence.ABSENT,
    errno.ECONNREFUSED: Presence.ABSENT,
    errno.EAGAIN: Presence.SILENT,  # more wait at its door than the kernel lets in
}
"""What an error of connecting says; any other says that something was there, and went."""


def _why_gone(*errors: BaseException | None) -> RoomlineError:
    """A newer controller's coming says more than the end of the connection, and that more than the silence before it."""
    found = [error for error in errors if error is not None]
    for kind in (Superseded, RemoteProtocolError, Silence):
        for error in found:
            if isinstance(error, kind):
                return error if isinstance(error, Superseded | Silence) else NodeGone(str(error))
    return NodeGone(GONE)


def _presence_after(gone: RoomlineError) -> Presence:
    if isinstance(gone, Superseded):
        return Presence.LEFT
    return Presence.SILENT if isinstance(gone, Silence) else Presence.UNKNOWN
