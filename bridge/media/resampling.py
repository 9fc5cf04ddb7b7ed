"""Recorded sound from one sampling rate to another, whole recordings at a time: exact in length, without aliasing.

For what is loaded at start (prompts). The live streams of calls need none of this: both ends of a call run at one rate.
"""

from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
"""One channel, full scale ±1.0."""

_PASSED = 0.9
"""The part of the lower band that is left alone: 3,600 of 4,000 Hz at 8 kHz, so the telephone's 300–3,400 Hz are whole.

Above it a raised cosine falls to nothing at the very edge: the wider, the shorter the ringing around a click (here a few ms).
"""

_TAIL_SECONDS = 0.05
"""Silence added before filtering. Multiplying spectra is circular convolution, and this takes up what would ring round the ends."""


def resample(samples: Samples, source: int, target: int) -> Samples:
    """The same sound at `target` Hz, `ceil(len × target / source)` samples long.

    A linear-phase low-pass at the lower of the two Nyquist frequencies, applied to the spectrum: nothing above it is folded back.
    """
    if source == target or not samples.size:
        return samples
    common = gcd(source, target)
    blocks = ceil((samples.size + source * _TAIL_SECONDS) * common / source)  # in whole blocks both lengths are whole numbers
    length, new_length = blocks * (source // common), blocks * (target // common)
    edge = min(source, target) / 2
    spectrum = np.fft.rfft(samples, length) * _low_pass(np.fft.rfftfreq(length, 1 / source), edge)
    moved = np.fft.irfft(spectrum[: new_length // 2 + 1], new_length) * (new_length / length)
    return moved[: ceil(samples.size * target / source)]


def _low_pass(frequencies: NDArray[np.floating], edge: float) -> Samples:
    into_the_fall = np.clip((frequencies / edge - _PASSED) / (1 - _PASSED), 0.0, 1.0)
    return np.asarray(0.5 * (1 + np.cos(np.pi * into_the_fall)))
