"""Who hears what: sums of 16-bit frames of one rate, with saturation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LOWEST, _HIGHEST = -32768, 32767


def everybody_else(frames: Sequence[bytes | None]) -> list[bytes | None]:
    """For each participant the sum of all others' frames, clipped to 16 bits; None where no other says anything.

    Frames are little-endian 16-bit mono of one length; None is a participant who says nothing. The result is exact: the sum is made
    in 32 bits, and a participant's own frame is taken off before clipping.
    """
    saying = [place for place, frame in enumerate(frames) if frame is not None]
    if not saying:
        return [None] * len(frames)
    if len(saying) == 1:
        only = frames[saying[0]]
        return [None if frame is not None else only for frame in frames]
    if len(saying) == len(frames) == 2:
        return [frames[1], frames[0]]
    return _with_sums(frames, saying)


def together(frames: Sequence[bytes]) -> bytes | None:
    """The sum of all frames, clipped to 16 bits; None of none."""
    if len(frames) < 2:
        return frames[0] if frames else None
    return _clipped(_stacked(frames).sum(axis=0, dtype=np.int32))


def _with_sums(frames: Sequence[bytes | None], saying: Sequence[int]) -> list[bytes | None]:
    stacked = _stacked([frame for frame in frames if frame is not None])
    total = stacked.sum(axis=0, dtype=np.int32)
    heard: list[bytes | None] = [_clipped(total) if len(saying) < len(frames) else None] * len(frames)
    size = 2 * total.size
    others = _clipped(total - stacked)
    for row, place in enumerate(saying):
        heard[place] = others[row * size : (row + 1) * size]
    return heard


def _stacked(frames: Sequence[bytes]) -> NDArray[np.int16]:
    return np.frombuffer(b"".join(frames), "<i2").reshape(len(frames), -1)


def _clipped(sums: NDArray[np.int32]) -> bytes:
    return np.clip(sums, _LOWEST, _HIGHEST).astype("<i2").tobytes()
