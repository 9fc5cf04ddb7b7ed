"""The SDK alone doing what a node does for its callers: in N rooms, 20 ms of a tone out and the room's 20 ms in, by one of two ways.

Part of `./run bench livekit`, which starts it as a process of its own: `python -m tests.bench.parts.livekit_bare WAY ROOMS SECONDS`,
with LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET. `public` is what the SDK's documentation shows, `short` the short cuts of
rooms/livekit_ffi.py. Reads a line from standard input when it shall begin to measure; its last line is JSON.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from resource import RUSAGE_SELF, getrusage
from typing import Protocol

import numpy as np
import uvloop
from livekit import api, rtc

from bridge.media.clock import Beat
from bridge.media.figures import Figures
from bridge.rooms.livekit_audio import Listener, Speaker, TrackFrames
from bridge.rooms.livekit_ffi import ShortCut
from tests.bench.report import percentile

RATE, SAMPLES = 8_000, 160
TONE = (4000 * np.sin(2 * np.pi * 700 * np.arange(RATE) / RATE)).astype("<i2").tobytes()

JOIN = rtc.RoomOptions(auto_subscribe=False)
PUBLISH = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)


class Lateness(Figures):
    """Keeps every one while it is measured."""

    __slots__ = ("late", "measures")

    def __init__(self) -> None:
        super().__init__()
        self.late: list[float] = []
        self.measures = False

    def beat_came(self, late: float) -> None:
        if self.measures:
            self.late.append(late)


class Heard(Protocol):
    """Frames heard so far."""

    heard: int


class PublicRoom:
    """One room as a user of the SDK would write it: a task that sends by the clock, a task that hears."""

    def __init__(self, figures: Lateness) -> None:
        self._figures = figures
        self._tasks: list[asyncio.Task[None]] = []
        self.heard = 0
        self.source = rtc.AudioSource(RATE, 1, queue_size_ms=200)

    def begin(self) -> None:
        self._tasks.append(asyncio.create_task(self._send()))

    def hear(self, track: rtc.Track) -> None:
        self._tasks.append(asyncio.create_task(self._hear(track)))

    async def _send(self) -> None:
        due, at = time.monotonic(), 0
        while True:
            due += 0.02
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self._figures.beat_came(max(0.0, time.monotonic() - due))
            await self.source.capture_frame(rtc.AudioFrame(TONE[at : at + 2 * SAMPLES], RATE, 1, SAMPLES))
            at = (at + 2 * SAMPLES) % len(TONE)

    async def _hear(self, track: rtc.Track) -> None:
        async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=20):
            self.heard += bool(event.frame.samples_per_channel)


class ShortRoom:
    """One room by the short cut, on the one beat."""

    def __init__(self, way: ShortCut) -> None:
        self._way = way
        self._listeners: list[Listener] = []
        self._frames = TrackFrames()
        self._at = 0
        self.heard = 0
        self.speaker: Speaker = way.speaker("tone", RATE)

    def hear(self, track: rtc.Track) -> None:
        self._listeners.append(self._way.listener(track, RATE, self._frames))

    def beat(self) -> None:
        self.speaker.send(TONE[self._at : self._at + 2 * SAMPLES])
        self._at = (self._at + 2 * SAMPLES) % len(TONE)
        self.heard += self._frames.take() is not None


async def join(
    number: int,
    track: rtc.LocalAudioTrack,
    hear: Callable[[rtc.Track], None],
    options: rtc.RoomOptions = JOIN,
    publish: rtc.TrackPublishOptions = PUBLISH,
) -> rtc.Room:
    room = rtc.Room()
    room.on("track_published", lambda publication, _: publication.set_subscribed(True))
    room.on("track_subscribed", lambda track, publication, _: hear(track))
    grants = api.VideoGrants(room_join=True, room=f"pair_+1555{number:05d}")
    token = api.AccessToken().with_identity("bare").with_kind("sip").with_grants(grants).to_jwt()
    await room.connect(os.environ["LIVEKIT_URL"], token, options)
    for participant in room.remote_participants.values():
        for publication in participant.track_publications.values():
            publication.set_subscribed(True)
    await room.local_participant.publish_track(track, publish)
    return room


async def publicly(count: int, figures: Lateness) -> tuple[Sequence[Heard], list[rtc.Room]]:
    rooms, sessions = [PublicRoom(figures) for _ in range(count)], []
    for number, room in enumerate(rooms):
        sessions.append(await join(number, rtc.LocalAudioTrack.create_audio_track("tone", room.source), room.hear))
        room.begin()
    return rooms, sessions


async def by_short_cut(count: int, figures: Lateness) -> tuple[Sequence[Heard], list[rtc.Room]]:
    way = ShortCut()
    rooms = [ShortRoom(way) for _ in range(count)]
    sessions = [await join(number, room.speaker.track, room.hear) for number, room in enumerate(rooms)]

    def beat() -> None:
        for room in rooms:
            room.beat()

    Beat(beat, asyncio.get_running_loop(), figures).start()
    return rooms, sessions


async def main(way: str, count: int, seconds: float) -> None:
    figures = Lateness()
    rooms: Sequence[Heard]
    if way == "public":
        rooms, _sessions = await publicly(count, figures)
    else:
        rooms, _sessions = await by_short_cut(count, figures)
    await measure(rooms, figures, seconds)


async def measure(rooms: Sequence[Heard], figures: Lateness, seconds: float) -> None:
    """When told to; ends the process."""
    print("joined", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    heard, began, before = [room.heard for room in rooms], time.monotonic(), getrusage(RUSAGE_SELF)
    figures.measures = True
    await asyncio.sleep(seconds)
    after, took = getrusage(RUSAGE_SELF), time.monotonic() - began
    least = min(room.heard - earlier for room, earlier in zip(list(rooms), heard, strict=True))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        json.dumps(
            {
                "cpu_percent_of_a_core_per_call": round(100 * cpu / took / len(rooms), 3),
                "late_ms_p99": round(1000 * percentile(figures.late, 99), 2),
                "late_share_over_5_ms": round(sum(late > 0.005 for late in figures.late) / len(figures.late), 4),
                "heard_share": round(least / (50 * took), 3),
            }
        ),
        flush=True,
    )
    os._exit(0)  # every room is its own, and the server's to clean up


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
