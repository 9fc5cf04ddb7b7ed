"""Live sound between 16 and 48 kHz, piece by piece and seamless across pieces: for a PBX that hands us a call at the rate of its codec.

As rare as a call that runs at 48 kHz: short to read, not quick. 8 and 16 kHz are `halfband.py`'s.
"""

import numpy as np
from numpy.typing import NDArray

# A low-pass at a third of the band: 60 dB down above 9.6 kHz, flat to 6.4 kHz (Kaiser's rule), 1 ms of delay.
_REACH = 54
_PLACES = np.arange(-_REACH, _REACH + 1)
_TAPS = (np.sinc(_PLACES / 3) / 3 * np.kaiser(2 * _REACH + 1, 5.65)).astype(np.float32)
_TAPS /= _TAPS.sum()


def _as_bytes(samples: NDArray[np.floating]) -> bytes:
    return bytes(np.clip(np.rint(samples), -32768, 32767).astype("<i2").data)


class Tripler:
    """From 16 to 48 kHz."""

    __slots__ = ("_past",)

    def __init__(self) -> None:
        self._past = np.zeros(_TAPS.size - 1, np.float32)

    def __call__(self, sound: bytes) -> bytes:
        samples = np.frombuffer(sound, "<i2")
        spread = np.zeros(3 * samples.size, np.float32)
        spread[::3] = 3 * samples.astype(np.float32)
        whole = np.concatenate((self._past, spread))
        self._past = whole[1 - _TAPS.size :]
        return _as_bytes(np.convolve(whole, _TAPS, "valid"))


class Trisector:
    """From 48 to 16 kHz, without what 16 kHz cannot hold. Takes multiples of three samples."""

    __slots__ = ("_past",)

    def __init__(self) -> None:
        self._past = np.zeros(_TAPS.size - 1, np.float32)

    def __call__(self, sound: bytes) -> bytes:
        whole = np.concatenate((self._past, np.frombuffer(sound, "<i2").astype(np.float32)))
        self._past = whole[1 - _TAPS.size :]
        return _as_bytes(np.convolve(whole, _TAPS, "valid")[::3])
