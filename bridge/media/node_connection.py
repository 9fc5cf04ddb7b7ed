"""One connection of a controller to a node: the greeting, requests by their id, and who listens at which seat.

When it is kept, made again and given up is `remote.py`'s.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

from bridge.errors import NodeGone, RemoteProtocolError, RoomlineError, Superseded, Unavailable
from bridge.media import messages as m
from bridge.media.epoch import Epoch
from bridge.media.port import NodeLoad
from bridge.model.ticket import DigitsToSend, EndAsked, SeatBack, SeatEvent, SeatGone, SeatLost

LOST: Final = NodeLoad(calls=0, room_for=0, lost=True)


class NodeConnection:
    """Works while `read` runs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._seats: dict[int, asyncio.Queue[SeatEvent | None]] = {}
        self.load = LOST

    async def greet(self, epoch: Epoch) -> None:
        """Raises RemoteProtocolError when the node speaks another language, Superseded when it serves a newer controller."""
        hello = await self._word()
        if not isinstance(hello, m.Hello) or hello.version != m.VERSION:
            raise RemoteProtocolError("the node is of another version than this controller: upgrade both")
        self._writer.write(m.encode(m.Greeting(epoch=epoch)))
        match await self._word():
            case m.Welcome():
                return
            case m.TurnedAway(reason=reason):
                raise Superseded(reason)
        raise RemoteProtocolError("the node does not say whether we are welcome")

    async def _word(self) -> m.FromNode:
        if not (line := await self._reader.readline()):
            raise ConnectionResetError("it went without a word")
        return m.read_from_node(line)

    async def read(self) -> None:
        """Until the node goes. Raises RemoteProtocolError for what is no message, Superseded when a newer controller has come."""
        while line := await self._reader.readline():
            match m.read_from_node(line):
                case m.Load(calls=calls, room_for=room_for, draining=draining, worn=worn):
                    self.load = NodeLoad(calls, room_for, draining=draining, worn=worn)
                case m.Answer(id=number, value=value):
                    self._settle(number, value, None)
                case m.Refusal(id=number, error=error):
                    self._settle(number, None, Unavailable(error))
                case m.SeatTold() as word:
                    if word.seat in self._seats:
                        self._seats[word.seat].put_nowait(_event(word))
                case m.TurnedAway(reason=reason):
                    raise Superseded(reason)
                case m.Hello() | m.Welcome():
                    raise RemoteProtocolError("a second greeting")

    def expect_a_call(self) -> None:
        """Counted before the node says so: of calls that come at the same moment, each sees those before it."""
        self.load = replace(self.load, calls=self.load.calls + 1, room_for=max(0, self.load.room_for - 1))

    def close(self, why: RoomlineError) -> None:
        """Everybody who waits is told."""
        self._writer.transport.abort()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(type(why)(str(why)))
                future.exception()  # seen, even if its waiter has just given up
        self._waiting.clear()

    async def ask(self, request: type[m.Request], timeout: float | None, **fields: Any) -> Any:
        """Raises NodeGone or Superseded when the connection goes, Unavailable when the node refuses or takes too long."""
        if self._writer.is_closing():
            raise NodeGone("the media node has just gone")  # uvloop would raise a RuntimeError
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
