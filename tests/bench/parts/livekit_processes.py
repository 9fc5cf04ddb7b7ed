"""The processes of the LiveKit benches: one that is the crowd, one that is measured."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from livekit import api

from bridge.testing.livekit_server import LiveKitServer
from tests.bench.parts.livekit_crowd import CROWD

BARE, TRY = "tests.bench.parts.livekit_bare", "tests.bench.parts.livekit_try"
SETTLE = 4.0
"""Seconds from the last call to the first figure."""


def crowd(livekit: LiveKitServer, rooms: int) -> AbstractAsyncContextManager[object]:
    """Somebody who publishes in each of so many rooms."""
    return _process(livekit, "tests.bench.parts.livekit_crowd", str(rooms), ready="published")


async def measured(
    livekit: LiveKitServer, module: str, way: str, calls: int, seconds: float, environ: dict[str, str] | None = None
) -> dict[str, Any]:
    """What one of the measured modules says of itself, with the crowd alone beside it."""
    await show_out(livekit)
    async with _process(livekit, module, way, str(calls), str(seconds), ready="joined", environ=environ) as process:
        await asyncio.sleep(SETTLE)
        if process.stdin is not None:
            process.stdin.write(b"measure\n")
        while not (line := await _of(process.stdout).readline()).startswith(b"{"):  # word of a stalled beat may come before
            if not line:
                raise RuntimeError("the bare SDK ended before it was measured")
        return dict(json.loads(line))


async def show_out(livekit: LiveKitServer) -> None:
    """Whoever is left of an earlier measurement. A process that has ended stays in its rooms for a while, and would be heard."""
    access = livekit.access
    async with api.LiveKitAPI(access.url, access.key, access.secret) as asking:
        for room in (await asking.room.list_rooms(api.ListRoomsRequest())).rooms:
            for participant in (await asking.room.list_participants(api.ListParticipantsRequest(room=room.name))).participants:
                if participant.identity != CROWD:
                    await asking.room.remove_participant(api.RoomParticipantIdentity(room=room.name, identity=participant.identity))


@asynccontextmanager
async def _process(
    livekit: LiveKitServer, module: str, *arguments: str, ready: str, environ: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    whole = os.environ | {"LIVEKIT_URL": livekit.url, "LIVEKIT_API_KEY": livekit.key, "LIVEKIT_API_SECRET": livekit.secret}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, env=whole | (environ or {})
    )
    try:
        while (line := (await _of(process.stdout).readline()).decode().strip()) != ready:
            if not line:
                raise RuntimeError(f"{module} ended before it was ready")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _of(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if stream is None:
        raise RuntimeError("a process without its pipe")
    return stream
