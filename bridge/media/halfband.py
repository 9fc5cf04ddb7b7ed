"""Live sound between 8 and 16 kHz, a frame at a time and seamless across frames.

Only for calls whose two ends differ (a wideband phone in a room with a narrowband one); where both ends agree nothing is
converted. Recordings, which are known whole, go through `resampling.py`.
"""

import numpy as np
from numpy.typing import NDArray

# A half-band low-pass at 16 kHz: every other tap but the middle one is zero, so each rate's samples meet just half of them.
# 300–3,400 Hz pass within 0.1 dB; what would be folded into that band (above 4,600 Hz) is 60 dB down; the delay is 1.5 ms.
_REACH = 24  # taps beside the middle one, to each side; Kaiser's rule for 60 dB and a transition of 1,200 Hz at 16 kHz
_PLACES = np.arange(-_REACH + 1, _REACH, 2)
_TAPS = (np.sinc(_PLACES / 2) / 2 * np.kaiser(2 * _REACH + 1, 5.65)[_PLACES + _REACH]).astype(np.float32)
_TAPS *= np.float32(0.5) / _TAPS.sum()  # with the middle tap's 0.5: exactly 0 dB at the bottom
_HALF = _TAPS.size // 2


def _as_frame(samples: NDArray[np.floating]) -> bytes:
    return bytes(np.clip(np.rint(samples), -32768, 32767).astype("<i2").data)


class Doubler:
    """From 8 to 16 kHz: frames of 320 bytes become frames of 640."""

    __slots__ = ("_past",)

    def __init__(self) -> None:
        self._past = np.zeros(_TAPS.size - 1, np.float32)

    def __call__(self, frame: bytes) -> bytes:
        samples = np.concatenate((self._past, np.frombuffer(frame, "<i2").astype(np.float32)))
        self._past = samples[1 - _TAPS.size :]
        doubled = np.empty(2 * (samples.size - self._past.size), np.float32)
        doubled[0::2] = samples[_HALF - 1 : -_HALF]
        doubled[1::2] = 2 * np.convolve(samples, _TAPS, "valid")
        return _as_frame(doubled)


class Halver:
    """From 16 to 8 kHz: frames of 640 bytes become frames of 320, without what 8 kHz cannot hold."""

    __slots__ = ("_even", "_odd")

    def __init__(self) -> None:
        self._even = np.zeros(_HALF - 1, np.float32)
        self._odd = np.zeros(_TAPS.size - 1, np.float32)

    def __call__(self, frame: bytes) -> bytes:
        fresh = np.frombuffer(frame, "<i2").astype(np.float32)
        even = np.concatenate((self._even, fresh[0::2]))
        odd = np.concatenate((self._odd, fresh[1::2]))
        self._even, self._odd = even[1 - _HALF :], odd[1 - _TAPS.size :]
        return _as_frame(even[: 1 - _HALF] / 2 + np.convolve(odd, _TAPS, "valid"))
