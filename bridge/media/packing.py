"""Frames of 20 ms from and to pieces of another length or rate, as a PBX has them that hands us its codec's frames as they are.

Seldom needed: an adapter asks for 20 ms at the call's own rate. When it is not heard, the call is to sound all the same.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from bridge.media.frames import FRAMES_PER_SECOND, bytes_per_frame
from bridge.media.halfband import Doubler, Halver
from bridge.media.thirdband import Tripler, Trisector

RATES: Final = (8_000, 16_000, 48_000)
"""Hz: what the codecs of phones have."""

LENGTHS: Final = (0.010, 0.020, 0.030, 0.040, 0.060)
"""Seconds in one piece."""

SIZES: Final = frozenset(round(2 * rate * length) for rate in RATES for length in LENGTHS)
"""Bytes of one piece, of 16-bit samples. Nothing of another size is audio."""

_Step = Callable[[bytes], bytes]


def likely_rate(size: int, rate: int) -> int:
    """What pieces of so many bytes run at, before any was timed: 20 ms where there is such a rate, else the call's where it can be."""
    of_20_ms = size // 2 * FRAMES_PER_SECOND
    if of_20_ms in RATES:
        return of_20_ms
    return next(each for each in (rate, *RATES) if size / (2 * each) in LENGTHS)


def nearest_rate(bytes_per_second: float, size: int) -> int:
    """What pieces of this size run at that come this fast. Rates are two and three times one another, so a rough measure is enough."""
    possible = [rate for rate in RATES if size / (2 * rate) in LENGTHS]
    bounds = [2 * math.sqrt(low * high) for low, high in pairwise(possible)]
    return possible[sum(bytes_per_second > bound for bound in bounds)]


class Packing:
    """One call's, both ways. `size` and `pieces_rate` are the PBX's, `rate` is the call's."""

    def __init__(self, size: int, pieces_rate: int, rate: int) -> None:
        self._size = size
        self._frame_size = bytes_per_frame(rate)
        self._steps_in = _steps(pieces_rate, rate)
        self._steps_out = _steps(rate, pieces_rate)
        self._came = b""
        self._goes = b""
        self.frames_per_piece = -(-size * rate // (pieces_rate * self._frame_size))
        """At most, in one go."""

    def unpack(self, piece: bytes) -> list[bytes]:
        """The frames that are whole with it."""
        sound = self._came + _through(self._steps_in, piece)
        whole = len(sound) - len(sound) % self._frame_size
        self._came = sound[whole:]
        return [sound[at : at + self._frame_size] for at in range(0, whole, self._frame_size)]

    def pack(self, frame: bytes) -> bool:
        """Take 20 ms. False when something before it was dropped for it: pieces are not fetched as fast as frames come."""
        fresh = _through(self._steps_out, frame)
        self._goes += fresh
        most = self._size + len(fresh)
        fits = len(self._goes) <= most
        self._goes = self._goes[-most:]
        return fits

    def next_piece(self) -> bytes | None:
        """The next whole one."""
        if len(self._goes) < self._size:
            return None
        piece, self._goes = self._goes[: self._size], self._goes[self._size :]
        return piece


def _steps(source: int, target: int) -> tuple[_Step, ...]:
    if source == target:
        return ()
    if source < target:
        return ((Doubler(),) if source == RATES[0] else ()) + ((Tripler(),) if target == RATES[2] else ())
    return ((Trisector(),) if source == RATES[2] else ()) + ((Halver(),) if target == RATES[0] else ())


def _through(steps: tuple[_Step, ...], sound: bytes) -> bytes:
    for step in steps:
        sound = step(sound)
    return sound
