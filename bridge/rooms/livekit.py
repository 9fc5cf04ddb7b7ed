"""LiveKit's rooms (`bridge.rooms.port.RoomService`): seats in them, one for each caller, on the official SDK.

A seat's life is in `livekit_seat.py`. Everything here runs in a node's process, never in the controller's: the SDK is native code that
ends its process when it panics.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Final

from bridge.errors import Unavailable
from bridge.media.frames import samples_per_frame
from bridge.media.sparse_log import SparseLog
from bridge.model.ending import EndReason
from bridge.model.ticket import RoomTicket
from bridge.rooms.livekit_audio import AudioWay
from bridge.rooms.livekit_lookup import LiveKitLookup, where
from bridge.rooms.livekit_seat import LiveKitSeat, SeatOptions
from bridge.rooms.options import LiveKitAccess

WATCH_EVERY: Final = 1.0
"""Seconds from one look at LiveKit to the next, while somebody waits for company or hears nothing."""

WATCH_LIMIT: Final = 1.5
"""Seconds for one look."""

LATE: Final = 0.3
"""A look that is over so many seconds later than it may be says that it was we who did not run (stopped, or the machine was)."""

AWAY_LIMIT: Final = 3.0
"""Seconds without LiveKit after which nobody waits for company any more (a caller is told within 5, DESIGN §5), and who talks and hears
nothing hears the comfort tone. The SDK needs longer to notice a server that is frozen."""

CLOSE_LIMIT: Final = 3.0
"""Seconds that the sessions still open get at the node's end."""


class LiveKitRooms:
    """Made inside a running loop."""

    def __init__(self, access: LiveKitAccess, way: AudioWay, options: SeatOptions | None = None) -> None:
        self._access = access
        self._way = way
        self._options = options if options is not None else SeatOptions()
        self._lookup = LiveKitLookup(access)
        self._seats: dict[LiveKitSeat, None] = {}
        self._leaving: set[asyncio.Future[None]] = set()
        self._closed = False
        self._faults = SparseLog()
        self._watching = asyncio.create_task(self._watch())
        # What the SDK calls errors comes with every deleted room; what is our business comes as an event or an exception, and a fault of
        # ours in its callbacks is logged by `livekit_session.py`.
        logging.getLogger("livekit").setLevel(logging.CRITICAL)

    async def join(self, ticket: RoomTicket, rate: int) -> LiveKitSeat:
        """See the port. The seat is there at once; that LiveKit does not give it is told by its events (`join_failed`)."""
        samples_per_frame(rate)
        if self._closed:
            raise Unavailable("the node stops")
        seat = LiveKitSeat(
            ticket,
            rate,
            access=self._access,
            lookup=self._lookup,
            way=self._way,
            options=self._options,
            let_go=self._let_go,
            gone=self._forget,
        )
        self._seats[seat] = None
        return seat

    def beat(self) -> None:
        for seat in self._seats:
            try:
                seat.beat()
            except Exception as error:  # one seat's trouble is its own
                self._faults.warning("a fault of ours cost a caller 20 ms", room=seat.ticket.room_name, exc_info=error)

    async def probe(self) -> None:
        await self._lookup.probe()

    async def close(self) -> None:
        self._closed = True
        self._watching.cancel()
        await asyncio.gather(self._watching, *(seat.leave(EndReason.SHUTDOWN) for seat in list(self._seats)), return_exceptions=True)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=CLOSE_LIMIT)
        await self._lookup.close()

    async def _watch(self) -> None:
        away_since: float | None = None
        while True:
            await asyncio.sleep(WATCH_EVERY if away_since is None else WATCH_EVERY / 4)
            try:
                away_since = await self._look(away_since)
            except Exception as error:  # a fault at one look, and the next one is taken all the same
                self._faults.warning("a fault of ours while LiveKit was looked after", exc_info=error)

    async def _look(self, away_since: float | None) -> float | None:
        """Since when LiveKit has been away (`time.monotonic`); None when it is there, or that is not known, or nobody needs to know. Who
        waits would only wait longer. Who talks has a session that comes back by itself; until the SDK has noticed, they hear from us that
        it is not the line."""
        asking = [seat for seat in self._seats if seat.waits or seat.hears_nothing()]
        began = time.monotonic()
        why = await self._why_away() if asking else ""
        if why and time.monotonic() - began > WATCH_LIMIT + LATE:
            return None
        if not why:
            for seat in self._seats:
                seat.found()
            return None
        away_since = began if away_since is None else away_since
        if time.monotonic() - away_since >= AWAY_LIMIT:
            for seat in asking:
                if seat.waits:  # it may have been opened while we asked
                    seat.give_up(why)
                else:
                    seat.miss()
        return away_since

    async def _why_away(self) -> str:
        """Empty when LiveKit is there."""
        try:
            async with asyncio.timeout(WATCH_LIMIT):
                await self._lookup.probe()
        except TimeoutError:
            return f"LiveKit does not answer within {WATCH_LIMIT:g} s ({where(self._access)})"
        except Unavailable as error:
            return str(error)
        return ""

    def _forget(self, seat: LiveKitSeat) -> None:
        self._seats.pop(seat, None)

    def _let_go(self, ending: Awaitable[None]) -> None:
        """Sessions are ended by us, whoever has no more time for it."""
        task = asyncio.ensure_future(ending)
        self._leaving.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: "asyncio.Future[None]") -> None:
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faults.warning("a session with LiveKit did not end cleanly", exc_info=error)
