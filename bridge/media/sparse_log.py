"""Log lines that a stranger can cause: at most one per second and place, saying how many were left out."""

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)


class SparseLog:
    """Warnings, no more often than every `interval` seconds. What is said must hold no secret, like any log line."""

    def __init__(self, interval: float = 1.0, now: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._now = now
        self._quiet_until = float("-inf")
        self._left_out = 0

    def warning(self, event: str, **facts: object) -> None:
        """Say it, or count it among those left out before the next line."""
        now = self._now()
        if now < self._quiet_until:
            self._left_out += 1
            return
        if self._left_out:
            facts["left_out_before"] = self._left_out
        self._quiet_until, self._left_out = now + self._interval, 0
        log.warning(event, **facts)
