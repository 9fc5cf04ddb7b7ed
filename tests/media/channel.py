"""The PBX's end of an audio connection, for tests: says what it is told to, keeps what it hears. Parses for itself, not with our codec."""

import asyncio
import struct
from typing import Self
from uuid import UUID

from bridge.model.media_address import MediaAddress

KINDS = {8_000: 0x10, 16_000: 0x12}


class Channel:
    """One connection. `frames` is all audio heard so far; the end of the stream sets `ended`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._reading = asyncio.create_task(self._read())
        self._news = asyncio.Event()
        self.messages: list[tuple[int, bytes]] = []
        self.ended = asyncio.Event()

    @classmethod
    async def connect(cls, address: MediaAddress) -> Self:
        """Present the token, as a PBX does."""
        channel = await cls.stranger(address.host, address.port)
        channel.say_bytes(b"\x01\x00\x10" + UUID(address.token).bytes)
        return channel

    @classmethod
    async def stranger(cls, host: str, port: int) -> Self:
        """Connect and say nothing yet."""
        return cls(*await asyncio.open_connection(host, port))

    def say_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def say(self, frame: bytes, rate: int = 8_000) -> None:
        self.say_bytes(struct.pack(">BH", KINDS[rate], len(frame)) + frame)

    @property
    def frames(self) -> list[bytes]:
        return [payload for kind, payload in self.messages if kind in KINDS.values()]

    async def hear(self, count: int) -> list[bytes]:
        """The next `count` frames from now on."""
        have = len(self.frames)
        async with asyncio.timeout(5):
            while len(self.frames) < have + count:
                self._news.clear()
                await self._news.wait()
        return self.frames[have : have + count]

    async def hear_until(self, frame: bytes) -> int:
        """How many frames came before this one."""
        for heard in range(200):
            if (await self.hear(1))[0] == frame:
                return heard
        raise AssertionError("not heard within 200 frames")

    async def until_heard(self, frame: bytes) -> None:
        """Returns once this frame has come, which may have been long ago."""
        async with asyncio.timeout(5):
            while frame not in self.frames:
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _read(self) -> None:
        try:
            while True:
                kind, length = struct.unpack(">BH", await self._reader.readexactly(3))
                self.messages.append((kind, await self._reader.readexactly(length)))
                self._news.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.set()
