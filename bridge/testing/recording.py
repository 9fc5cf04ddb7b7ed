"""What was heard or said on a line: samples with the moment each frame came. Measuring them is `listening`'s business."""

import wave
from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

_TOLERANCE = 0.060
"""Frames that come no later than this after their turn follow without a break: a network's jitter is not silence."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Some samples, when they came (`time.monotonic`), and the position of the first one in the recording."""

    at: float
    position: int
    samples: Samples


class Recording:
    """Frames on one time line. Where nothing came for longer than jitter explains, the time line holds silence."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.frames: list[Frame] = []

    def add(self, at: float, samples: Samples) -> None:
        position = self._end
        if self.frames:
            due = self._due(position)
            if at - due > _TOLERANCE:
                position += round((at - due) * self.rate)
        self.frames.append(Frame(at, position, samples))

    @property
    def started_at(self) -> float | None:
        return self.frames[0].at if self.frames else None

    @property
    def seconds(self) -> float:
        """From the first sample to the last."""
        return self._end / self.rate

    def moment(self, position: int) -> float:
        """When (`time.monotonic`) the sample of that position came or went: its frame's own time, not the time line's ideal one."""
        index = bisect_right(self.frames, position, key=lambda frame: frame.position) - 1
        frame = self.frames[max(index, 0)]
        return frame.at + (position - frame.position) / self.rate

    def samples(self, since: float | None = None, until: float | None = None) -> Samples:
        """The time line between two moments (`time.monotonic`), silence where nothing came. Empty when nothing was heard at all."""
        if not self.frames:
            return np.zeros(0, np.int16)
        first = self._position(since, 0)
        last = max(first, self._position(until, self._end))
        line = np.zeros(last - first, np.int16)
        # Only those that are asked for: whoever listens for a tone asks again and again.
        start = max(0, bisect_right(self.frames, first, key=lambda frame: frame.position) - 1)
        for frame in islice(self.frames, start, None):
            if frame.position >= last:
                break
            begin, end = max(frame.position, first), min(frame.position + len(frame.samples), last)
            if begin < end:
                line[begin - first : end - first] = frame.samples[begin - frame.position : end - frame.position]
        return line

    def longest_gap(self, since: float | None = None, until: float | None = None) -> float:
        """The longest time in seconds without a frame, the edges `since` and `until` included."""
        times = [frame.at for frame in self.frames if (since is None or frame.at >= since) and (until is None or frame.at <= until)]
        edges = [*([since] if since is not None else []), *times, *([until] if until is not None else [])]
        return max((later - earlier for earlier, later in pairwise(edges)), default=0.0)

    def save(self, path: Path) -> None:
        save_wav(path, self.samples(), self.rate)

    @property
    def _end(self) -> int:
        return self.frames[-1].position + len(self.frames[-1].samples) if self.frames else 0

    def _due(self, position: int) -> float:
        return self.frames[0].at + position / self.rate

    def position(self, moment: float) -> int:
        """The place on the time line (0 at the first sample) of a moment: by the frame that came last, since what was held up comes all
        at once."""
        index = bisect_right(self.frames, moment, key=lambda frame: frame.at) - 1
        if index < 0:
            return 0
        position = self.frames[index].position + round((moment - self.frames[index].at) * self.rate)
        return min(position, self.frames[index + 1].position) if index + 1 < len(self.frames) else position

    def _position(self, moment: float | None, default: int) -> int:
        return default if moment is None else self.position(moment)


def save_wav(path: Path, samples: Samples, rate: int) -> None:
    """16-bit mono."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def load_wav(path: Path) -> tuple[Samples, int]:
    """The samples and rate of a 16-bit mono file."""
    with wave.open(str(path), "rb") as file:
        if file.getnchannels() != 1 or file.getsampwidth() != 2:
            raise ValueError(f"{path} is not 16-bit mono")
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.int16), file.getframerate()
