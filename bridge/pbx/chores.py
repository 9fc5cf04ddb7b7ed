"""What is left to do with channels, beside the reader of events: a channel may take its time, and nobody else's events wait for it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from bridge.errors import LegGone, LocalProtocolError, Unavailable

log = structlog.get_logger(__name__)

Chore = Callable[[], Awaitable[object]]

FINISHING: Final = 1.0
"""Seconds that a stop waits for what is owed: a PBX that is there answers within milliseconds."""


class Chores:
    """Of one PBX. One that fails is told of in the log: the next look at the PBX finds what it left."""

    def __init__(self, pbx: str, reachable: Callable[[], bool]) -> None:
        """`reachable`: whether the PBX can be told anything at this moment, and by us."""
        self._pbx = pbx
        self._reachable = reachable
        self._waiting: asyncio.Queue[tuple[Chore, bool]] = asyncio.Queue()
        self._owed = 0
        self._nothing_owed = asyncio.Event()
        self._nothing_owed.set()

    def put(self, chore: Chore, *, owed: bool = False) -> None:
        """`owed`: to a channel that nobody looks after once we have gone, not the next server either. A stop waits for it."""
        if owed:
            self._owed += 1
            self._nothing_owed.clear()
        self._waiting.put_nowait((chore, owed))

    async def run(self) -> None:
        """Do them, all beside one another, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(self._do(*await self._waiting.get()))
        finally:
            self._nothing_owed.set()  # nobody does it any more

    async def until_stopped(self) -> None:
        """Beside `run` and what it needs: never returns, and when it is cancelled ends only once all that is owed is done, `FINISHING`
        seconds later at the most."""
        try:
            await asyncio.Event().wait()
        finally:
            if self._reachable():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FINISHING):
                        await self._nothing_owed.wait()

    async def _do(self, chore: Chore, owed: bool) -> None:
        try:
            await chore()
        except (LegGone, LocalProtocolError, Unavailable) as error:
            log.warning("something is left undone on a channel", pbx=self._pbx, error=str(error))
        finally:
            if owed:
                self._owed -= 1
                if not self._owed:
                    self._nothing_owed.set()
