"""One connection of the LiveKit SDK to one room: what a seat needs of it, and a guard against what the SDK does badly.

When to join, and what becomes of a seat whose session ends, is `livekit_seat.py`'s.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
from livekit import rtc
from livekit.rtc.participant import PublishTrackError
from livekit.rtc.room import EventTypes

from bridge.errors import Unavailable
from bridge.media.frames import RATES
from bridge.model.ticket import DigitsToSend, EndAsked, RoomTicket, SeatBack, SeatLost
from bridge.rooms.livekit_audio import AudioWay, Listener, Speaker, TrackFrames
from bridge.rooms.livekit_lookup import where
from bridge.rooms.livekit_rpc import END_CALL, GET_REMOTE_HEADERS, remote_headers
from bridge.rooms.livekit_token import attributes_in_token, join_token
from bridge.rooms.options import LiveKitAccess
from bridge.rooms.room_digits import RoomDigits

log = structlog.get_logger(__name__)

PUBLISH_LIMIT: Final = 5.0
"""Seconds for the caller's track, once joined."""

LISTENER_LIMIT: Final = 1.0
"""Seconds from the published track to the first who subscribes to it: it takes them some 60 ms."""

LISTENER_MARGIN: Final = 0.1
"""Seconds from LiveKit's word that somebody has subscribed until they really hear: their side has to learn of it too."""

TELL_LIMIT: Final = 1.0
"""Seconds for word to the room: an attribute, a key."""

JOIN_END_LIMIT: Final = 30.0
"""Seconds after which the SDK's own limit for a join has passed several times over, and who leaves waits for its end no longer."""

DISCONNECT_LIMIT: Final = 10.0
"""Seconds that the SDK may take to leave a room behind our back."""

ANSWER_FIRST: Final = 0.2
"""Seconds from an RPC's answer to the end that it asked for."""

_CODES: Final = {digit: code for code, digit in enumerate("0123456789*#abcd")}
"""RFC 4733, section 3.2."""

_PUBLISH: Final = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)


@dataclass(frozen=True, slots=True)
class Company:
    """Somebody else publishes audio, or another phone is here."""


News = Company | SeatLost | SeatBack | DigitsToSend | EndAsked


