"""LiveKit's rooms (`bridge.rooms.port.RoomService`): seats in them, one for each caller, on the official SDK.

A seat's life is in `livekit_seat.py`. Everything here runs in a node's process, never in the controller's: the SDK is native code that
ends its process when it panics.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final

from bridge.errors import Unavailable
from bridge.media.frames import samples_per_frame
from bridge.media.sparse_log import SparseLog
from bridge.model.ending import EndReason
from bridge.model.ticket import RoomTicket
from bridge.rooms.livekit_audio import AudioWay
from bridge.rooms.livekit_lookup import LiveKitLookup
from bridge.rooms.livekit_seat import LiveKitSeat, SeatOptions
from bridge.rooms.livekit_token import LiveKitAccess

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
        # What the SDK calls errors comes with every deleted room; what is our business comes as an event or an exception.
        debugging = logging.getLogger().isEnabledFor(logging.DEBUG)
        logging.getLogger("livekit").setLevel(logging.ERROR if debugging else logging.CRITICAL)

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
        await asyncio.gather(*(seat.leave(EndReason.SHUTDOWN) for seat in list(self._seats)), return_exceptions=True)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=CLOSE_LIMIT)
        await self._lookup.close()

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
