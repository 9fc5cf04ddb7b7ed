"""An administrator's event socket, for tests: one API command after the other, nothing kept. Not the adapter's, which it is to tell on."""

import asyncio
import re
from types import TracebackType
from typing import Self

from bridge.errors import Unavailable

_LENGTH = re.compile(rb"Content-Length: *([0-9]+)")


class EventSocket:
    """`async with await EventSocket.connect(host, port, password) as socket`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    @classmethod
    async def connect(cls, host: str, port: int, password: str) -> Self:
        """Raises Unavailable."""
        try:
            socket = cls(*await asyncio.open_connection(host, port))
            await socket._read()
            answer = await socket._ask(f"auth {password}")
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable(f"no event socket at {host}:{port}: {error}") from error
        if b"+OK" not in answer:
            await socket.close()
            raise Unavailable(f"the event socket at {host}:{port} takes another password")
        return socket

    async def api(self, command: str) -> str:
        """What FreeSWITCH says to it, without the line end. Raises Unavailable."""
        try:
            async with self._turn, asyncio.timeout(10):
                return (await self._ask(f"api {command}")).decode(errors="replace").rstrip("\n")
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            raise Unavailable(f"the event socket broke: {error}") from error

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return

    async def _ask(self, line: str) -> bytes:
        self._writer.write(f"{line}\n\n".encode())
        await self._writer.drain()
        return await self._read()

    async def _read(self) -> bytes:
        """The body where there is one, else the headers."""
        headers = await self._reader.readuntil(b"\n\n")
        length = _LENGTH.search(headers)
        return await self._reader.readexactly(int(length[1])) if length else headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
