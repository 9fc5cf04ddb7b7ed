"""A phone that calls the scripted FreeSWITCH, with the face of `phone.Phone`. No SIP goes over a wire."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from bridge.testing.freeswitch_channel import SwitchChannel
from bridge.testing.phone import COMFORT_NOISE, SILENCE, VOICE, Stream, linear
from bridge.testing.recording import Samples


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int


class SwitchPhone:
    """Implements `stack_pbx.StackPhone` and `freeswitch_channel.FarEnd`."""

    def __init__(self, caller: str, invite: Callable[["SwitchPhone", str], None], refer_answer: str, refer_status: int) -> None:
        """`invite`: has a call of this phone's to that number come in."""
        self.caller = caller
        self._heard = bytearray()
        self._invite = invite
        self._refer = refer_answer, refer_status
        self._channel: SwitchChannel | None = None
        self._stream: Stream | None = None
        self._final: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._hung_up = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.hang_up()

    # What the caller does

    async def call(self, number: str, timeout: float = 10.0) -> _Answer:
        self._invite(self, number)
        async with asyncio.timeout(timeout):
            return _Answer(await asyncio.shield(self._final))

    def send(self, stream: Stream) -> None:
        self._stream = stream
        self.channel.sends = stream in (VOICE, SILENCE, COMFORT_NOISE)  # what else there is it does not count

    def stop_sending(self) -> None:
        self._stream = None
        self.channel.sends = False

    async def press(self, keys: str) -> None:
        for key in keys:
            await asyncio.sleep(0.22)
            self.channel.packets += 1
            self.channel.press(key, "RTP", round(time.time() * 1e6))

    async def hold(self, direction: str = "sendonly") -> _Answer:
        if direction == "sendrecv":
            self.channel.resume()
        else:
            self.channel.hold()
        return _Answer(200)

    async def hang_up(self) -> None:
        if self._channel is not None and not self._over.is_set():
            self._hung_up = True
            self._channel.caller_hangs_up()

    # What happens to them

    @property
    def channel(self) -> SwitchChannel:
        if self._channel is None:
            raise RuntimeError("this phone has called nobody")
        return self._channel

    @property
    def ended_by_pbx(self) -> bool:
        return self._over.is_set() and not self._hung_up

    async def ended(self, timeout: float) -> None:
        async with asyncio.timeout(timeout):
            await self._over.wait()

    def heard_samples(self, since: int = 0) -> Samples:
        return np.frombuffer(bytes(self._heard[since * 2 :]), "<i2").astype(np.int16)

    # What SIP and RTP bring

    def came_in(self, channel: SwitchChannel) -> None:
        self._channel = channel
        channel.sends = False

    def rings(self) -> None:
        """A phone waits for the answer."""

    def answered_by_pbx(self) -> None:
        self._answer(200)

    def ended_with(self, status: int) -> None:
        self._answer(status)
        self._over.set()

    def _answer(self, status: int) -> None:
        if not self._final.done():
            self._final.set_result(status)

    def hears(self, audio: bytes) -> None:
        self._heard += audio

    def speaks(self, size: int) -> bytes | None:
        """What is no sound of this codec is a packet all the same (`SwitchChannel.sends`)."""
        if self._stream is None or self._stream.payload_type != SILENCE.payload_type:
            return None
        frame = linear(self._stream.payload).astype("<i2").tobytes()
        assert len(frame) == size  # noqa: S101  (PCMU, at the beat of 20 ms)
        return frame

    def gets_digits(self, digits: str) -> None:
        """Nobody asks for them."""

    def referred(self, target: str) -> tuple[str, str]:
        del target
        answer, status = self._refer
        taken = answer.startswith("2")
        if taken and status == 200:
            asyncio.get_running_loop().call_later(0.1, self.channel.caller_hangs_up)
        return answer[:3], str(status) if taken else ""
