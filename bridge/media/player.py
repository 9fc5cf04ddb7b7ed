"""What is being played on one call: frames handed out one per beat, until the end, a stop or something else."""

import asyncio

from bridge.media.frames import Frames
from bridge.media.port import ClipName


class Player:
    """Plays one clip at a time. `playing` is None when the room is to be heard.

    `next_frame` is called from the beat while `playing` is not None, and only while the PBX is connected: a clip waits for it.
    """

    __slots__ = ("_at", "_ended", "_frames", "_loop", "playing")

    def __init__(self) -> None:
        self.playing: ClipName | None = None
        self._frames: Frames = ()
        self._at = 0
        self._loop = False
        self._ended: asyncio.Future[bool] | None = None

    async def play(self, name: ClipName, frames: Frames, loop: bool) -> bool:
        """Play from the next beat on, instead of what was played. True once all of it has been heard, False when something else
        came between. A caller who is cancelled takes the clip along."""
        self.stop()
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.playing, self._frames, self._at, self._loop, self._ended = name, frames, 0, loop and bool(frames), ended
        try:
            return await ended
        finally:
            if self._ended is ended:
                self._finish(False)

    def stop(self) -> None:
        """Nothing more of it is handed out. Idempotent."""
        self._finish(False)

    def next_frame(self) -> bytes | None:
        """The next 20 ms; None on the beat after the last one, when that has been heard and the clip is over."""
        if self._at == len(self._frames):
            if not self._loop:
                self._finish(True)
                return None
            self._at = 0
        frame = self._frames[self._at]
        self._at += 1
        return frame

    def _finish(self, to_the_end: bool) -> None:
        ended, self._ended = self._ended, None
        self.playing, self._frames, self._loop = None, (), False
        if ended is not None and not ended.done():
            ended.set_result(to_the_end)
