"""The time, as the story needs it: handed in, so that tests own it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for people and for what outlives the process, one for waiting."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds on a clock that is never set; only differences mean something."""


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
