"""The caller's ear and mouth: an AudioSocket server in the test process that keeps what it hears and speaks in 20 ms frames.

A plain implementation of its own, so that Roomline's AudioSocket is tested against something else than itself.
"""

import asyncio
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bridge.testing.ports import LOOPBACK
from bridge.testing.recording import Recording, Samples, load_wav

FRAME = 0.020
"""Seconds per frame."""

_HANG_UP, _UUID, _DTMF = 0x00, 0x01, 0x03
_AUDIO_RATES = {0x10: 8000, 0x12: 16000}
_AUDIO_KINDS = {rate: kind for kind, rate in _AUDIO_RATES.items()}


class Ear:
    """One caller's audio. `heard` and `said` are on the same clock (`time.monotonic`)."""

    def __init__(self, rate: int) -> None:
        self.id = str(uuid.uuid4())
        self.rate = rate
        self.heard = Recording(rate)
        self.said = Recording(rate)
        self.connected = asyncio.Event()
        self.closed = asyncio.Event()
        self._silence = np.zeros(round(rate * FRAME), np.int16)
        self._to_say: deque[tuple[Samples, asyncio.Future[float] | None]] = deque()
        self._transport: asyncio.WriteTransport | None = None
        self._speaking: asyncio.Task[None] | None = None

    async def say(self, samples: Samples, rate: int | None = None) -> float:
        """Speak at the pace of speech; returns when the last frame has gone, with the moment the first one went. `rate` is that
        of the samples, the ear's own when not given; others are converted. Raises ConnectionError when the line ends meanwhile."""
        if self.closed.is_set():
            raise ConnectionError("the line has ended")
        samples = _convert(samples, rate or self.rate, self.rate)
        size = round(self.rate * FRAME)
        count = max(1, -(-len(samples) // size))
        frames = np.split(np.pad(samples, (0, count * size - len(samples))).astype(np.int16), count)
        loop = asyncio.get_running_loop()
        gone: list[asyncio.Future[float]] = [loop.create_future() for _ in {0, count - 1}]
        for number, frame in enumerate(frames):
            self._to_say.append((frame, gone[0] if number == 0 else gone[-1] if number == count - 1 else None))
        return (await asyncio.gather(*gone))[0]

    async def say_file(self, path: Path) -> float:
        return await self.say(*load_wav(path))

    def silence(self) -> None:
        """Stop speaking at once."""
        while self._to_say:
            _, done = self._to_say.popleft()
            if done is not None and not done.done():
                done.cancel()

    def next_frame(self) -> Samples:
        """What is said now, for who carries it: 20 ms, silence where there is nothing to say."""
        frame, done = self._to_say.popleft() if self._to_say else (self._silence, None)
        now = time.monotonic()
        self.said.add(now, frame)
        if done is not None and not done.done():
            done.set_result(now)
        return frame

    # From here on: what the server's connection tells.

    def line_open(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._speaking = asyncio.create_task(self._speak(transport), name=f"ear {self.id}")
        self.connected.set()

    def line_heard(self, at: float, samples: Samples) -> None:
        self.heard.add(at, samples)

    def line_closed(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
        for _, done in self._to_say:
            if done is not None and not done.done():
                done.set_exception(ConnectionError("the line ended while something was being said"))
        self._to_say.clear()
        self.closed.set()

    async def close(self) -> None:
        """Hang the audio up from our side, if the other has not."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(bytes((_HANG_UP, 0, 0)))
            self._transport.close()
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.gather(self._speaking, return_exceptions=True)

    async def _speak(self, transport: asyncio.WriteTransport) -> None:
        """One frame per beat from the first moment, silence if there is nothing to say: Asterisk ends a line that is silent."""
        header = bytes((_AUDIO_KINDS[self.rate],)) + (2 * len(self._silence)).to_bytes(2)
        beat = time.monotonic()
        while True:
            transport.write(header + self.next_frame().astype("<i2").tobytes())
            beat = max(beat + FRAME, time.monotonic() - FRAME)  # late by more than a frame: go on from here, without a burst
            await asyncio.sleep(beat - time.monotonic())


class EarServer:
    """`async with EarServer() as ears`: where the carrier's answered calls bring their audio."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._expected: dict[str, Ear] = {}
        self._lines: set[_Line] = set()

    @property
    def address(self) -> str:
        assert self._server is not None  # noqa: S101  (a mistake in a test, not an input)
        port: int = self._server.sockets[0].getsockname()[1]
        return f"{LOOPBACK}:{port}"

    def expect(self, ear: Ear) -> None:
        self._expected[ear.id] = ear

    def forget(self, ear: Ear) -> None:
        self._expected.pop(ear.id, None)

    def claim(self, ear_id: str) -> Ear | None:
        """Each ear takes one line."""
        return self._expected.pop(ear_id, None)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Line(self, self._lines), LOOPBACK, 0)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None  # noqa: S101  (entered before left)
        self._server.close()
        for line in list(self._lines):
            line.end()
        await self._server.wait_closed()


class _Line(asyncio.Protocol):
    """One connection: frames out of bytes, told to the ear it names."""

    def __init__(self, server: EarServer, lines: "set[_Line]") -> None:
        self._server = server
        self._lines = lines
        self._buffer = bytearray()
        self._ear: Ear | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (what create_server gives)
        self._transport = transport
        self._lines.add(self)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._buffer += data
        while len(self._buffer) >= 3:
            end = 3 + int.from_bytes(self._buffer[1:3])
            if len(self._buffer) < end:
                return
            kind, payload = self._buffer[0], bytes(self._buffer[3:end])
            del self._buffer[:end]
            self._frame(now, kind, payload)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lines.discard(self)
        if self._ear is not None:
            self._ear.line_closed()

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _frame(self, now: float, kind: int, payload: bytes) -> None:
        if kind == _UUID and self._ear is None and self._transport is not None:
            self._ear = self._server.claim(str(uuid.UUID(bytes=payload)))
            if self._ear is None:
                self._transport.close()
            else:
                self._ear.line_open(self._transport)
        elif self._ear is not None and kind in _AUDIO_RATES:
            samples = np.frombuffer(payload, dtype="<i2").astype(np.int16)
            self._ear.line_heard(now, _convert(samples, _AUDIO_RATES[kind], self._ear.rate))
        elif kind == _HANG_UP and self._transport is not None:
            self._transport.close()
        elif kind != _DTMF:
            self.end()


def _convert(samples: Samples, rate: int, wanted: int) -> Samples:
    """Between rates, straight lines between samples: enough for test signals of a few hundred Hz to 3 kHz."""
    if rate == wanted or not len(samples):
        return samples
    positions = np.arange(round(len(samples) * wanted / rate)) * (rate / wanted)
    between: NDArray[np.float64] = np.interp(positions, np.arange(len(samples)), samples)
    return between.astype(np.int16)
