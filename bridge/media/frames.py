"""The unit everything in the media plane is counted in: 20 ms of little-endian 16-bit mono, as `bytes` (DESIGN §8)."""

from typing import Final

FRAME_SECONDS: Final = 0.02
FRAMES_PER_SECOND: Final = 50
RATES: Final = (8_000, 16_000)
"""Sampling rates of calls in Hz: telephone and wideband."""

Frames = tuple[bytes, ...]
"""20 ms each: 320 bytes at 8 kHz, 640 at 16 kHz."""


def samples_per_frame(rate: int) -> int:
    """160 at 8 kHz, 320 at 16 kHz. Raises ValueError for a rate that no call has."""
    if rate not in RATES:
        raise ValueError(f"a call runs at one of {RATES} Hz, not at {rate}")
    return rate // FRAMES_PER_SECOND


def bytes_per_frame(rate: int) -> int:
    """320 at 8 kHz, 640 at 16 kHz. Raises ValueError for a rate that no call has."""
    return 2 * samples_per_frame(rate)


def silence(rate: int) -> bytes:
    """20 ms of nothing."""
    return bytes(bytes_per_frame(rate))
