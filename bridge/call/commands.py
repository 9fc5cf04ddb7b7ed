"""Telling the PBX something while its connection may come and go, and keeping the call's note on it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from bridge.call.live import Call
from bridge.call.over import CallOver
from bridge.call.waiting import first_of
from bridge.errors import NodeGone, Unavailable
from bridge.media.port import Sound
from bridge.model.ending import EndedBy, EndReason
from bridge.model.media_address import Carriage, MediaAddress

_Result = TypeVar("_Result")

TRIES = 3
"""A PBX that does not answer over a connection that is there gets this many tries; over one that is not, we wait for it to be back
(`watchers.py` limits how long)."""

PAUSE = 0.2
"""Seconds between two tries to get the PBX's audio: one that cannot reach the node says so at once."""


async def command(call: Call, tell: Callable[[], Awaitable[_Result]]) -> _Result:
    """Tell the PBX something that may be said twice, and say it again when its connection is back."""
    failed: Unavailable | None = None
    for _ in range(TRIES):
        await call.control.wait()
        try:
            return await tell()
        except Unavailable as error:
            failed = error
            await asyncio.sleep(PAUSE)  # word of a lost connection may still be on its way to us
    raise CallOver(EndReason.PBX_GONE, EndedBy.PBX, detail=f"the PBX does not answer: {failed}", fall_back=True)


async def remember(call: Call, **facts: object) -> None:
    """Change what is known of the call, and keep it on the call itself before the step it speaks of is taken."""
    text = call.change(**facts).to_text()
    await command(call, lambda: call.leg.remember(text))


async def connect(call: Call, limit: float) -> None:
    """Have the PBX send the call's audio to its sound, which answers a caller whom nobody has answered yet.

    Tried again and again for `limit` seconds, and anew when the PBX could not be told meanwhile. Raises NodeGone when the sound is gone
    with its node, CallOver when no audio came.
    """
    sound = call.sound
    if sound is None:
        raise RuntimeError("a sound is opened before it is connected")
    call.connecting = True
    try:
        while not await _connected_within(call, sound, limit):
            pass
    finally:
        call.connecting = False


async def _connected_within(call: Call, sound: Sound, limit: float) -> bool:
    """False when the PBX could not be told: its time does not count."""
    await call.control.wait()
    try:
        async with asyncio.timeout(limit):
            while True:
                call.media_refused.clear()
                address = await _invite(sound, call.leg.carriage)
                await command(call, partial(call.leg.connect, address))
                await first_of(sound.connected(), call.media_refused.wait())
                if not call.media_refused.is_set():
                    call.heard = True
                    return True
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        if not call.control.is_set():
            return False
        detail = f"no audio from the PBX within {limit:g} s"
        raise CallOver(EndReason.MEDIA_FAILED, detail=detail, status=503, fall_back=True) from None


async def _invite(sound: Sound, carriage: Carriage) -> MediaAddress:
    try:
        return await sound.invite(carriage)
    except Unavailable as error:
        raise NodeGone(f"the node gives no address: {error}") from error
