"""What may stand between Roomline and its LiveKit: a server in front of the real one that answers as badly as it is told to.

HTTP and WebSocket are told apart by the first request of a connection; which of them is spoilt is the `Mode`.
"""

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Self

from bridge.testing.ports import LOOPBACK

CUT_AFTER = 1000
"""Bytes of the join's answer, in the middle of it: the handshake's 130 and a part of the first message."""

_OF_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class Mode(StrEnum):
    """What becomes of connections that are made from now on."""

    PASS = "everything passes"
    SILENT = "accepts, and never answers"
    NO_HANDSHAKE = "answers questions, but no join"
    NO_JOIN = "takes the WebSocket, and says nothing on it"
    CUT_HANDSHAKE = "drops the socket before the WebSocket is there"
    CUT_JOIN = "drops the socket in the middle of the join's answer"
    CUT_ONCE = "the same, the first time only"


class Front:
    """`async with Front(port)`: relays to the port of loopback that `port()` gives for each connection."""

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._mode = Mode.PASS
        self._relays: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.joins = 0
        """WebSockets that were asked for since the mode was set."""

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def open_joins(self) -> int:
        """WebSockets that are still there."""
        return sum(1 for relay in self._relays if relay.get_name() == "join")

    def become(self, mode: Mode) -> None:
        """What is connected is closed."""
        self._mode, self.joins = mode, 0
        for writer in self._relays.values():
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for relay in list(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays[task] = writer
        try:
            await self._answer(reader, writer, task)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # Cancelled only by our own end; asyncio's streams would log it as a fault.
            return
        finally:
            writer.transport.abort()
            del self._relays[task]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: "asyncio.Task[None]") -> None:
        mode = self._mode
        head = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"(?i)\r\nsec-websocket-key: *([^\r]+)", head)
        if key is None:
            if mode is Mode.SILENT:
                await _until_end(reader)
            await self._relay(reader, writer, head)
            return
        task.set_name("join")
        self.joins += 1
        if mode is Mode.CUT_ONCE:
            mode = Mode.CUT_JOIN if self.joins == 1 else Mode.PASS
        match mode:
            case Mode.PASS:
                await self._relay(reader, writer, head)
            case Mode.CUT_JOIN:
                await self._relay(reader, writer, head, CUT_AFTER)
            case Mode.SILENT | Mode.NO_HANDSHAKE:
                await _until_end(reader)
            case Mode.NO_JOIN:
                accepted = base64.b64encode(hashlib.sha1(key[1] + _OF_WEBSOCKET).digest())
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
                writer.write(b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n")
                await _until_end(reader)
            case Mode.CUT_HANDSHAKE:
                return

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, limit: int | None = None) -> None:
        """`limit`: bytes of the answer after which both sides are cut off."""
        far_reader, far = await asyncio.open_connection(LOOPBACK, self._target())
        try:
            far.write(head)
            ways = [asyncio.ensure_future(_pass(reader, far, None)), asyncio.ensure_future(_pass(far_reader, writer, limit))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            far.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
    passed = 0
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data if limit is None else data[: limit - passed])
            passed += len(data)
            if limit is not None and passed >= limit:
                await writer.drain()
                return


async def _until_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass
