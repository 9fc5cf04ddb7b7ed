"""A TCP relay on loopback between the server and the PBX's manager, that can be cut or made to swallow everything."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bridge.testing.ports import LOOPBACK


class WireTap:
    """`async with WireTap(port)`: relays to the port of loopback that `port()` gives for each connection."""

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._refuse = False
        self._relays: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        """Close what is connected, and refuse what comes."""
        self._refuse = True
        for writer in list(self._writers):
            writer.transport.abort()

    def mend(self) -> None:
        self._refuse = False
        self._open.set()

    def swallow(self) -> None:
        """Connections stay up; nothing passes."""
        self._open.clear()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, LOOPBACK, 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self.cut()
        self._server.close()
        for relay in list(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            if self._refuse:
                return
            far_reader, far = await asyncio.open_connection(LOOPBACK, self._target())
            self._writers.add(far)
            ways = [asyncio.ensure_future(self._pass(reader, far)), asyncio.ensure_future(self._pass(far_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            # Cancelled only by our own end; asyncio's streams would log it as a fault.
            return
        finally:
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()
                    self._writers.discard(end)
            self._relays.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
        except OSError:
            return
