"""A caller's seat in a LiveKit room: promised at once, joined while they ring, kept over lost connections.

A seat is there before its session is: joining takes 150 ms and more, the answer to whether anybody is there to talk to takes 3. What is
said meanwhile is kept (`kept_words.py`), what is to be shown is shown at the join. The SDK is `livekit_session.py`'s.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import structlog

from bridge.errors import RoomlineError, Unavailable
from bridge.media.frames import samples_per_frame, silence
from bridge.model.ending import EndReason
from bridge.model.ticket import RoomTicket, SeatBack, SeatEvent, SeatGone, SeatLost
from bridge.rooms.kept_words import KeptWords
from bridge.rooms.livekit_audio import AudioWay
from bridge.rooms.livekit_lookup import LiveKitLookup, where
from bridge.rooms.livekit_session import Company, LiveKitSession, News
from bridge.rooms.mixer import together
from bridge.rooms.options import LiveKitAccess
from bridge.rooms.seat_events import SeatEvents

log = structlog.get_logger(__name__)

JOIN_LIMIT: Final = 4.5
"""Seconds from the ticket to the room: a caller is told within 5 (DESIGN §5)."""

SDK_PATIENCE: Final = 8.0
"""Seconds that the SDK gets to come back by itself, as the same participant with the same tracks. Then we join anew. Fewer where the caller
is not to wait as long (`SeatOptions.lost_limit`)."""

QUIET: Final = 1.0
"""Seconds of digital silence from everybody in the room after which it is asked whether LiveKit is there at all."""

REJOIN_PAUSE: Final = 0.5
"""Seconds between two tries to join anew."""

FINAL: Final = frozenset({"client_initiated", "duplicate_identity", "participant_removed", "room_deleted", "room_closed", "user_rejected"})
"""Reasons after which nobody wants us back. Any other end of a session is a lost connection."""

HUM_HZ: Final = 100
HUM_PEAK: Final = 8
"""What goes out in place of digital silence: at -75 dBFS nobody hears it, and an Opus encoder takes a fifth longer over noise or zeros than
over anything that swings (docs/performance.md)."""


class NotWanted(RoomlineError):  # noqa: N818  (an answer, not a fault)
    """LiveKit has ended the session for good: its reason."""


@dataclass(frozen=True, slots=True)
class SeatOptions:
    """`lost_limit`: seconds after which a seat whose connection is lost is given up."""

    lost_limit: float = 20.0


class LiveKitSeat:
    """`bridge.rooms.port.RoomSeat`. Made by `LiveKitRooms.join` only."""

    def __init__(
        self,
        ticket: RoomTicket,
        rate: int,
        *,
        access: LiveKitAccess,
        lookup: LiveKitLookup,
        way: AudioWay,
        options: SeatOptions,
        let_go: Callable[[Awaitable[None]], object],
        gone: Callable[["LiveKitSeat"], None],
    ) -> None:
        """`let_go` takes what has to be finished whatever becomes of us: the end of a session. `gone` is told once the seat is over."""
        self._ticket = ticket
        self._rate = rate
        self._access = access
        self._lookup = lookup
        self._way = way
        self._options = options
        self._let_go = let_go
        self._tell_gone = gone
        loop = asyncio.get_running_loop()
        self._attributes = dict(ticket.attributes)
        self._events = SeatEvents()
        self._has_company: asyncio.Future[None] = loop.create_future()
        self._joined = asyncio.Event()
        self._lost = asyncio.Event()
        self._here = asyncio.Event()
        self._here.set()
        self._session: LiveKitSession | None = None
        self._opened = False
        # Of a caller who rings while we join, audio comes from the answer on, a moment before the seat is opened: it is for the room.
        # After a PIN it came before the room was chosen.
        self._rings = ticket.attributes.get("sip.callStatus") == "ringing"
        self._said: bytes | None = None
        self._rung: bytes | None = None
        self._was_heard = False
        self._words: KeptWords | None = KeptWords(rate)
        self._silence = silence(rate)
        self._hum = _hum(rate)
        self._lost_at = 0.0
        self._missed_at: float | None = None
        self._living = loop.create_task(self._live())
        self._looking = loop.create_task(self._look())

    @property
    def ticket(self) -> RoomTicket:
        return self._ticket

    # On the beat

    def say(self, frame: bytes) -> None:
        if self._opened or self._rings:
            self._said = frame

    def ring(self, frame: bytes) -> None:
        self._rung = frame

    def hear(self) -> bytes | None:
        session = self._session
        if session is None or not self._opened:
            return None
        self._was_heard = True
        tracks = session.tracks
        if len(tracks) == 1:
            return tracks[0].take()
        return together([frame for frame in (track.take() for track in tracks) if frame is not None])

    def beat(self) -> None:
        """20 ms go to the room: that a phone rings, what the caller said, or what they said first, or next to nothing."""
        said, self._said = self._said, None
        rung, self._rung = self._rung, None
        session = self._session
        if session is not None and not self._was_heard:
            for track in session.tracks:
                track.forget()
        self._was_heard = False
        if self._missed_at is not None and session is not None and session.sounded_at > self._missed_at:
            self.found()
        speaker = session.speaker if session is not None else None
        if self._words is not None:
            if said is not None:
                self._words.add(said)
            said = None
            if self._opened and speaker is not None:
                said = self._words.next_frame()
                if not self._words.frames:
                    self._words = None  # nothing is late any more
        if speaker is None:
            return
        if not self._opened:
            said = rung
        if said is None or said == self._silence:
            said = self._hum
        speaker.send(said)

    # As the story wants it

    async def company(self) -> None:
        """See the port. Raises `Unavailable` when the seat is gone meanwhile; its events tell why."""
        await asyncio.shield(self._has_company)

    async def open(self) -> None:
        self._opened = True

    def events(self) -> AsyncIterator[SeatEvent]:
        return self._events.read()

    async def publish_digit(self, digit: str) -> None:
        """Waits for the room, where it is only on its way; who asks says how long. Raises `Unavailable`."""
        await self._joined.wait()
        if self._session is None:
            raise Unavailable("the room is lost for the moment")
        await self._session.publish_digit(digit)

    async def set_attributes(self, changes: Mapping[str, str]) -> None:
        """Shown at once, or at the join. Raises `Unavailable`; then they are shown when the room is back, or at the next join."""
        self._attributes.update(changes)
        if self._session is not None:
            await self._session.show(changes)

    async def leave(self, reason: EndReason) -> None:
        log.debug("leaves the room", room=self._ticket.room_name, identity=self._ticket.identity, reason=reason.value)
        self._end("the seat was given up")
        self._events.end()
        for task in (self._living, self._looking):
            task.cancel()
        await asyncio.gather(self._living, self._looking, return_exceptions=True)

    @property
    def waits(self) -> bool:
        """Nobody talks here yet."""
        return not self._opened

    def give_up(self, why: str) -> None:
        """LiveKit is gone, and whoever waits for company shall not wait for it."""
        self._living.cancel()
        self._events.tell(SeatGone("connection_lost", why))
        self._end(why)

    def hears_nothing(self) -> bool:
        """Who talks here hears digital silence: nobody speaks, or LiveKit has gone without a word."""
        session = self._session
        return session is not None and not self._lost.is_set() and time.monotonic() - session.sounded_at > QUIET

    def miss(self) -> None:
        """LiveKit is away, long before the SDK has noticed: the caller shall not take the silence for a dead line. The SDK's session goes
        on, and is lost when it says so. Idempotent."""
        if self._missed_at is None and self._opened and self.hears_nothing():
            log.warning("LiveKit is away, and nothing is heard of the room", room=self._ticket.room_name)
            self._missed_at = time.monotonic()
            self._events.tell(SeatLost())

    def found(self) -> None:
        """LiveKit answers, or the room is heard again. Idempotent."""
        if self._missed_at is not None:
            self._missed_at = None
            if not self._lost.is_set():
                self._events.tell(SeatBack())

    # Its life

    async def _look(self) -> None:
        """Is somebody there? The server knows before we are in the room; where it does not say, the room itself will."""
        try:
            if await self._lookup.has_company(self._ticket.room_name, self._ticket.identity):
                self._company_is_here()
        except Unavailable as error:
            log.debug("who is in the room will be seen there", room=self._ticket.room_name, why=str(error))

    async def _live(self) -> None:
        try:
            gone = await self._until_gone()
        except NotWanted as error:
            gone = SeatGone(str(error))
        except Exception as error:
            log.exception("a fault of ours at a seat", room=self._ticket.room_name)
            gone = SeatGone("connection_lost", type(error).__name__)
        self._events.tell(gone)
        self._end(gone.detail or gone.reason)

    async def _until_gone(self) -> SeatGone:
        try:
            async with asyncio.timeout(JOIN_LIMIT):
                session = await self._join_at_first()
        except Unavailable as error:
            return SeatGone("join_failed", await self._lookup.why_not(self._ticket, str(error)))
        except TimeoutError:
            return SeatGone("join_failed", f"LiveKit did not let the caller in within {JOIN_LIMIT:g} s ({where(self._access)})")
        while (reason := await self._session_over(session)) not in FINAL:
            returned = await self._come_back(reason)
            if returned is None:
                return SeatGone("connection_lost", f"LiveKit was gone for {self._options.lost_limit:g} s ({reason})")
            session = returned
        return SeatGone(reason)

    async def _join_at_first(self) -> LiveKitSession:
        """As `_join`. What breaks at once is tried once more: a connection may be cut, a LiveKit just started anew."""
        try:
            return await self._join()
        except Unavailable as error:
            log.debug("joining once more", room=self._ticket.room_name, why=str(error))
            await asyncio.sleep(REJOIN_PAUSE)
            return await self._join()

    async def _join(self) -> LiveKitSession:
        """A session in which the caller can be heard and hears. Raises `Unavailable`, and `NotWanted` when LiveKit has ended it at once;
        whatever happens, no half of one stays."""
        attributes = {name: value for name, value in self._attributes.items() if value}
        session = LiveKitSession(replace(self._ticket, attributes=attributes), self._rate, self._way, self._told)
        try:
            await session.join(self._access, JOIN_LIMIT)
            self._session = session
            self._joined.set()
            await self._appear(session)
        except Unavailable:
            ended = session.why_over
            self._leave_session(session)
            if ended in FINAL:
                raise NotWanted(ended) from None
            raise
        except BaseException:
            self._leave_session(session)
            raise
        return session

    async def _appear(self, session: LiveKitSession) -> None:
        """Be seen and heard. Both at a time: LiveKit takes some 40 ms for either."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._show(session))
                group.create_task(session.publish())
        except* Unavailable as errors:
            raise errors.exceptions[0] from None

    async def _show(self, session: LiveKitSession) -> None:
        """What has changed since the token was made, or did not fit into it, or could not be told while the room was lost."""
        await session.show({name: value for name, value in self._attributes.items() if value})

    async def _show_again(self, session: LiveKitSession) -> None:
        try:
            await self._show(session)
        except Unavailable as error:
            log.warning("the room does not see what has changed", room=self._ticket.room_name, why=str(error))

    async def _session_over(self, session: LiveKitSession) -> str:
        """Returns why; a session that was lost and does not come back counts as over."""
        over = asyncio.ensure_future(session.over())
        try:
            while not over.done():
                await self._first_of(over, self._lost.wait())
                if not over.done() and not await self._is_back(over):
                    return "not_back"
                if not over.done():
                    await self._show_again(session)
            return over.result()
        finally:
            over.cancel()
            self._leave_session(session)

    async def _is_back(self, over: "asyncio.Future[str]") -> bool:
        await self._first_of(over, self._here.wait(), max(0.0, min(SDK_PATIENCE, self._time_left())))
        return over.done() or self._here.is_set()

    def _time_left(self) -> float:
        """Seconds that the caller still waits for a room that is lost."""
        return self._lost_at + self._options.lost_limit - asyncio.get_running_loop().time()

    @staticmethod
    async def _first_of(over: "asyncio.Future[str]", waiting: Coroutine[Any, Any, Any], limit: float | None = None) -> None:
        other = asyncio.ensure_future(waiting)
        futures: set[asyncio.Future[Any]] = {over, other}
        try:
            await asyncio.wait(futures, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            other.cancel()

    async def _come_back(self, reason: str) -> LiveKitSession | None:
        """Join anew, again and again, for as long as a caller may wait for it."""
        log.warning("the connection to LiveKit is lost: joining anew", room=self._ticket.room_name, why=reason)
        self._told(SeatLost())
        try:
            async with asyncio.timeout(self._time_left()):
                while self._time_left() > 0:  # a join that is begun goes on in the SDK, whatever we say
                    try:
                        session = await self._join()
                    except Unavailable as error:
                        log.debug("not back yet", room=self._ticket.room_name, why=str(error))
                        await asyncio.sleep(REJOIN_PAUSE)
                    else:
                        self._told(SeatBack())
                        return session
        except TimeoutError:
            pass
        return None

    def _told(self, news: News) -> None:
        match news:
            case Company():
                self._company_is_here()
            case SeatLost():
                if not self._lost.is_set():
                    self._lost_at = asyncio.get_running_loop().time()
                    self._lost.set()
                    self._here.clear()
                    self._words = None
                    self._events.tell(news)
            case SeatBack():
                if self._lost.is_set():
                    self._lost.clear()
                    self._here.set()
                    self._missed_at = None
                    self._events.tell(news)
            case _:
                self._events.tell(news)

    def _company_is_here(self) -> None:
        if not self._has_company.done():
            self._has_company.set_result(None)

    def _leave_session(self, session: LiveKitSession) -> None:
        if self._session is session:
            self._session = None
            self._joined.clear()
        self._let_go(session.close())

    def _end(self, why: str) -> None:
        self._opened = False
        self._joined.set()
        self._tell_gone(self)
        if not self._has_company.done():
            self._has_company.set_exception(Unavailable(why))
            self._has_company.exception()  # seen, even where nobody waits for company


def _hum(rate: int) -> bytes:
    """20 ms: two whole periods, so that one frame follows the other without a step."""
    swings = HUM_PEAK * np.sin(2 * np.pi * HUM_HZ * np.arange(samples_per_frame(rate)) / rate)
    hum: bytes = np.rint(swings).astype("<i2").tobytes()
    return hum
