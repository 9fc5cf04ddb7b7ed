"""A node in this process: where the PBX's audio arrives, the sounds of its calls, and the one beat that moves every sample.

The order within a beat: what callers say is taken and given to their rooms, the rooms mix, every caller gets their next 20 ms.
The node takes no decision; which call is where is told to it through `bridge.media.port`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog
from prometheus_client.core import Metric

from bridge.errors import RemoteProtocolError, Unavailable
from bridge.media.clips import ClipLibrary
from bridge.media.clock import Beat
from bridge.media.figures import Figures
from bridge.media.frames import samples_per_frame
from bridge.media.line import LineEnded
from bridge.media.options import NodeOptions
from bridge.media.port import NodeLoad
from bridge.media.reception import Reception
from bridge.media.sound import NodeSound
from bridge.media.sparse_log import SparseLog
from bridge.media.unicast import UnicastReception
from bridge.rooms.port import RoomService

log = structlog.get_logger(__name__)

_BEATS_PER_SWEEP = 10


class InProcessNode:
    """`bridge.media.port.Node`, living as long as its `async with` block; afterwards nothing of it is left, and the PBX sees every
    connection end."""

    def __init__(
        self,
        options: NodeOptions,
        rooms: RoomService,
        clips: ClipLibrary,
        figures: Figures | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.figures = figures if figures is not None else Figures()
        self._options = options
        self._rooms = rooms
        self._clips = clips
        self._now = now
        self._reception = Reception(
            options.host,
            options.port,
            public_host=options.public_host,
            connect_timeout=options.connect_timeout,
            figures=self.figures,
            now=now,
        )
        self._unicast = UnicastReception(
            options.public_host or options.host, connect_timeout=options.connect_timeout, figures=self.figures, now=now
        )
        self._beat: Beat | None = None
        self._until_sweep = _BEATS_PER_SWEEP
        self._sounds: dict[str, NodeSound] = {}
        self._on_air: tuple[NodeSound, ...] = ()
        self._ringing: tuple[NodeSound, ...] = ()
        self._giving_up: dict[str, asyncio.Task[None]] = {}
        self._draining = False
        self._opened = 0
        self.unattended = True
        """No controller is there. One that is decides itself how long a caller may be without sound: a transfer takes its time."""
        self._faults = SparseLog(now=now)

    async def __aenter__(self) -> Self:
        """Listen and beat. Raises `ConfigurationError` when the address cannot be had."""
        await self._reception.open()
        self._beat = Beat(self._one_beat, asyncio.get_running_loop(), self.figures, self._now)
        self._beat.start()
        log.info("media node listens", host=self._options.host, port=self.port)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._draining = True
        self._reception.close()
        self._unicast.close()
        if self._beat is not None:
            self._beat.stop()
            self._beat = None
        for task in self._giving_up.values():
            task.cancel()
        sounds = list(self._sounds.values())
        for sound in sounds:
            sound.let_go()
        await asyncio.gather(*(sound.close() for sound in sounds), return_exceptions=True)
        await asyncio.gather(*self._giving_up.values(), return_exceptions=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._reception.port

    async def open(self, call_id: str, rate: int) -> NodeSound:
        """See the port. Raises ValueError for a rate that no call has."""
        samples_per_frame(rate)
        if not self.load().room_for:
            raise Unavailable("the media node stops" if self._draining else "the media node carries as many calls as it may")
        if call_id in self._sounds:
            raise Unavailable(f"the media node carries call {call_id} already")
        sound = NodeSound(
            call_id,
            rate,
            reception=self._reception,
            unicast=self._unicast,
            rooms=self._rooms,
            clips=self._clips,
            changed=self._sound_changed,
            now=self._now,
        )
        self._sounds[call_id] = sound
        self._opened += 1
        return sound

    async def sounds(self) -> Mapping[str, NodeSound]:
        return dict(self._sounds)

    async def metrics(self) -> Sequence[Metric]:
        """What it counts, as Prometheus's families."""
        return list(self.figures.collect())

    async def probe(self) -> None:
        await self._rooms.probe()

    def load(self) -> NodeLoad:
        calls = len(self._sounds)
        closed = self._draining or self._beat is None
        worn = self._options.recycle_after is not None and self._opened >= self._options.recycle_after
        return NodeLoad(calls, 0 if closed else max(0, self._options.max_calls - calls), draining=self._draining, worn=worn)

    def drain(self) -> None:
        """Take no further calls; those it carries go on."""
        self._draining = True

    def _sound_changed(self, sound: NodeSound) -> None:
        if sound.closed and self._sounds.get(sound.call_id) is sound:
            del self._sounds[sound.call_id]
        self._on_air = tuple(each for each in self._sounds.values() if each.on_air)
        self._ringing = tuple(each for each in self._sounds.values() if each.rings)

    def _one_beat(self) -> None:
        on_air = self._on_air  # replaced, never changed, when a line comes or goes meanwhile
        for sound in on_air:
            try:
                sound.listen()
            except Exception as error:
                self._line_failed(sound, error)
        for sound in self._ringing:
            sound.ring()
        self._rooms.beat()
        for sound in on_air:
            try:
                sound.speak()
            except Exception as error:
                self._line_failed(sound, error)
        self._until_sweep -= 1
        if not self._until_sweep:
            self._until_sweep = _BEATS_PER_SWEEP
            self._sweep()

    def _line_failed(self, sound: NodeSound, error: Exception) -> None:
        """One call's trouble is its own: it loses its line, and the story finds it another one."""
        if isinstance(error, LineEnded):
            log.debug("audio connection over", call_id=sound.call_id, why=str(error))
        elif isinstance(error, RemoteProtocolError):
            self._faults.warning("the PBX sent what is no audio", call_id=sound.call_id, why=str(error))
        else:
            self.figures.faults += 1
            self._faults.warning("a fault of ours cost a call its audio connection", call_id=sound.call_id, exc_info=error)
        sound.lose_line()

    def _sweep(self) -> None:
        self._reception.sweep()
        self._unicast.sweep()
        grace = self._options.seat_grace
        if grace is None or not self.unattended:
            return
        for sound in self._sounds.values():
            if sound.call_id not in self._giving_up and sound.lost_for() > grace:
                task = asyncio.get_running_loop().create_task(sound.give_up_seat())
                self._giving_up[sound.call_id] = task
                task.add_done_callback(self._gave_up(sound.call_id))

    def _gave_up(self, call_id: str) -> Callable[["asyncio.Task[None]"], None]:
        def done(task: "asyncio.Task[None]") -> None:
            del self._giving_up[call_id]
            if not task.cancelled() and (error := task.exception()) is not None:
                self._faults.warning("a seat could not be given up", call_id=call_id, exc_info=error)

        return done
