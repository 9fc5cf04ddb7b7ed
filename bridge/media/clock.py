"""The beat: one call of one function every 20 ms for everything a node carries.

Beat n belongs at t0 + n × 20 ms of the monotonic clock, so nothing drifts. A beat that comes late is made up for without bursting:
the PBX passes on at once whatever it gets, and a phone that gets many frames at once drops them.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from bridge.media.figures import Figures
from bridge.media.frames import FRAME_SECONDS
from bridge.media.sparse_log import SparseLog

SHORTEST_STEP: Final = 0.010
"""Seconds between two beats while catching up: twice the pace, which any phone's jitter buffer takes."""

MADE_UP_FOR: Final = 3 * FRAME_SECONDS
"""Up to here lateness is caught up with; beats beyond are left out. It is about what a phone's jitter buffer bridges."""

_EARLY = 0.002  # event loops count in whole milliseconds: this much too early is on time

log = structlog.get_logger(__name__)


class Timer(Protocol):
    """What a scheduled call can do."""

    def cancel(self) -> None: ...


class Timers(Protocol):
    """The part of an event loop that the beat needs; a test's own time otherwise."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer: ...


class Beat:
    """Calls `tick` on every beat from `start` to `stop`. A fault in `tick` is logged and costs that beat only."""

    def __init__(self, tick: Callable[[], None], timers: Timers, figures: Figures, now: Callable[[], float] = time.monotonic) -> None:
        self._tick = tick
        self._timers = timers
        self._figures = figures
        self._now = now
        self._due = 0.0
        self._timer: Timer | None = None
        self._faults = SparseLog(now=now)

    def start(self) -> None:
        """The first beat is one step from now."""
        if self._timer is None:
            self._due = self._now() + FRAME_SECONDS
            self._timer = self._timers.call_later(FRAME_SECONDS, self._come)

    def stop(self) -> None:
        """No beat comes after this. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _come(self) -> None:
        now = self._now()
        late = now - self._due
        if late < -_EARLY:
            self._timer = self._timers.call_later(-late, self._come)
            return
        self._figures.beat_came(max(0.0, late))
        self._due += FRAME_SECONDS
        if late >= MADE_UP_FOR:
            self._leave_out(int(late / FRAME_SECONDS))
        self._timer = self._timers.call_later(max(self._due - now, SHORTEST_STEP), self._come)
        try:
            self._tick()
        except Exception as error:
            self._figures.faults += 1
            self._faults.warning("a fault on the beat", exc_info=error)

    def _leave_out(self, beats: int) -> None:
        self._figures.beats_skipped += beats
        self._due += beats * FRAME_SECONDS
        self._faults.warning("the process was stalled: sound was left out", beats=beats)
