"""Telling the PBX something while its connection may come and go, and keeping the call's note on it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from bridge.call.live import Call
from bridge.call.over import CallOver
from bridge.errors import Unavailable
from bridge.model.ending import EndedBy, EndReason

_Result = TypeVar("_Result")

TRIES = 3
"""A PBX that does not answer over a connection that is there gets this many tries; over one that is not, we wait for it to be back
(`watchers.py` limits how long)."""


async def command(call: Call, tell: Callable[[], Awaitable[_Result]]) -> _Result:
    """Tell the PBX, and again when its connection is back."""
    failed: Unavailable | None = None
    for _ in range(TRIES):
        await call.control.wait()
        try:
            return await tell()
        except Unavailable as error:
            failed = error
    raise CallOver(EndReason.PBX_GONE, EndedBy.PBX, detail=f"the PBX does not answer: {failed}", fall_back=True)


async def remember(call: Call, **facts: object) -> None:
    """Change what is known of the call, and keep it on the call itself before the step it speaks of is taken."""
    text = call.change(**facts).to_text()
    await command(call, lambda: call.leg.remember(text))
