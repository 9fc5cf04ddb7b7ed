"""The sound of a call in the scripted FreeSWITCH: what its caller says goes out as unicast, what comes back or is played is what they hear.

One frame every 20 ms from the answer on, whatever else the call does.
"""

import asyncio
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, cycle
from typing import Final, Protocol, cast

import numpy as np

from bridge.testing.listening import tone
from bridge.testing.pbx_config import HOLD_MUSIC_HZ

FRAME_SECONDS: Final = 0.02
LATE: Final = 0.5
"""Seconds behind which nothing is made up for: the machine, or this FreeSWITCH, has stood still."""

_TONE: Final = re.compile(r"tone_stream://%\((\d+),(\d+),([\d.,]+)\)(;loops=-1)?")
HOLD_MUSIC: Final = "local_stream://default"


class Caller(Protocol):
    """What of a channel is its sound: who is at the other end of it, and where its audio goes."""

    @property
    def rate(self) -> int: ...
    @property
    def frozen(self) -> bool: ...
    @property
    def idle_silence(self) -> bool:
        """FreeSWITCH writes silence of its own over whatever comes by unicast (danger 4)."""

    def hears(self, audio: bytes) -> None: ...
    def speaks(self, size: int) -> bytes | None:
        """So many bytes of what is said; None when no packet comes."""


class Sounding:
    """An answered call's beat, until `close`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._played: Iterator[bytes] = iter(())
        self.unicast: Unicast | None = None
        self._timer = self._loop.call_soon(self._beat)

    def play(self, what: str) -> None:
        """A tone or the hold music; "" for nothing."""
        self._played = played(what, self._caller.rate) if what else iter(())

    def _beat(self) -> None:
        self._due = max(self._due + FRAME_SECONDS, self._loop.time() - LATE)
        self._timer = self._loop.call_at(self._due, self._beat)
        size = self._caller.rate // 50 * 2
        said = self._caller.speaks(size)
        if self._caller.frozen:
            return
        if self.unicast is not None:
            # In the place of what the caller does not send (rtp_timer_name=soft, measured).
            self.unicast.send(b"\xff" * size if said is None else said)
        elif (frame := next(self._played, None)) is not None:
            self._caller.hears(frame)

    def close(self) -> None:
        self._timer.cancel()


class Unicast(asyncio.DatagramProtocol):
    """The audio between a call and its node: whatever comes back is what the caller hears; an empty datagram is the last."""

    def __init__(self, caller: Caller, to: tuple[str, int]) -> None:
        self._caller = caller
        self._to = to
        self._transport: asyncio.DatagramTransport | None = None
        self._deaf = False
        self.frames_sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.sendto(frame, self._to)
            self.frames_sent += 1

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        self._deaf = self._deaf or not data
        if not self._deaf and not self._caller.frozen:
            self._caller.hears(bytes(len(data)) if self._caller.idle_silence else data)

    def error_received(self, exc: Exception) -> None:
        """Nobody is there: FreeSWITCH does not mind."""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = None


@lru_cache
def _frames(what: str, rate: int) -> tuple[list[bytes], bool]:
    """Of what is played, and whether it goes on for ever."""
    if what == HOLD_MUSIC:
        samples, for_ever = tone(rate, 10.0, HOLD_MUSIC_HZ, -18.0), True
    elif found := _TONE.fullmatch(what):
        on, off, frequencies, loops = found.groups()
        sounding = tone(rate, int(on) / 1000, [float(hz) for hz in frequencies.split(",")])
        samples, for_ever = np.concatenate((sounding, np.zeros(int(off) * rate // 1000, np.int16))), loops is not None
    else:
        raise ValueError(f"this FreeSWITCH cannot play {what}")
    size = rate // 50
    whole = samples[: len(samples) // size * size].astype("<i2").tobytes()
    return [whole[start : start + 2 * size] for start in range(0, len(whole), 2 * size)], for_ever


def played(what: str, rate: int) -> Iterator[bytes]:
    """The frames of `tone_stream://%(on ms,off ms,hz,…)` or of the hold music, from their beginning."""
    frames, for_ever = _frames(what, rate)
    return cycle(frames) if for_ever else chain(frames)
