"""Another participant in a LiveKit room, by the SDK's public way: speaks, keeps what it hears of each, and what happened when.

Not for a process that takes the short cuts of `rooms/livekit_ffi.py`: there, the SDK's own streams hear nothing.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from livekit import api, rtc

from bridge.rooms.options import LiveKitAccess
from bridge.testing.recording import Recording, Samples

RATE: Final = 48_000
FRAME: Final = 0.02


@dataclass(frozen=True, slots=True)
class Seen:
    """How another participant looked at a moment."""

    identity: str
    name: str
    kind: str
    metadata: str
    attributes: dict[str, str]
    tracks: tuple[tuple[str, str, str], ...]
    """Name, kind and source of each."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the room. `at`: `time.monotonic`."""

    at: float
    name: str
    identity: str
    details: dict[str, Any] = field(default_factory=dict)


class Human:
    """`async with Human(access, room)`: in the room, publishing unless `speaks` is False."""

    def __init__(self, access: LiveKitAccess, room: str, identity: str = "human", *, speaks: bool = True) -> None:
        self._access = access
        self._name = room
        self._speaks = speaks
        self._to_say: deque[Samples] = deque()
        self._tone: Samples | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: dict[str, asyncio.Task[None]] = {}
        self.identity = identity
        self.room = rtc.Room()
        self.events: list[Event] = []
        self.heard: dict[str, Recording] = {}
        """By identity."""

    async def join(self) -> None:
        token = (
            api.AccessToken(self._access.key, self._access.secret)
            .with_identity(self.identity)
            .with_grants(api.VideoGrants(room_join=True, room=self._name, can_update_own_metadata=True))
        )
        self._watch()
        await self.room.connect(self._access.url, token.to_jwt())
        if self._speaks:
            await self.publish()

    async def publish(self) -> None:
        """Silence, until something is said."""
        source = rtc.AudioSource(RATE, 1, queue_size_ms=100)
        track = rtc.LocalAudioTrack.create_audio_track("voice", source)
        await self.room.local_participant.publish_track(track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
        self._tasks.append(asyncio.create_task(self._speak(source)))

    async def leave(self) -> None:
        tasks = [*self._tasks, *self._listening.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3.0):
                await self.room.disconnect()

    def say(self, samples: Samples) -> None:
        """At 48 kHz; what was being said before is said first."""
        size = round(RATE * FRAME)
        padded = np.pad(samples, (0, -len(samples) % size))
        self._to_say.extend(padded[at : at + size] for at in range(0, len(padded), size))

    def hum(self, tone: Samples | None) -> None:
        """A second of 48 kHz, over and over."""
        self._tone = tone

    async def press(self, digits: str, code: int = 0) -> None:
        """One `sip_dtmf` packet with whatever stands in `digits`."""
        await self.room.local_participant.publish_dtmf(code=code, digit=digits)

    async def ask(self, identity: str, method: str, payload: Any) -> Any:
        """An RPC with JSON both ways."""
        answer = await self.room.local_participant.perform_rpc(destination_identity=identity, method=method, payload=json.dumps(payload))
        return json.loads(answer)

    def sees(self, identity: str) -> Seen | None:
        """How that participant looks now."""
        participant = self.room.remote_participants.get(identity)
        if participant is None:
            return None
        return Seen(
            identity=participant.identity,
            name=participant.name,
            kind=rtc.ParticipantKind.Name(participant.kind).removeprefix("PARTICIPANT_KIND_").lower(),
            metadata=participant.metadata,
            attributes=dict(participant.attributes),
            tracks=tuple(
                (
                    each.name,
                    rtc.TrackKind.Name(each.kind).removeprefix("KIND_").lower(),
                    rtc.TrackSource.Name(each.source).removeprefix("SOURCE_").lower(),
                )
                for each in participant.track_publications.values()
            ),
        )

    def happened(self, name: str, identity: str | None = None) -> list[Event]:
        return [event for event in self.events if event.name == name and identity in (None, event.identity)]

    async def until(self, name: str, identity: str | None = None, *, count: int = 1, within: float = 8.0) -> Event:
        """The last of `count` such events, waited for. Raises AssertionError."""
        deadline = time.monotonic() + within
        while len(found := self.happened(name, identity)) < count:
            assert time.monotonic() < deadline, f"no {name} of {identity} within {within} s: {self.events[-10:]}"  # noqa: S101  (for tests)
            await asyncio.sleep(0.01)
        return found[count - 1]

    async def until_sees(self, identity: str, within: float = 8.0) -> Seen:
        """Somebody who is in the room, waited for. Raises AssertionError."""
        deadline = time.monotonic() + within
        while (seen := self.sees(identity)) is None:
            assert time.monotonic() < deadline, f"{identity} is not in the room within {within} s: {self.events}"  # noqa: S101  (for tests)
            await asyncio.sleep(0.02)
        return seen

    async def __aenter__(self) -> Self:
        await self.join()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.leave()

    def _watch(self) -> None:
        room = self.room
        room.on("participant_connected", lambda who: self._note("joined", who.identity, attributes=dict(who.attributes)))
        room.on("participant_disconnected", lambda who: self._note("left", who.identity))
        room.on("track_published", lambda track, who: self._note("published", who.identity, track=track.name))
        room.on("participant_attributes_changed", lambda new, who: self._note("changed", who.identity, attributes=dict(new)))
        room.on("sip_dtmf_received", self._pressed)
        room.on("track_subscribed", self._hears)
        room.on("track_unsubscribed", lambda _track, publication, _who: self._hears_no_more(publication.sid))
        room.on("disconnected", lambda reason: self._note("disconnected", self.identity, reason=rtc.DisconnectReason.Name(reason)))
        room.on("reconnected", lambda: self._note("reconnected", self.identity))

    def _note(self, name: str, identity: str, **details: Any) -> None:
        self.events.append(Event(time.monotonic(), name, identity, details))

    def _pressed(self, packet: rtc.SipDTMF) -> None:
        self._note("pressed", packet.participant.identity if packet.participant else "", digit=packet.digit, code=packet.code)

    def _hears(self, track: rtc.Track, publication: rtc.RemoteTrackPublication, who: rtc.RemoteParticipant) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._listening[publication.sid] = asyncio.create_task(self._listen(track, who.identity))

    def _hears_no_more(self, sid: str) -> None:
        listening = self._listening.get(sid)
        if listening is not None:
            listening.cancel()

    async def _listen(self, track: rtc.Track, identity: str) -> None:
        recording = self.heard.setdefault(identity, Recording(16_000))
        stream = rtc.AudioStream(track, sample_rate=16_000, num_channels=1, frame_size_ms=20)
        try:
            async for event in stream:
                recording.add(time.monotonic(), np.frombuffer(bytes(event.frame.data), "<i2").astype(np.int16))
        finally:
            await stream.aclose()  # some fifty that are left open, and the SDK hears of nothing any more

    async def _speak(self, source: rtc.AudioSource) -> None:
        size = round(RATE * FRAME)
        silence = np.zeros(size, np.int16)
        at = 0
        while True:
            if self._to_say:
                frame = self._to_say.popleft()
            elif self._tone is not None:
                frame, at = self._tone[at : at + size], (at + size) % len(self._tone)
            else:
                frame = silence
            await source.capture_frame(rtc.AudioFrame(frame.astype("<i2").tobytes(), RATE, 1, size))
