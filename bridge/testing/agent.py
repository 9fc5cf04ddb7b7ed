"""A LiveKit agent that needs no model: greets whoever is in its room with a recorded sentence, and sends back every key they press.

A process of its own, on the official `livekit-agents`: `python -m bridge.testing.agent NAME`, with LIVEKIT_URL, LIVEKIT_API_KEY and
LIVEKIT_API_SECRET. Says `registered` on standard output once LiveKit may dispatch it. `Agent` starts and ends it.
"""

import asyncio
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from livekit import rtc
from livekit.agents import AgentServer, JobContext, JobExecutorType

from bridge.errors import RoomlineError
from bridge.media.port import ClipName
from bridge.rooms.options import LiveKitAccess
from bridge.testing.child import Child
from bridge.testing.clips import clip
from bridge.testing.ports import LOOPBACK

RATE, SAMPLES = 16_000, 320
NAME = "greeter"
_READY_WITHIN = 30.0


class AgentFailed(RoomlineError):  # noqa: N818  (the text is the log's last lines)
    """The agent ended, or was not registered in time."""


class Agent:
    """`async with Agent(access, folder)`: registered with LiveKit under its name."""

    def __init__(self, access: LiveKitAccess, folder: Path, name: str = NAME) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
        environ |= {"LIVEKIT_URL": access.url, "LIVEKIT_API_KEY": access.key, "LIVEKIT_API_SECRET": access.secret}
        self._child = Child([sys.executable, "-m", "bridge.testing.agent", name], log=folder / "agent.log", environ=environ)

    async def __aenter__(self) -> Self:
        try:
            await self._child.start()
            async with asyncio.timeout(_READY_WITHIN):
                while "registered" not in self._child.output().splitlines():
                    if not self._child.running:
                        raise AgentFailed("the agent ended:\n" + "\n".join(self._child.output().splitlines()[-10:]))
                    await asyncio.sleep(0.05)
        except TimeoutError:
            await self._child.kill()
            raise AgentFailed(f"LiveKit did not register the agent within {_READY_WITHIN:.0f} s") from None
        except BaseException:
            await self._child.kill()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._child.stop(patience=3.0)


async def greet(context: JobContext) -> None:
    """One room: the greeting, then silence and keys until the room is over."""
    await context.connect()
    room = context.room
    keys: asyncio.Queue[rtc.SipDTMF] = asyncio.Queue()
    room.on("sip_dtmf_received", keys.put_nowait)
    source = rtc.AudioSource(RATE, 1, queue_size_ms=100)
    track = rtc.LocalAudioTrack.create_audio_track("greeting", source)
    publication = await room.local_participant.publish_track(track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
    async with asyncio.TaskGroup() as group:
        group.create_task(_speak(room, source, publication))
        group.create_task(_send_back(room, keys))


async def _speak(room: rtc.Room, source: rtc.AudioSource, publication: rtc.LocalTrackPublication) -> None:
    """From the moment that somebody listens."""
    await publication.wait_for_subscription()
    words = clip(ClipName.WELCOME, RATE)
    words = np.concatenate((np.zeros(RATE // 2, np.int16), words, np.zeros(-len(words) % SAMPLES, np.int16)))
    for at in range(0, len(words) - SAMPLES + 1, SAMPLES):
        await source.capture_frame(rtc.AudioFrame(words[at : at + SAMPLES].astype("<i2").tobytes(), RATE, 1, SAMPLES))
        if not room.isconnected():
            return


async def _send_back(room: rtc.Room, keys: "asyncio.Queue[rtc.SipDTMF]") -> None:
    while room.isconnected():
        pressed = await keys.get()
        await room.local_participant.publish_dtmf(code=pressed.code, digit=pressed.digit)


def main(name: str) -> None:
    server = AgentServer(
        host=LOOPBACK,
        port=0,
        num_idle_processes=0,
        http_proxy=None,
        # No process for each job: it starts at once, and a busy machine refuses none.
        job_executor_type=JobExecutorType.THREAD,
        load_fnc=lambda: 0.0,
    )
    server.rtc_session(greet, agent_name=name)
    server.on("worker_registered", lambda *_: print("registered", flush=True))
    asyncio.run(server.run(devmode=True))


if __name__ == "__main__":
    main(sys.argv[1])
