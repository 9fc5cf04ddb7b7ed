"""The SDK by our short cut with one thing done otherwise: what `./run bench livekit_tries` starts once for each try.

`python -m tests.bench.parts.livekit_try TRY ROOMS SECONDS`, TRY a JSON object of `Try`, with LIVEKIT_URL, LIVEKIT_API_KEY and
LIVEKIT_API_SECRET. Otherwise as `livekit_bare.py`.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass

import numpy as np
import uvloop
from livekit import rtc
from livekit.rtc._proto import room_pb2

from bridge.rooms import livekit_ffi
from tests.bench.parts import livekit_bare
from tests.bench.parts.livekit_bare import RATE, ShortRoom, join, measure


@dataclass(frozen=True, slots=True)
class Try:
    """What differs from what Roomline does; left out: the same."""

    frame_ms: int = 20
    sound: str = "tone"
    """Or zeros; noise: one step up or down; hum: eight steps up and down, 100 Hz, which nobody hears."""
    queue_ms: int = 200
    dtx: bool | None = None
    red: bool | None = None
    bitrate: int | None = None
    single_connection: bool | None = None
    listens: bool = True
    sends: bool = True


class TriedRoom(ShortRoom):
    def __init__(self, way: livekit_ffi.ShortCut, tried: Try) -> None:
        super().__init__(way)
        self._tried = tried
        samples = RATE * tried.frame_ms // 1000
        noise = np.random.default_rng(1).integers(-1, 2, 50 * samples).astype("<i2").tobytes()
        hum = np.rint(8 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)).astype("<i2").tobytes()
        sound = {"tone": livekit_bare.TONE, "zeros": bytes(100 * samples), "noise": noise, "hum": hum}[tried.sound]
        self._frames_of_sound = [sound[at : at + 2 * samples] for at in range(0, len(sound) - 2 * samples + 1, 2 * samples)]

    def hear(self, track: rtc.Track) -> None:
        if self._tried.listens:
            super().hear(track)

    def beat(self) -> None:
        if self._tried.sends:
            self.speaker.send(self._frames_of_sound[self._at])
            self._at = (self._at + 1) % len(self._frames_of_sound)
        self.heard += self._frames.take() is not None


async def main(tried: Try, count: int, seconds: float) -> None:
    # What the product has no setting for is changed under its feet, here only.
    product = vars(livekit_ffi)
    product["SOURCE_QUEUE_MS"] = tried.queue_ms
    product["samples_per_frame"] = lambda rate: rate * tried.frame_ms // 1000
    product["bytes_per_frame"] = lambda rate: 2 * rate * tried.frame_ms // 1000
    figures, way = livekit_bare.Lateness(), livekit_ffi.ShortCut()
    rooms = [TriedRoom(way, tried) for _ in range(count)]
    for number, room in enumerate(rooms):
        await join(number, room.speaker.track, room.hear, options=_room_options(tried), publish=_publish_options(tried))

    async def beats() -> None:
        due = time.monotonic()
        while True:
            due += tried.frame_ms / 1000
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            figures.beat_came(max(0.0, time.monotonic() - due))
            for room in rooms:
                room.beat()

    async with asyncio.TaskGroup() as group:
        group.create_task(beats())
        group.create_task(measure(rooms, figures, seconds))


def _room_options(tried: Try) -> rtc.RoomOptions:
    options = rtc.RoomOptions(auto_subscribe=False)
    if tried.single_connection is not None:
        options.single_peer_connection = tried.single_connection
    return options


def _publish_options(tried: Try) -> rtc.TrackPublishOptions:
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    if tried.dtx is not None:
        options.dtx = tried.dtx
    if tried.red is not None:
        options.red = tried.red
    if tried.bitrate is not None:
        options.audio_encoding.CopyFrom(room_pb2.AudioEncoding(max_bitrate=tried.bitrate))
    return options


if __name__ == "__main__":
    uvloop.run(main(Try(**json.loads(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3])))
