"""The caller's first words, kept while their seat is still being made, and the delay won back afterwards.

A caller is answered as soon as it is known that somebody is there to talk to; the room's own connection takes a moment longer. What they
say meanwhile waits here. Then it goes out at the pace of speech, and the delay it brought is worked off: pauses are shortened, and where
nobody pauses, now and then one period of the voice is left out, faded over, which the ear takes for slightly quicker speech. What is left
of it, less than 40 ms, goes in the next pause; until then a beat costs next to nothing here.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bridge.media.frames import FRAMES_PER_SECOND, bytes_per_frame

MOST_KEPT: Final = 5 * FRAMES_PER_SECOND
"""Frames. What is older is lost: five seconds without a seat are no first words any more."""

SPARE: Final = 2
"""Frames that may be kept, and what is left over of a period: once one is given out, less than 40 ms of delay."""

QUIET: Final = 100
"""Root mean square of a pause's 20 ms, of 32767: some -50 dB, above a phone line's noise and below any speech."""

PAUSE_KEPT: Final = 3
"""Frames of each pause that stay, so that words do not run together."""

PATIENCE: Final = 15
"""Beats without a pause after which periods of the voice are left out."""

SHORTEST_PERIOD, LONGEST_PERIOD = 1 / 400, 1 / 60
"""Seconds: of a child's and of a deep man's voice."""

PEAK: Final = 200
"""The loudest sample of what is surely a pause."""

SAMPLED: Final = 7
"""One sample in so many is looked at, when there is hardly any delay left: every beat may be the pause, and must cost next to nothing. A
prime, so that no tone hides between."""

ALIKE: Final = 0.03
"""Two shifts whose correlations (at most 1) differ by less do not differ to the ear."""

STRIDE: Final = 4
"""Beats from one period left out to the next: a fifth faster at most, which stays easy to understand."""

Samples = NDArray[np.float64]


class KeptWords:
    """Frames of one rate in (`add`), frames of the same rate out (`next_frame`), one each beat."""

    __slots__ = ("_beats", "_frame", "_kept", "_longest", "_quiet_run", "_shortest", "_spare", "_without_pause")

    def __init__(self, rate: int) -> None:
        self._frame = bytes_per_frame(rate)
        self._kept = bytearray()
        self._shortest = int(rate * SHORTEST_PERIOD)
        self._longest = int(rate * LONGEST_PERIOD)
        self._spare = SPARE * self._frame + 2 * self._longest
        self._quiet_run = 0
        self._without_pause = 0
        self._beats = 0

    @property
    def frames(self) -> float:
        """How many are kept."""
        return len(self._kept) / self._frame

    def add(self, frame: bytes) -> None:
        """What the caller has said in this beat."""
        self._kept += frame
        del self._kept[: -MOST_KEPT * self._frame]

    def next_frame(self) -> bytes | None:
        """What goes out in this beat; None when nothing is kept (a rest of less than a frame is given up with it)."""
        if len(self._kept) < self._frame:
            self._kept.clear()
            return None
        self._beats += 1
        if len(self._kept) < self._spare:
            return self._without_haste()
        self._shorten_pause()
        if self._in_a_hurry():
            return self._faded_over_a_period()
        return self._take(self._frame)

    def _without_haste(self) -> bytes:
        if len(self._kept) > self._frame and _is_surely_quiet(self._kept):
            del self._kept[: -self._frame]
        return self._take(self._frame)

    def _in_a_hurry(self) -> bool:
        self._without_pause += 1
        return len(self._kept) >= self._spare and self._without_pause > PATIENCE and self._beats % STRIDE == 0

    def _shorten_pause(self) -> None:
        """Quiet frames at the front go, beyond those a pause keeps, as long as there is delay to win."""
        while True:
            quiet = _is_quiet(self._kept[: self._frame])
            self._quiet_run = self._quiet_run + 1 if quiet else 0
            if quiet:
                self._without_pause = 0
            if not quiet or self._quiet_run <= PAUSE_KEPT or len(self._kept) < self._spare:
                return
            self._take(self._frame)

    def _faded_over_a_period(self) -> bytes:
        """One frame that begins as what is next and ends as what comes one period of the voice later."""
        size = self._frame // 2
        ahead = _samples(self._kept[: self._frame + 2 * self._longest])
        now = ahead[:size]
        period = self._period(now, ahead[self._shortest :])
        weight = np.linspace(0.0, 1.0, size, endpoint=False)
        self._take(self._frame + 2 * period)
        return np.rint(now + (ahead[period : period + size] - now) * weight).astype("<i2").tobytes()

    def _period(self, now: Samples, ahead: Samples) -> int:
        """The longest shift at which what follows is about as like what is now as it is anywhere, in samples: of a high voice, several
        periods."""
        energy = np.convolve(ahead * ahead, np.ones(len(now)), "valid")
        likeness = np.correlate(ahead, now, "valid") / np.sqrt(np.maximum(energy * np.dot(now, now), 1.0))
        return self._shortest + int(np.flatnonzero(likeness >= likeness.max() - ALIKE)[-1])

    def _take(self, size: int) -> bytes:
        taken = bytes(self._kept[:size])
        del self._kept[:size]
        return taken


def _samples(kept: bytes | bytearray) -> Samples:
    return np.frombuffer(bytes(kept), "<i2").astype(np.float64)


def _is_quiet(kept: bytes | bytearray) -> bool:
    return float(np.sqrt(np.mean(np.square(_samples(kept))))) < QUIET


def _is_surely_quiet(kept: bytearray) -> bool:
    return max(map(abs, memoryview(bytes(kept)).cast("h")[::SAMPLED])) < PEAK
