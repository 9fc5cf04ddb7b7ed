"""The nodes that run as processes of their own, as the server sees them: connected to, and started when they are missing.

A worker is nobody's child in spirit: it has a session of its own, writes into no pipe of ours, and goes on when we end. Where the operator
runs nodes as services, nothing is started here.
"""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from bridge.media.port import NodeLoad
from bridge.media.remote import RemoteNode, RemoteNodeOptions

log = structlog.get_logger(__name__)

START_PATIENCE = 10.0
"""Seconds that a worker gets to open its socket before another one is started in its place."""

RESTART_PAUSE = 2.0
"""Seconds before one that ended without ever having answered is started anew: its log says why."""

FIRST_LOOK = 0.3
"""Seconds that one gets which may be there already."""

_LOOK_EVERY = 0.05


class Workers:
    """One remote node for each socket. `start` is the command that starts the node of that place; without it none are started."""

    def __init__(self, sockets: Sequence[Path], start: Callable[[int], Sequence[str]] | None, log_file: Path | None = None) -> None:
        self.nodes = [RemoteNode(RemoteNodeOptions(path)) for path in sockets]
        self._start = start
        self._log_file = log_file
        self._started: dict[int, subprocess.Popen[bytes]] = {}

    async def run(self) -> None:
        """Keep the connections, and the workers alive, until cancelled. The workers stay."""
        async with asyncio.TaskGroup() as group:
            for place, node in enumerate(self.nodes):
                group.create_task(node.run())
                if self._start is not None:
                    group.create_task(self._keep_alive(place, node, self._start))

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
        """Whoever is there already, an earlier server's worker or a service, gets a moment to answer. One that we have started and that
        has answered before is given up at once: it does not answer pings, and its calls need another."""
        waited, answered = 0.0, False
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if node.connected:
                waited, answered = 0.0, True
                continue
            waited += _LOOK_EVERY
            process = self._started.get(place)
            if process is not None and process.poll() is None:
                if not answered and waited <= START_PATIENCE:
                    continue
                log.warning("a media node does not answer: it is ended, and started anew", place=place, pid=process.pid)
                process.kill()
            elif not answered and waited <= (RESTART_PAUSE if process is not None else FIRST_LOOK):
                continue
            await asyncio.to_thread(self._begin, place, start(place))
            waited, answered = 0.0, False

    def _begin(self, place: int, command: Sequence[str]) -> None:
        before = self._started.get(place)
        if before is not None:
            before.wait()
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self._log_file.open("ab")) if self._log_file is not None else None
            self._started[place] = subprocess.Popen(  # noqa: S603  (our own command, put together by app.py)
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        log.info("media node started", place=place, pid=self._started[place].pid)
