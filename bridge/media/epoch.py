"""Which of two controllers is the newer one. Nodes serve the newest they have seen, and turn older ones away."""

import secrets
import time
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, order=True, slots=True)
class Epoch:
    """A controller's start, in nanoseconds of the machine's monotonic clock, and a few letters of chance for two of the same moment.

    Nodes and their controllers share a machine, and no node outlives it: that clock is one for all of them and is never set back,
    as the time of day may be.
    """

    started_at: int
    chance: str

    @classmethod
    def now(cls) -> Self:
        return cls(time.monotonic_ns(), secrets.token_hex(4))
