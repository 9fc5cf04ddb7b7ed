"""One caller's frames between the socket and the beat: few, since audio that is late is wrong audio, and no longer than is of use."""

from collections import deque
from typing import Final

from bridge.media.figures import QUEUE_FRAMES, Figures

PATIENCE: Final = 250
"""Beats. When for 5 s there was always another frame waiting behind the one taken, that delay serves nothing: one is left out."""


class WaitingFrames:
    """The oldest is dropped where there are more than `room`."""

    __slots__ = ("_figures", "_frames", "_spare", "room")

    def __init__(self, figures: Figures) -> None:
        self.room = QUEUE_FRAMES
        self._frames: deque[bytes] = deque()
        self._figures = figures
        self._spare = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes) -> None:
        if len(self._frames) >= self.room:
            self._frames.popleft()
            self._figures.frames_dropped += 1
        self._frames.append(frame)

    def take(self) -> bytes | None:
        """The next 20 ms, on each beat."""
        waiting, figures = self._frames, self._figures
        figures.depths[min(len(waiting), QUEUE_FRAMES)] += 1
        if not waiting:
            figures.frames_missing += 1
            self._spare = 0
            return None
        frame = waiting.popleft()
        self._spare = self._spare + 1 if waiting else 0
        if self._spare >= PATIENCE:
            waiting.popleft()
            figures.frames_trimmed += 1
            self._spare = 0
        return frame
