"""The others: in each of N rooms one participant who publishes a tone, and hears nothing.

Part of `./run bench livekit`, as a process of its own: `python -m tests.bench.parts.livekit_crowd ROOMS`, with LIVEKIT_URL,
LIVEKIT_API_KEY and LIVEKIT_API_SECRET. Runs until its standard input ends.
"""

import asyncio
import os
import sys

import uvloop
from livekit import api, rtc

from bridge.media.clock import Beat
from bridge.media.figures import Figures
from bridge.rooms.livekit_ffi import ShortCut
from tests.bench.parts.livekit_bare import RATE, SAMPLES, TONE

CROWD = "other"


async def main(count: int) -> None:
    way, rooms = ShortCut(), []
    speakers = [way.speaker("tone", RATE) for _ in range(count)]
    for number, speaker in enumerate(speakers):
        room = rtc.Room()
        grants = api.VideoGrants(room_join=True, room=f"pair_+1555{number:05d}")
        token = api.AccessToken().with_identity(CROWD).with_grants(grants).to_jwt()
        await room.connect(os.environ["LIVEKIT_URL"], token, rtc.RoomOptions(auto_subscribe=False))
        await room.local_participant.publish_track(speaker.track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
        rooms.append(room)
    at = 0

    def beat() -> None:
        nonlocal at
        for speaker in speakers:
            speaker.send(TONE[at : at + 2 * SAMPLES])
        at = (at + 2 * SAMPLES) % len(TONE)

    Beat(beat, asyncio.get_running_loop(), Figures()).start()
    print("published", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
