"""The node's end of the Unix socket: serves one controller at a time, the newest, and knows what to do without one.

Without a controller a node decides three things and no more (DESIGN §5): callers who were asked or waited go back to the PBX after
`DIALOGUE_LIMIT`, those who talk after the orphan limit, and what ended at a seat is kept until a controller collects it. What is
played goes on meanwhile.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import structlog
from prometheus_client.core import Metric

from bridge.errors import ConfigurationError, RemoteProtocolError, RoomlineError, Unavailable
from bridge.media import messages as m
from bridge.media.epoch import Epoch
from bridge.media.figures_text import of_this_process, written
from bridge.media.peer import peer_of
from bridge.media.port import Clip, NodeLoad, Seat, Sound
from bridge.media.sparse_log import SparseLog
from bridge.model.ticket import DigitsToSend, EndAsked, RoomTicket, SeatBack, SeatEvent, SeatGone, SeatLost

log = structlog.get_logger(__name__)

DIALOGUE_LIMIT: Final = 5.0
"""Seconds without a controller after which a caller who is not talking is given back."""

UNCLAIMED_LIMIT: Final = 30.0
"""Seconds after which a call is let go that the PBX sends nothing of and the controller has asked nothing about: its caller hung up
between two controllers."""

GREETING_LIMIT: Final = 5.0
"""Seconds that one who connects has to say who it is."""

_LOOK_EVERY = 0.25


class CarryingNode(Protocol):
    """What is served here: `bridge.media.port.Node`, which is told whether a controller is there."""

    unattended: bool

    async def open(self, call_id: str, rate: int) -> Sound: ...
    async def sounds(self) -> Mapping[str, Sound]: ...
    async def probe(self) -> None: ...
    def load(self) -> NodeLoad: ...
    async def metrics(self) -> Sequence[Metric]: ...


class KeptSeat:
    """A seat by its number, with what happened there and nobody has collected yet."""

    def __init__(self, number: int, call_id: str, seat: Seat) -> None:
        self.number = number
        self.call_id = call_id
        self.seat = seat
        self._told: list[SeatEvent] = []
        self._ended = False
        self._news = asyncio.Event()
        self.reading = asyncio.ensure_future(self._read())

    def is_for(self, call_id: str, ticket: RoomTicket) -> bool:
        mine = self.seat.ticket
        return (self.call_id, mine.room_name, mine.identity) == (call_id, ticket.room_name, ticket.identity)

    async def tell(self, say: Callable[[m.SeatTold], Awaitable[None]]) -> None:
        """Tell everything there is and will be, until the seat's last event. What ended it is told to every later listener too."""
        while True:
            while self._told:
                await say(told(self.number, self._told[0]))
                if isinstance(self._told[0], SeatGone):
                    return
                self._told.pop(0)
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()

    async def _read(self) -> None:
        try:
            async for event in self.seat.events():
                self._told.append(event)
                self._news.set()
        except Exception:
            log.exception("a fault of ours at a seat", call_id=self.call_id)
        finally:
            self._ended = True
            self._news.set()


