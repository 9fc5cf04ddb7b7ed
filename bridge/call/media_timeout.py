"""A caller of whom nothing comes any more is gone, however long the PBX keeps the line (livekit-sip-semantics.md §3.6: no RTP).

The node is the first to notice: it hears no frame. That is a hint only, because a caller with silence suppression, or one who sends what
carries no sound, is not heard there either. So the PBX is asked whether packets came, and only its answer ends the call: where it cannot
tell, or cannot be asked, the call goes on. A caller who is heard costs the PBX no question.
"""

import asyncio
from collections.abc import Callable

from bridge.call.clock import Clock
from bridge.call.live import Call
from bridge.call.options import StoryOptions
from bridge.call.over import CallOver
from bridge.errors import Unavailable
from bridge.model.ending import EndReason

HINT = 1.0
"""Seconds without a frame after which the PBX is asked: longer than a key is held, shorter than any timeout that makes sense."""

LOOK_EVERY = 2.0
"""Seconds between two questions while nothing is heard. The end comes at most this much later than the timeout says."""


class MediaTimeout:
    """One call's. `excused` says whether the caller need not send at the moment: the time counts anew from then on."""

    def __init__(self, call: Call, options: StoryOptions, clock: Clock, *, excused: Callable[[], bool]) -> None:
        self._call = call
        self._options = options
        self._clock = clock
        self._excused = excused
        self._packets: int | None = 0
        self._since = 0.0

    async def watch(self) -> None:
        """From the answer on. Raises CallOver; never returns."""
        await self._call.audible.wait()
        self._since = self._clock.monotonic()
        while True:
            try:
                await self._silent()
                await asyncio.sleep(await self._look())
            except Unavailable:
                # Nobody can be asked: a lost node and a lost PBX are others' affair.
                await asyncio.sleep(LOOK_EVERY)

    async def _silent(self) -> None:
        if self._call.sound is None:
            raise RuntimeError("a call that is heard has a sound")
        await self._call.sound.silent_for(HINT)

    async def _look(self) -> float:
        """Ask the PBX; returns in how many seconds to look again."""
        if self._excused() or not self._call.control.is_set():
            self._packets = None
            return LOOK_EVERY
        packets = await self._call.leg.received_packets()
        if packets != self._packets:
            self._packets, self._since = packets, self._clock.monotonic()
        if packets is None:
            return self._limit
        left = self._since + self._limit - self._clock.monotonic()
        if left <= 0:
            ever = "any more" if packets else "at all"
            raise CallOver(EndReason.MEDIA_TIMEOUT, detail=f"nothing came from the caller {ever} for {self._limit:g} s")
        return min(LOOK_EVERY, left)

    @property
    def _limit(self) -> float:
        """The trunk's or rule's own takes the place of the later one only, as in LiveKit (S:media_codecs.go:newMediaConfig)."""
        if self._packets == 0:
            return self._options.media_timeout_initial
        return self._call.note.media_timeout or self._options.media_timeout
