"""The caller's first words, kept while their seat is still being made, and the delay won back afterwards.

A caller is answered as soon as it is known that somebody is there to talk to; the room's own connection takes a moment longer. What they
say meanwhile waits here. Then it goes out at the pace of speech, and the delay it brought is worked off: pauses are shortened, and where
nobody pauses, now and then one period of the voice is left out, faded over, which the ear takes for slightly quicker speech.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bridge.media.frames import FRAMES_PER_SECOND, samples_per_frame

MOST_KEPT: Final = 5 * FRAMES_PER_SECOND
"""Frames. What is older is lost: five seconds without a seat are no first words any more."""

SPARE: Final = 1
"""Frames of delay that may stay: less than 40 ms with the one in hand."""

QUIET: Final = 100
"""Root mean square of a pause's 20 ms, of 32767: some -50 dB, above a phone line's noise and below any speech."""

PAUSE_KEPT: Final = 3
"""Frames of each pause that stay, so that words do not run together."""

PATIENCE: Final = 15
"""Beats without a pause after which periods of the voice are left out."""

SHORTEST_PERIOD, LONGEST_PERIOD = 1 / 400, 1 / 60
"""Seconds: of a child's and of a deep man's voice."""

STRIDE: Final = 3
"""Beats from one period left out to the next: a fifth faster at most, which stays easy to understand."""

Samples = NDArray[np.int16]


class KeptWords:
    """Frames of one rate in (`add`), frames of the same rate out (`next_frame`), one each beat."""

    __slots__ = ("_beats", "_kept", "_longest", "_quiet_run", "_shortest", "_size", "_without_pause")

    def __init__(self, rate: int) -> None:
        self._size = samples_per_frame(rate)
        self._kept: Samples = np.empty(0, np.int16)
        self._shortest = int(rate * SHORTEST_PERIOD)
        self._longest = int(rate * LONGEST_PERIOD)
        self._quiet_run = 0
        self._without_pause = 0
        self._beats = 0

    @property
    def frames(self) -> float:
        """How many are kept."""
        return len(self._kept) / self._size

    def add(self, frame: bytes) -> None:
        """What the caller has said in this beat."""
        self._kept = np.concatenate((self._kept, np.frombuffer(frame, "<i2")))[-MOST_KEPT * self._size :]

    def next_frame(self) -> bytes | None:
        """What goes out in this beat; None when nothing is kept (a rest of less than a frame is given up with it)."""
        if len(self._kept) < self._size:
            self._kept = self._kept[:0]
            return None
        self._shorten_pause()
        if self._in_a_hurry():
            return self._faded_over_a_period()
        return self._take(self._size).astype("<i2").tobytes()

    def _in_a_hurry(self) -> bool:
        self._without_pause += 1
        self._beats += 1
        enough = len(self._kept) >= (1 + SPARE) * self._size + self._longest
        return enough and self._without_pause > PATIENCE and self._beats % STRIDE == 0

    def _shorten_pause(self) -> None:
        """Quiet frames at the front go, beyond those a pause keeps, as long as there is delay to win."""
        while True:
            quiet = _loudness(self._kept[: self._size]) < QUIET
            self._quiet_run = self._quiet_run + 1 if quiet else 0
            if quiet:
                self._without_pause = 0
            if not quiet or self._quiet_run <= PAUSE_KEPT or len(self._kept) <= (1 + SPARE) * self._size:
                return
            self._take(self._size)

    def _faded_over_a_period(self) -> bytes:
        """One frame that begins as what is next and ends as what comes one period of the voice later."""
        now = self._kept[: self._size].astype(np.float64)
        period = self._period(now)
        later = self._kept[period : period + self._size].astype(np.float64)
        weight = np.linspace(0.0, 1.0, self._size, endpoint=False)
        self._take(self._size + period)
        return np.rint(now + (later - now) * weight).astype("<i2").tobytes()

    def _period(self, now: NDArray[np.float64]) -> int:
        """The shift at which what follows is most like what is now, in samples."""
        ahead = self._kept[self._shortest : self._longest + self._size].astype(np.float64)
        likeness = np.correlate(ahead, now, "valid")
        energy = np.convolve(ahead * ahead, np.ones(self._size), "valid")
        return self._shortest + int(np.argmax(likeness / np.sqrt(np.maximum(energy, 1.0))))

    def _take(self, samples: int) -> Samples:
        taken, self._kept = self._kept[:samples], self._kept[samples:]
        return taken


def _loudness(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64))))) if len(samples) else 0.0
