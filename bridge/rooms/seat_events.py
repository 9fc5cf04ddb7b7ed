"""What happens at one seat, kept for its one reader."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from bridge.model.ticket import DigitsToSend, SeatEvent, SeatGone

MOST_WAITING: Final = 256
"""Digits from the room are dropped beyond this many unread events; what tells the seat's fate is always kept."""


class SeatEvents:
    """Written from the loop's thread, read by one reader; ends after `SeatGone` or `end`."""

    __slots__ = ("_ended", "_reader", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[SeatEvent] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._ended = False

    def tell(self, event: SeatEvent) -> None:
        """For the reader, if it is not all over. Never waits."""
        if self._ended or (isinstance(event, DigitsToSend) and len(self._waiting) >= MOST_WAITING):
            return
        self._waiting.append(event)
        self._ended = isinstance(event, SeatGone)
        self._wake()

    def end(self) -> None:
        """No more events; the reader gets what is waiting, and the end. Idempotent."""
        self._ended = True
        self._wake()

    async def read(self) -> AsyncIterator[SeatEvent]:
        """To be iterated once. Nothing told before is lost."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._ended:
                return
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
