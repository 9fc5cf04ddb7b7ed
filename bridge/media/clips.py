"""What a node can play, by name: the operator's recordings, our tones, our recorded speech, in this order."""

from typing import Protocol

from bridge.media.frames import Frames
from bridge.media.port import ClipName
from bridge.media.tones import Tones


class ClipLibrary(Protocol):
    """Clips as frames, ready to send."""

    def frames(self, name: ClipName, rate: int) -> Frames:
        """All of a clip (one period of an endless one) at 8000 or 16000 Hz. Never waits."""


class Speech(Protocol):
    """Recordings (`bridge.media.prompts.Prompts`)."""

    def frames(self, name: ClipName, rate: int) -> Frames: ...

    def override(self, name: ClipName, rate: int) -> Frames | None: ...


class Clips:
    """Recordings and tones as one library. An operator's recording takes the place of a tone, too."""

    def __init__(self, speech: Speech, tones: Tones) -> None:
        self._speech = speech
        self._tones = tones

    def frames(self, name: ClipName, rate: int) -> Frames:
        """The clip at 8000 or 16000 Hz."""
        own = self._speech.override(name, rate)
        if own is not None:
            return own
        tone = self._tones.frames(name, rate)
        return tone if tone is not None else self._speech.frames(name, rate)
