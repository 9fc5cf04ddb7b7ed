"""A node as a process of its own: what carries the sound of calls while controllers come and go.

Put together here from the same configuration file that the server reads. What it does without a controller is `media/node_server.py`'s.
"""

import asyncio
import signal
from pathlib import Path

import structlog

from bridge.media.clips import Clips
from bridge.media.frames import RATES
from bridge.media.node import InProcessNode
from bridge.media.node_server import NodeServer
from bridge.media.port import ClipName
from bridge.media.prompts import Prompts
from bridge.media.tones import Tones
from bridge.media.worker_log import begin_anew_when_full, log_beside
from bridge.rooms.local import LocalRooms, LocalRoomsOptions
from bridge.rooms.port import RoomService
from bridge.settings import Settings

log = structlog.get_logger(__name__)

SEAT_GRACE = 5.0
"""Seconds after which a node gives up the seat of a call whose PBX connection is gone (DESIGN §5)."""

UNNEEDED_AFTER = 30.0
"""Seconds, beyond the orphan limit, that a node started by a server waits for a controller when it carries no call."""

_LOOK_EVERY = 0.5

_LOG_LOOKED_AT_EVERY = 5.0


async def serve_node(settings: Settings, place: int, *, started_by_server: bool) -> None:
    """Carry calls until SIGTERM and the last call's end; a second SIGTERM ends at once. Raises ConfigurationError for an address or
    socket that cannot be had."""
    loop, leaving = asyncio.get_running_loop(), asyncio.Event()
    options = settings.node(place, seat_grace=SEAT_GRACE)
    clips = await asyncio.to_thread(make_clips, settings)
    rooms = make_rooms(settings, clips)
    try:
        async with (
            InProcessNode(options, rooms, clips) as node,
            NodeServer(node, settings.media.socket(place), orphan_limit=settings.media.orphan_limit) as server,
        ):

            def leave() -> None:
                if leaving.is_set() or not node.load().calls:
                    ending.set()
                leaving.set()
                node.drain()

            ending = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, leave)
            log.info("node serves", place=place, port=node.port, controller=settings.media.socket(place).name)
            alone = asyncio.create_task(_until_unneeded(node, server, leaving, settings.media.orphan_limit, wait=started_by_server))
            ended = asyncio.create_task(ending.wait())
            logging = asyncio.create_task(_keep_log_short(log_beside(settings.media.socket(place))))
            await asyncio.wait({alone, ended}, return_when=asyncio.FIRST_COMPLETED)
            for task in (alone, ended, logging):
                task.cancel()
            await asyncio.gather(alone, ended, logging, return_exceptions=True)
    finally:
        await rooms.close()
    log.info("node has stopped", place=place)


async def _until_unneeded(node: InProcessNode, server: NodeServer, leaving: asyncio.Event, orphan_limit: float, *, wait: bool) -> None:
    """Returns when it carries nothing and nobody will want it any more."""
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        forgotten = wait and server.alone_for > orphan_limit + UNNEEDED_AFTER
        load = node.load()
        if not load.calls and (leaving.is_set() or forgotten or (wait and load.worn)):
            return


async def _keep_log_short(path: Path) -> None:
    while True:
        await asyncio.sleep(_LOG_LOOKED_AT_EVERY)
        await asyncio.to_thread(begin_anew_when_full, path)


def make_clips(settings: Settings) -> Clips:
    """Reads the prompts and makes the tones: off the loop. Raises ConfigurationError."""
    return Clips(Prompts(settings.media.prompts, settings.media.language), Tones(settings.media.ringback))


def make_rooms(settings: Settings, clips: Clips) -> RoomService:
    """Inside a running loop."""
    if settings.rooms.kind == "local":
        return make_local_rooms(settings, clips)
    # Loaded where it is used only: the SDK is native code, and no controller's process may hold it (DESIGN §8).
    from bridge.rooms.livekit import LiveKitRooms  # noqa: PLC0415
    from bridge.rooms.livekit_ffi import audio_way  # noqa: PLC0415
    from bridge.rooms.livekit_seat import SeatOptions  # noqa: PLC0415

    return LiveKitRooms(settings.rooms.access(), audio_way(), SeatOptions(lost_limit=settings.rooms.lost_limit))


def make_local_rooms(settings: Settings, clips: Clips) -> LocalRooms:
    return LocalRooms(
        LocalRoomsOptions(
            participants=tuple(participant.built_in() for participant in settings.rooms.participants),
            announcement={rate: clips.frames(ClipName.WELCOME, rate) for rate in RATES},
        )
    )
