"""What has happened on a call and was not read yet: in order, to one reader, with an end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from bridge.pbx.port import Digit, LegEvent

EVENTS_KEPT: Final = 256
"""Events nobody has read yet; a storm of digits beyond that is dropped, other events are few."""


class LegEvents:
    """Of one call."""

    def __init__(self) -> None:
        # None is the end.
        self._waiting: asyncio.Queue[LegEvent | None] = asyncio.Queue()
        self._over = False

    def put(self, event: LegEvent) -> None:
        """Nothing happens after the end."""
        if not self._over and (self._waiting.qsize() < EVENTS_KEPT or not isinstance(event, Digit)):
            self._waiting.put_nowait(event)

    def end(self) -> None:
        self._over = True
        self._waiting.put_nowait(None)

    async def read(self) -> AsyncIterator[LegEvent]:
        while (event := await self._waiting.get()) is not None:
            yield event