class NodeServer:
    """`async with NodeServer(node, path)`: listens on the Unix socket, which only its own user may use; a newer controller takes over
    from the one before, an older one is turned away. Raises ConfigurationError when the place cannot be had, or another node has it."""

    def __init__(self, node: CarryingNode, path: Path, *, orphan_limit: float = 30.0, now: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._path = path
        self._orphan_limit = orphan_limit
        self._now = now
        self._server: asyncio.Server | None = None
        self._controller: _Controller | None = None
        self._newest: Epoch | None = None
        self._alone_since = now()
        self._seats: dict[int, KeptSeat] = {}
        self._numbers = 0
        self._plays: set[asyncio.Task[bool]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._claimed: set[str] = set()
        self._unclaimed_since: dict[str, float] = {}
        self._faults = SparseLog(now=now)

    async def __aenter__(self) -> Self:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if await _somebody_listens(self._path):
                raise ConfigurationError(f"{self._path}: another node serves there")
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._came, self._path, limit=m.LINE_LIMIT)
            self._path.chmod(0o600)
        except OSError as error:
            raise ConfigurationError(f"{self._path}: the node cannot listen there: {error.strerror}") from error
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()
        tasks: list[asyncio.Task[Any]] = [*self._serving, *self._plays]
        tasks += [seat.reading for seat in self._seats.values()]
        if self._looking is not None:
            tasks.append(self._looking)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    @property
    def alone_for(self) -> float:
        """Seconds without a controller."""
        return 0.0 if self._controller is not None else self._now() - self._alone_since

    # Controllers come and go

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or not _is_our_own(writer):
            log.warning("somebody else's process was turned away")
            writer.transport.abort()
            return
        self._serving.add(task)
        controller = _Controller(self, writer)
        try:
            epoch = await controller.greet(reader)
            if epoch is not None and self._admit(controller, epoch):
                await controller.serve(reader)
        except asyncio.CancelledError:
            # Ours is the only one who cancels: at the node's end. Streams would log it as a fault.
            return
        finally:
            self._serving.discard(task)
            if self._controller is controller:
                self._controller, self._alone_since = None, self._now()
                self._node.unattended = True
                log.warning("no controller; calls are carried on for a while", calls=self._node.load().calls)
            controller.leave()

    def _admit(self, controller: "_Controller", epoch: Epoch) -> bool:
        """One that froze and thawed after a newer one had come has no part in anything any more."""
        newest, before = self._newest, self._controller
        if newest is not None and epoch < newest:
            log.warning("an older controller was turned away")
            controller.turn_away()
            return False
        self._newest, self._controller = epoch, controller
        self._node.unattended = False
        if newest != epoch:
            self._claimed.clear()
            self._unclaimed_since.clear()
        if before is not None and newest == epoch:
            before.leave()  # its own connection of before, whose end has not reached us yet
        elif before is not None:
            log.info("a newer controller has come")
            before.turn_away()
        controller.welcome()
        return True

    async def _look(self) -> None:
        """What is decided without a controller, and word of the load to one that is there."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            try:
                await self._look_once()
            except Exception as error:  # a fault at one call, and the load is told and the others are looked after all the same
                self._faults.warning("a fault of ours while the node looked after its calls", exc_info=error)

    async def _look_once(self) -> None:
        if self._controller is not None:
            self._controller.tell_load(self._node.load())
            await self._let_go_unclaimed()
        else:
            await self._without_controller(self.alone_for)
        await self._forget_seats()

    async def _without_controller(self, alone: float) -> None:
        if alone < DIALOGUE_LIMIT:
            return
        for call_id, sound in (await self._node.sounds()).items():
            opened = (await sound.snapshot()).opened
            if self._controller is None and alone >= (self._orphan_limit if opened else DIALOGUE_LIMIT):
                log.warning("no controller came: the call goes back to its PBX", call_id=call_id, talking=opened)
                await sound.close()

    async def _let_go_unclaimed(self) -> None:
        carried = await self._node.sounds()
        self._claimed &= carried.keys()
        for call_id, sound in carried.items():
            if call_id in self._claimed or (await sound.snapshot()).connected:
                self._unclaimed_since.pop(call_id, None)
            elif self._now() - self._unclaimed_since.setdefault(call_id, self._now()) >= UNCLAIMED_LIMIT:
                log.warning("nobody wants this call any more: it is let go", call_id=call_id)
                self._unclaimed_since.pop(call_id)
                await sound.close()

    async def _forget_seats(self) -> None:
        """Of calls that are not carried any more."""
        carried = await self._node.sounds()
        for number in [number for number, kept in self._seats.items() if kept.call_id not in carried and kept.reading.done()]:
            del self._seats[number]

    # What a controller asks

    async def sound(self, call_id: str) -> Sound:
        sound = (await self._node.sounds()).get(call_id)
        if sound is None:
            raise Unavailable(f"the node does not carry call {call_id}")
        self._claimed.add(call_id)
        return sound

    def seat(self, number: int) -> Seat:
        if number not in self._seats:
            raise Unavailable("the seat is gone")
        return self._seats[number].seat

    async def probe(self) -> None:
        await self._node.probe()

    async def metrics(self) -> Sequence[Metric]:
        return [*await self._node.metrics(), *of_this_process()]

    async def open(self, call_id: str, rate: int) -> None:
        await self._node.open(call_id, rate)
        self._claimed.add(call_id)

    async def sounds(self) -> list[str]:
        return list(await self._node.sounds())

    async def play(self, call_id: str, clip: Clip) -> bool:
        """Goes on when its controller goes: the caller hears the prompt to its end."""
        playing = asyncio.ensure_future((await self.sound(call_id)).play(clip))
        self._plays.add(playing)
        playing.add_done_callback(self._plays.discard)
        return await asyncio.shield(playing)

    async def stop(self, call_id: str) -> None:
        """Also what was asked to be played just before, which takes one turn of the loop to begin."""
        await asyncio.sleep(0)
        await (await self.sound(call_id)).stop()

    async def take_seat(self, call_id: str, ticket: RoomTicket) -> int:
        for kept in self._seats.values():
            if kept.is_for(call_id, ticket) and (await self.sound(call_id)) and not await self._was_left(kept):
                return kept.number
        seat = await (await self.sound(call_id)).take_seat(ticket)
        for number in [number for number, kept in self._seats.items() if kept.call_id == call_id]:
            self._seats.pop(number).reading.cancel()
        self._numbers += 1
        self._seats[self._numbers] = KeptSeat(self._numbers, call_id, seat)
        return self._numbers

    async def _was_left(self, kept: KeptSeat) -> bool:
        return (await (await self.sound(kept.call_id)).snapshot()).seated_in is None

    async def listen(self, number: int, say: Callable[[m.SeatTold], Awaitable[None]]) -> None:
        self.seat(number)
        await self._seats[number].tell(say)


class _Controller:
    """One controller's connection: each request is a task of its own, each is answered once."""

    def __init__(self, server: NodeServer, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._writer = writer
        self._asked: dict[int, asyncio.Task[None]] = {}
        self._load: NodeLoad | None = None

    async def greet(self, reader: asyncio.StreamReader) -> Epoch | None:
        """Which controller it is; None for one that does not say so, or goes."""
        self._say(m.Hello(version=m.VERSION))
        try:
            async with asyncio.timeout(GREETING_LIMIT):
                line = await reader.readline()
            if not line:
                return None
            greeting = m.read_from_controller(line)
            if isinstance(greeting, m.Greeting):
                return greeting.epoch
            raise RemoteProtocolError("its first word is no greeting")
        except (RemoteProtocolError, ValueError, TimeoutError) as error:
            log.warning("the controller is not understood", error=str(error) or "no greeting")
        except OSError:
            pass
        return None

    def welcome(self) -> None:
        self._say(m.Welcome())

    def turn_away(self) -> None:
        """With a last word, unless it does not listen."""
        if self._writer.transport.get_write_buffer_size() == 0:
            self._say(m.TurnedAway(reason="a newer controller has taken the node over"))
            self._writer.close()
        else:
            self.leave()

    def leave(self) -> None:
        if not self._writer.is_closing():
            self._writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Until the controller goes, or says what is no message."""
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    while line := await reader.readline():
                        self._understand(m.read_from_controller(line), group)
                except (RemoteProtocolError, ValueError) as error:
                    log.warning("the controller is not understood", error=str(error))
                except OSError:
                    pass
                finally:
                    for task in self._asked.values():
                        task.cancel()
        finally:
            self._asked.clear()

    def tell_load(self, load: NodeLoad) -> None:
        if load != self._load:
            self._load = load
            self._say(m.Load(calls=load.calls, room_for=load.room_for, draining=load.draining, worn=load.worn))

    def _understand(self, message: m.FromController, group: asyncio.TaskGroup) -> None:
        if isinstance(message, m.Cancel):
            asked = self._asked.get(message.id)
            if asked is not None:
                asked.cancel()
        elif isinstance(message, m.Greeting):
            raise RemoteProtocolError("a second greeting")
        elif message.id in self._asked:
            raise RemoteProtocolError("one id for two requests")
        else:
            task = self._asked[message.id] = group.create_task(self._answer(message))
            task.add_done_callback(lambda _: self._asked.pop(message.id, None))

    async def _answer(self, request: m.Request) -> None:
        try:
            reply: m.Message = m.Answer(id=request.id, value=await self._do(request))
        except OSError:
            return  # the controller has gone
        except RoomlineError as error:
            reply = m.Refusal(id=request.id, error=str(error))
        except Exception as error:
            log.exception("a fault of ours in the node")
            reply = m.Refusal(id=request.id, error=f"a fault in the node: {type(error).__name__}")
        self._say(reply)

    async def _do(self, request: m.Request) -> Any:  # noqa: PLR0911, PLR0912  (one line for each thing that can be asked)
        server = self._server
        match request:
            case m.Figures():
                return written(await server.metrics())
            case m.Ping():
                return None
            case m.Probe():
                return await server.probe()
            case m.Open():
                self._load = None  # the controller counts ahead of us: it is told how it came out, whatever that is
                return await server.open(request.call_id, request.rate)
            case m.Sounds():
                return await server.sounds()
            case m.Invite():
                return asdict(await (await server.sound(request.call_id)).invite(request.carriage))
            case m.Connected():
                return await (await server.sound(request.call_id)).connected()
            case m.Disconnected():
                return await (await server.sound(request.call_id)).disconnected()
            case m.SilentFor():
                return await (await server.sound(request.call_id)).silent_for(request.seconds)
            case m.Play():
                return await server.play(request.call_id, Clip(request.clip, request.loop))
            case m.Stop():
                return await server.stop(request.call_id)
            case m.Snapshot():
                return asdict(await (await server.sound(request.call_id)).snapshot())
            case m.Close():
                return await (await server.sound(request.call_id)).close()
            case m.TakeSeat():
                return await server.take_seat(request.call_id, request.ticket)
            case m.Company():
                return await server.seat(request.seat).company()
            case m.OpenSeat():
                return await server.seat(request.seat).open()
            case m.Listen():
                return await server.listen(request.seat, self._say_and_wait)
            case m.PublishDigit():
                return await server.seat(request.seat).publish_digit(request.digit)
            case m.SetAttributes():
                return await server.seat(request.seat).set_attributes(request.changes)
            case m.Leave():
                return await server.seat(request.seat).leave(request.reason)
        raise RemoteProtocolError("nothing that can be asked")

    def _say(self, message: m.Message) -> None:
        if self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > m.LINE_LIMIT:
            log.warning("a controller that does not listen is left")
            self.leave()
            return
        self._writer.write(m.encode(message))

    async def _say_and_wait(self, message: m.SeatTold) -> None:
        """Raises ConnectionError when the controller has gone: then nobody was told."""
        if self._writer.is_closing():
            raise ConnectionResetError("the controller has gone")
        self._writer.write(m.encode(message))
        await self._writer.drain()


def told(seat: int, event: SeatEvent) -> m.SeatTold:
    match event:
        case DigitsToSend(digits):
            return m.SeatTold(seat=seat, event="digits", text=digits)
        case SeatLost():
            return m.SeatTold(seat=seat, event="lost")
        case SeatBack():
            return m.SeatTold(seat=seat, event="back")
        case SeatGone(reason, detail):
            return m.SeatTold(seat=seat, event="gone", text=reason, detail=detail)
        case EndAsked(by):
            return m.SeatTold(seat=seat, event="end", text=by)


def _is_our_own(writer: asyncio.StreamWriter) -> bool:
    """Only our own user's processes, and root's, may hold calls (DESIGN §8)."""
    peer = peer_of(writer)
    return peer is None or peer.user in (0, os.geteuid())  # elsewhere than on Linux the folder's rights have to do


async def _somebody_listens(path: Path) -> bool:
    """A place is left by who has it, not taken: of two nodes started for one place, by two servers or in a hurry, the first serves."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    writer.transport.abort()
    return True
