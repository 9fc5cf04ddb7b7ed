"""A call's samples into the LiveKit SDK and out of it, the public way; `livekit_ffi.py` has the short cuts behind the same face.

Nothing here waits: the node's beat takes and gives one frame of 20 ms for each call.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Final, Protocol

import structlog
from livekit import rtc

from bridge.media.frames import samples_per_frame
from bridge.media.sparse_log import SparseLog

log = structlog.get_logger(__name__)

SOURCE_QUEUE_MS: Final = 200
"""How much the SDK's source may hold. The beat gives 20 ms every 20 ms, so next to nothing waits there; after a stall it catches up."""

MOST_WAITING: Final = 6
"""Frames of one track between the SDK and the beat. Older ones are dropped: late audio is wrong audio."""

PATIENCE: Final = 50
"""Beats. When for a second there was always one more frame waiting than needed, one is left out to win back its delay."""

SDK_LIMIT: Final = 1.0
"""Seconds that the SDK may take for one frame: what is said in the second that it holds on to one is lost, not the call."""

LISTEN_AGAIN: Final = 1.0
"""Seconds from a stream that broke to the next try with its track."""


class TrackFrames:
    """What one remote track has said and the beat has not taken yet. `put` comes from any thread, `take` from the beat.

    The SDK gives a frame every 20 ms by a clock of its own. The beat takes them as they come; only where the two clocks stand so close
    that one was missing when it was wanted, one frame is held back from then on.
    """

    __slots__ = ("_held_back", "_spare", "_waiting", "_waits", "sounded_at")

    def __init__(self) -> None:
        self.sounded_at = 0.0
        """When (`time.monotonic`) a frame came last that is not all zeros. Where nothing comes the SDK makes such frames itself: of one who
        is muted, and of all when LiveKit is gone."""
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._waits = True
        self._held_back = 0
        self._spare = 0

    def put(self, frame: bytes) -> None:
        if frame != bytes(len(frame)):
            self.sounded_at = time.monotonic()
        self._waiting.append(frame)

    def forget(self) -> None:
        """What waits was not wanted in its time, and is old by the time it will be."""
        self._waiting.clear()
        self._waits = True

    def take(self) -> bytes | None:
        """The next 20 ms; None when there are none."""
        waiting = self._waiting
        if self._waits and len(waiting) <= self._held_back:
            return None
        if not waiting:
            self._waits, self._held_back = True, 1
            return None
        self._waits = False
        frame = waiting.popleft()
        self._spare = self._spare + 1 if len(waiting) > self._held_back else 0
        if self._spare >= PATIENCE:
            waiting.popleft()
            self._spare = 0
        return frame


class Speaker(Protocol):
    """What the caller says, as a track to publish."""

    @property
    def track(self) -> rtc.LocalAudioTrack: ...

    def send(self, frame: bytes) -> None:
        """20 ms at the speaker's rate. Never waits, never raises."""

    async def close(self) -> None: ...


class Listener(Protocol):
    """Fills a `TrackFrames` from one remote track until closed."""

    async def close(self) -> None: ...


class AudioWay(Protocol):
    """One way to move samples between us and the SDK."""

    def speaker(self, name: str, rate: int) -> Speaker: ...

    def listener(self, track: rtc.Track, rate: int, frames: TrackFrames) -> Listener: ...


class PublicWay:
    """By what the SDK offers to everybody: some 1.3 times the CPU of the short cuts, and right with every version of it."""

    def speaker(self, name: str, rate: int) -> "PublicSpeaker":
        return PublicSpeaker(name, rate)

    def listener(self, track: rtc.Track, rate: int, frames: TrackFrames) -> "PublicListener":
        return PublicListener(track, rate, frames)


class PublicSpeaker:
    """A task hands the frames to the SDK one after the other, as it wants them. One that it does not take is lost, no other is."""

    def __init__(self, name: str, rate: int) -> None:
        self._rate = rate
        self._faults = SparseLog()
        self._source = rtc.AudioSource(rate, 1, queue_size_ms=SOURCE_QUEUE_MS)
        self._track = rtc.LocalAudioTrack.create_audio_track(name, self._source)
        self._frames: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        self._handing = asyncio.create_task(self._hand())

    @property
    def track(self) -> rtc.LocalAudioTrack:
        return self._track

    def send(self, frame: bytes) -> None:
        if self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(frame)

    async def close(self) -> None:
        self._handing.cancel()
        await asyncio.gather(self._handing, return_exceptions=True)
        await self._source.aclose()

    async def _hand(self) -> None:
        samples = samples_per_frame(self._rate)
        while True:
            frame = rtc.AudioFrame(await self._frames.get(), self._rate, 1, samples)
            try:
                async with asyncio.timeout(SDK_LIMIT):
                    await self._source.capture_frame(frame)
            except Exception as error:  # the SDK raises bare ones
                self._faults.warning("the SDK did not take a frame", why=str(error) or type(error).__name__)


class PublicListener:
    """A task takes the frames from the SDK's stream, and from a new one where that breaks."""

    def __init__(self, track: rtc.Track, rate: int, frames: TrackFrames) -> None:
        self._track = track
        self._rate = rate
        self._frames = frames
        self._stream = self._open()
        self._taking = asyncio.create_task(self._take())

    async def close(self) -> None:
        self._taking.cancel()
        await asyncio.gather(self._taking, return_exceptions=True)
        await self._stream.aclose()

    def _open(self) -> rtc.AudioStream:
        return rtc.AudioStream(self._track, sample_rate=self._rate, num_channels=1, frame_size_ms=20)

    async def _take(self) -> None:
        while True:
            try:
                async for event in self._stream:
                    self._frames.put(bytes(event.frame.data))
                return
            except Exception as error:  # the SDK raises bare ones
                log.warning("a participant is not heard for a moment", why=str(error) or type(error).__name__)
            await asyncio.sleep(LISTEN_AGAIN)
            with suppress(Exception):
                await self._stream.aclose()
            with suppress(Exception):  # its track may be gone by now, which ends us
                self._stream = self._open()
