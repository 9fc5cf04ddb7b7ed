"""What the story of a call needs kept beyond the process: the records of ended calls and the count of wrong PINs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.model.record import CallRecord


@dataclass(frozen=True, slots=True)
class Level:
    """How full a throttle's bucket was, and when (seconds since the epoch)."""

    level: float
    at: float


class Journal(Protocol):
    """The records of ended calls."""

    async def keep_record(self, record: CallRecord) -> bool:
        """Keep it for ever. False when a record of that call id is there already: the first one stays."""

    async def records(self, limit: int = 100) -> Sequence[CallRecord]:
        """The newest first."""


class Tries(Protocol):
    """The levels of the wrong-PIN throttle, by key."""

    async def levels(self) -> Mapping[str, Level]: ...

    async def keep_level(self, key: str, level: Level) -> None: ...

    async def forget_levels(self, before: float) -> None:
        """Drop those older than `before`: they have run empty."""
