"""The nodes that run as processes of their own, as the server sees them: connected to, and started when they are missing.

A worker is nobody's child in spirit: it has a session of its own, writes into a file of its own (`worker_log.py`) and no pipe of ours, and
goes on when we end. Where the operator runs nodes as services, nothing is started here. A node that a newer controller has taken over is
the newer one's to look after.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from bridge.errors import Superseded
from bridge.media.epoch import Epoch
from bridge.media.port import NodeLoad
from bridge.media.remote import Presence, RemoteNode, RemoteNodeOptions
from bridge.media.worker_log import log_beside, open_log

log = structlog.get_logger(__name__)

START_PATIENCE = 10.0
"""Seconds that a worker gets to open its socket before another one is started in its place."""

RESTART_PAUSE = 2.0
"""Seconds before one that could not be started, or ended without ever having answered, is started anew: its log says why."""

FIRST_LOOK = 0.3
"""Seconds that one gets which may be there already."""

_LOOK_EVERY = 0.05


class Workers:
    """One remote node for each socket. `start` is the command that starts the node of that place; without it none are started."""

    def __init__(self, sockets: Sequence[Path], start: Callable[[int], Sequence[str]] | None) -> None:
        epoch = Epoch.now()
        self.nodes = [RemoteNode(RemoteNodeOptions(path, epoch)) for path in sockets]
        self._logs = [log_beside(path) for path in sockets]
        self._start = start
        self._started: dict[int, subprocess.Popen[bytes]] = {}

    async def run(self) -> None:
        """Keep the connections, and the workers alive, until cancelled. The workers stay. Raises Superseded when a newer controller has
        taken over all of them."""
        async with asyncio.TaskGroup() as group:
            for place, node in enumerate(self.nodes):
                group.create_task(node.run())
                if self._start is not None:
                    group.create_task(self._keep_alive(place, node, self._start))
        raise Superseded("a newer controller has taken the media nodes over")

    async def first_there(self, within: float) -> bool:
        """Returns once a node is there: calls taken before would find none. False when none came."""
        try:
            async with asyncio.timeout(within):
                while self.load().lost:  # noqa: ASYNC110  (a node's presence has no event of its own, and this is asked once)
                    await asyncio.sleep(_LOOK_EVERY)
        except TimeoutError:
            return False
        return True

    @property
    def count(self) -> int:
        return len(self.nodes)

    def started(self) -> list[subprocess.Popen[bytes]]:
        """The processes that were started here, the last one of each place."""
        return list(self._started.values())

    def load(self) -> NodeLoad:
        """Of all together."""
        loads = [node.load() for node in self.nodes]
        return NodeLoad(
            calls=sum(load.calls for load in loads),
            room_for=sum(load.room_for for load in loads),
            draining=all(load.draining for load in loads),
            lost=all(load.lost for load in loads),
        )

    async def _keep_alive(self, place: int, node: RemoteNode, start: Callable[[int], Sequence[str]]) -> None:
        """Whoever is there already, an earlier server's worker or a service, gets a moment to answer. One is started where nobody listens,
        and one is ended only for not answering: that a connection has ended says nothing of the node."""
        unreached, answered, pause = 0.0, False, FIRST_LOOK
        while node.presence is not Presence.LEFT:
            await asyncio.sleep(_LOOK_EVERY)
            if node.presence is Presence.THERE:
                unreached, answered = 0.0, True
                continue
            unreached += _LOOK_EVERY
            process = self._started.get(place)
            frozen = node.presence is Presence.SILENT
            if process is not None and process.poll() is None:
                if (frozen and answered) or unreached > START_PATIENCE:
                    log.warning("a media node does not answer: it is ended, and started anew", place=place, pid=process.pid)
                    process.kill()
                    await asyncio.to_thread(process.wait)
            elif frozen:
                self._end_an_earlier_servers(place, node, process)
            elif node.presence is Presence.ABSENT and (answered or unreached > pause):
                try:
                    await asyncio.to_thread(self._begin, place, start(place))
                except OSError as error:  # no process, no memory, no file: that may pass, and the calls of the others go on
                    log.error("a media node could not be started: it is tried again", place=place, error=str(error))
                unreached, answered, pause = 0.0, False, RESTART_PAUSE

    def _end_an_earlier_servers(self, place: int, node: RemoteNode, ours: "subprocess.Popen[bytes] | None") -> None:
        """A frozen node that we have not started: it holds the place, and its calls hear nothing."""
        frozen = node.process
        if frozen is not None and frozen.pid not in (0, os.getpid(), ours.pid if ours is not None else 0):
            log.warning("an earlier server's media node does not answer: it is ended", place=place, pid=frozen.pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(frozen.pid, signal.SIGKILL)

    def _begin(self, place: int, command: Sequence[str]) -> None:
        """Raises OSError."""
        output = open_log(self._logs[place])
        try:
            self._started[place] = subprocess.Popen(  # noqa: S603  (our own command, put together by app.py)
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        finally:
            os.close(output)
        log.info("media node started", place=place, pid=self._started[place].pid, log=str(self._logs[place]))
