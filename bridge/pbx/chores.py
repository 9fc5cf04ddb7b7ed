"""What is left to do with channels, beside the reader of events: a channel may take its time, and nobody else's events wait for it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from bridge.errors import LegGone, LocalProtocolError, Unavailable

log = structlog.get_logger(__name__)

Chore = Callable[[], Awaitable[object]]


class Chores:
    """Of one PBX. One that fails is told of in the log: the next look at the PBX finds what it left."""

    def __init__(self, pbx: str) -> None:
        self._pbx = pbx
        self._waiting: asyncio.Queue[Chore] = asyncio.Queue()

    def put(self, chore: Chore) -> None:
        self._waiting.put_nowait(chore)

    async def run(self) -> None:
        """Do them, all beside one another, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._do(await self._waiting.get()))

    async def _do(self, chore: Chore) -> None:
        try:
            await chore()
        except (LegGone, LocalProtocolError, Unavailable) as error:
            log.warning("something is left undone on a channel", pbx=self._pbx, error=str(error))