class LiveKitSession:
    """From `join` until it ends by itself (`over`) or by `close`."""

    def __init__(self, ticket: RoomTicket, rate: int, way: AudioWay, tell: Callable[[News], None]) -> None:
        """`tell` is called in the loop's thread."""
        if rate not in RATES:
            raise ValueError(f"no call runs at {rate} Hz")
        self._ticket = ticket
        self._rate = rate
        self._way = way
        self._tell = tell
        self._room = rtc.Room()
        self._joining: asyncio.Task[None] | None = None
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._listeners: dict[str, Listener] = {}
        self._closing_listeners: set[asyncio.Task[None]] = set()
        self.tracks: tuple[TrackFrames, ...] = ()
        self._frames: dict[str, TrackFrames] = {}
        self.speaker: Speaker | None = None
        """There from the moment on that somebody can hear the caller."""
        self._shown = dict(attributes_in_token(ticket.attributes))
        self._published: Speaker | None = None
        self._listened_to: asyncio.Task[None] | None = None
        self._room_digits = RoomDigits(ticket.room_name)
        self._heard = asyncio.Event()
        self._watch()

    # Joining

    async def join(self, access: LiveKitAccess, limit: float) -> None:
        """Take part in the room, and hear it. Raises `Unavailable` with the reason. Cancelled or too late, it is still to be closed: the
        SDK goes on joining all the same."""
        self._joining = asyncio.create_task(self._connect(access, limit))
        done, _ = await asyncio.wait({self._joining}, timeout=limit)
        if not done:
            raise Unavailable(f"LiveKit did not let the caller in within {limit:g} s ({where(access)})")
        error = self._joining.exception()
        if error is not None:
            raise Unavailable(_why(error, access)) from None
        participant = self._room.local_participant
        participant.register_rpc_method(GET_REMOTE_HEADERS, self._remote_headers)
        participant.register_rpc_method(END_CALL, self._end_asked)
        self._look_around()

    async def publish(self) -> None:
        """The caller's track, under their identity (§3.4 step 2). Raises `Unavailable`. There is a `speaker` once somebody has subscribed
        to it, or nobody does: what is said before would be lost."""
        speaker = self._published = self._way.speaker(self._ticket.identity, self._rate)
        try:
            async with asyncio.timeout(PUBLISH_LIMIT):
                await self._room.local_participant.publish_track(speaker.track, _PUBLISH)
        except TimeoutError:
            raise Unavailable(f"LiveKit did not take the caller's track within {PUBLISH_LIMIT:g} s") from None
        except PublishTrackError as error:
            raise Unavailable(f"LiveKit does not take the caller's track: {error.message}") from None
        self._listened_to = asyncio.create_task(self._until_listened_to(speaker))

    async def _until_listened_to(self, speaker: Speaker) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTENER_LIMIT):
                await self._heard.wait()
                await asyncio.sleep(LISTENER_MARGIN)
        self.speaker = speaker

    async def _connect(self, access: LiveKitAccess, limit: float) -> None:
        # Never cancelled: the SDK would join all the same, and nobody could make it leave again.
        options = rtc.RoomOptions(auto_subscribe=False, connect_timeout=limit)
        await self._room.connect(access.url, join_token(access, self._ticket), options)

    # While in the room

    @property
    def why_over(self) -> str:
        """LiveKit's reason, in lower case; empty while the session lives."""
        return self._over.result() if self._over.done() else ""

    @property
    def sounded_at(self) -> float:
        """When (`time.monotonic`) anything but digital silence came from the room last; 0 for never, or no more since a track has ended."""
        return max((track.sounded_at for track in self.tracks), default=0.0)

    async def over(self) -> str:
        """Returns LiveKit's reason, in lower case, when the session has ended by itself."""
        return await asyncio.shield(self._over)

    async def publish_digit(self, digit: str) -> None:
        """Raises `Unavailable`."""
        if digit in _CODES:
            await self._say(self._room.local_participant.publish_dtmf(code=_CODES[digit], digit=digit), "a key")

    async def show(self, attributes: Mapping[str, str]) -> None:
        """Tell the others what they do not know yet: of the ticket's attributes they have seen those in the token, at the join. Raises
        `Unavailable`; then they have seen none of them."""
        told = {name: value.encode(errors="replace").decode() for name, value in attributes.items()}  # half a surrogate pair is no UTF-8
        new = {name: value for name, value in told.items() if self._shown.get(name) != value}
        if new:
            await self._say(self._room.local_participant.set_attributes(new), "an attribute")
            self._shown.update(new)

    async def _say(self, saying: Awaitable[None], what: str) -> None:
        try:
            async with asyncio.timeout(TELL_LIMIT):
                await saying
        except TimeoutError:
            raise Unavailable(f"LiveKit did not take {what} within {TELL_LIMIT:g} s") from None
        except Exception as error:  # the SDK raises bare ones, and asserts
            raise Unavailable(f"LiveKit does not take {what}: {type(error).__name__} {error}") from None

    async def close(self) -> None:
        """Leave the room and let everything go, joined or not. Takes its time where LiveKit does: not to be cancelled."""
        self.speaker, self.tracks, self._tell = None, (), _nobody
        if self._listened_to is not None:
            self._listened_to.cancel()
        try:
            await self._disconnect()
        finally:
            for sid in list(self._listeners):
                self._stop_hearing(sid)
            await asyncio.gather(*self._closing_listeners, return_exceptions=True)
            if self._published is not None:
                await self._published.close()
            if not self._over.done():
                self._over.set_result("client_initiated")

    async def _disconnect(self) -> None:
        if self._joining is not None:
            await asyncio.wait({self._joining}, timeout=JOIN_END_LIMIT)
            if not self._joining.done():
                log.warning("the SDK does not end a join: should it come to the room, it stays", room=self._ticket.room_name)
                self._joining.cancel()
            elif self._joining.exception() is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(DISCONNECT_LIMIT):
                        await self._room.disconnect()

    # What the room says

    def _watch(self) -> None:
        self._on("participant_connected", self._participant_came)
        self._on("track_published", self._track_published)
        self._on("track_subscribed", self._track_subscribed)
        self._on("track_unsubscribed", self._track_unsubscribed)
        self._on("track_subscription_failed", self._track_failed)
        self._on("local_track_subscribed", lambda _track: self._heard.set())
        self._on("sip_dtmf_received", self._digits)
        self._on("reconnecting", lambda: self._tell(SeatLost()))
        self._on("reconnected", self._back)
        self._on("disconnected", self._disconnected)

    def _on(self, event: EventTypes, do: Callable[..., None]) -> None:
        """A fault of ours in what is to be done is logged here: the SDK would log it where nobody looks."""

        def guarded(*told: object) -> None:
            try:
                do(*told)
            except Exception:
                log.exception("a fault of ours at an event of the room", room=self._ticket.room_name, happened=event)

        self._room.on(event, guarded)

    def _look_around(self) -> None:
        """Who is here already; at a second look, only what is new counts."""
        for participant in self._room.remote_participants.values():
            self._participant_came(participant)
            for publication in participant.track_publications.values():
                self._track_published(publication, participant)

    def _participant_came(self, participant: rtc.RemoteParticipant) -> None:
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_SIP:
            self._tell(Company())

    def _track_published(self, publication: rtc.RemoteTrackPublication, _participant: rtc.RemoteParticipant) -> None:
        if publication.kind == rtc.TrackKind.KIND_AUDIO:
            publication.set_subscribed(True)
            self._tell(Company())

    def _track_subscribed(self, track: rtc.Track, publication: rtc.RemoteTrackPublication, _participant: rtc.RemoteParticipant) -> None:
        if publication.kind != rtc.TrackKind.KIND_AUDIO:
            return
        self._stop_hearing(publication.sid)
        frames = self._frames[publication.sid] = TrackFrames()
        self._listeners[publication.sid] = self._way.listener(track, self._rate, frames)
        self.tracks = tuple(self._frames.values())

    def _track_unsubscribed(self, _track: rtc.Track, publication: rtc.RemoteTrackPublication, _participant: rtc.RemoteParticipant) -> None:
        self._stop_hearing(publication.sid)

    def _track_failed(self, participant: rtc.RemoteParticipant, sid: str, error: str) -> None:
        log.warning("a participant cannot be heard", room=self._ticket.room_name, participant=participant.identity, track=sid, why=error)

    def _stop_hearing(self, sid: str) -> None:
        self._frames.pop(sid, None)
        self.tracks = tuple(self._frames.values())
        listener = self._listeners.pop(sid, None)
        if listener is not None:
            closing = asyncio.get_running_loop().create_task(listener.close())
            self._closing_listeners.add(closing)
            closing.add_done_callback(self._closing_listeners.discard)

    def _digits(self, packet: rtc.SipDTMF) -> None:
        if self._room_digits.accept(packet.digit, asyncio.get_running_loop().time()):
            self._tell(DigitsToSend(packet.digit))

    def _back(self) -> None:
        self._look_around()
        self._tell(SeatBack())

    def _disconnected(self, reason: "rtc.DisconnectReason.ValueType") -> None:
        if not self._over.done():
            self._over.set_result(rtc.DisconnectReason.Name(reason).lower())

    async def _remote_headers(self, asked: rtc.RpcInvocationData) -> str:
        return remote_headers(self._ticket.headers, asked.payload)

    async def _end_asked(self, asked: rtc.RpcInvocationData) -> str:
        # They are told that it was heard first: whoever leaves at once takes an answer along that is still on its way.
        asyncio.get_running_loop().call_later(ANSWER_FIRST, self._tell, EndAsked(asked.caller_identity))
        return "{}"


def _nobody(_news: News) -> None:
    """Who is told by a session that was left: another one may have taken its place."""


def _why(error: BaseException, access: LiveKitAccess) -> str:
    text = error.message if isinstance(error, rtc.ConnectError) else f"{type(error).__name__}: {error}"
    return f"LiveKit does not let the caller in ({where(access)}): {text}"
