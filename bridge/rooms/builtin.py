"""Participants that live in the embedded room itself: an echo to hear oneself, an announcer who speaks.

They hear phones only, not one another: two echoes in one room would ring up to full scale.
"""

from collections import deque
from collections.abc import Mapping
from typing import Protocol

from bridge.media.frames import FRAMES_PER_SECOND, Frames
from bridge.rooms.options import BuiltIn, BuiltInKind


class Voice(Protocol):
    """A built-in participant at work in one room, driven by the room's beat."""

    published: bool

    def run_at(self, rate: int) -> None:
        """The room's rate from now on, in Hz; called before anything else."""

    def say(self, listeners: bool) -> bytes | None:
        """Its next 20 ms. `listeners`: somebody has audio open."""

    def hear(self, frame: bytes | None) -> None:
        """What all phones together said in this beat."""


class Echo:
    """Says what it hears, `delay` seconds later."""

    __slots__ = ("_heard", "_late", "_rate", "published")

    def __init__(self, delay: float) -> None:
        self.published = True
        self._rate = 0
        self._heard: bytes | None = None
        beats = round(delay * FRAMES_PER_SECOND)
        self._late: deque[bytes | None] | None = deque([None] * beats) if beats else None

    def run_at(self, rate: int) -> None:
        if rate != self._rate:  # what was heard at another rate cannot be said
            self._rate, self._heard = rate, None
            if self._late is not None:
                self._late = deque([None] * len(self._late))

    def say(self, listeners: bool) -> bytes | None:
        return self._heard

    def hear(self, frame: bytes | None) -> None:
        if self._late is None:
            self._heard = frame
        else:
            self._late.append(frame)
            self._heard = self._late.popleft()


class Announcer:
    """Publishes after a delay; begins to speak when somebody listens, so that nobody misses the first words."""

    __slots__ = ("_at", "_clip", "_frames", "_loop", "_until_published", "published")

    def __init__(self, delay: float, loop: bool, frames: Mapping[int, Frames]) -> None:
        self.published = False
        self._until_published = round(delay * FRAMES_PER_SECOND)
        self._loop = loop
        self._clip = frames
        self._frames: Frames = ()
        self._at = 0

    def run_at(self, rate: int) -> None:
        self._frames = self._clip[rate]

    def say(self, listeners: bool) -> bytes | None:
        if not self.published:
            self._until_published -= 1
            self.published = self._until_published < 0
            return None
        if not listeners or (self._at == len(self._frames) and not self._loop):
            return None
        self._at %= len(self._frames)
        frame = self._frames[self._at]
        self._at += 1
        return frame

    def hear(self, frame: bytes | None) -> None:
        """It speaks only."""


def voice(built_in: BuiltIn, announcement: Mapping[int, Frames]) -> Voice:
    """A participant for one room. `announcement` is what an announcer says, by rate."""
    if built_in.kind is BuiltInKind.ECHO:
        return Echo(built_in.delay)
    return Announcer(built_in.delay, built_in.loop, announcement)
