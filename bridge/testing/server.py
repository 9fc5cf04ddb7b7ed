"""Roomline's server as a process of its own, as an operator runs it: started, watched, frozen, killed and started again.

What it is configured with is `stack`'s business, what it does the tests'.
"""

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from bridge.errors import RoomlineError
from bridge.model.record import CallRecord
from bridge.testing.child import Child
from bridge.testing.priority import behind_others

_READY_WITHIN, _GONE_WITHIN = 45.0, 10.0
"""Seconds. It takes one to three; but who starts stands back, and several that start on a full machine take their time."""


class ServerFailed(RoomlineError):  # noqa: N818  (the text is the log's last lines)
    """The server ended or did not get ready."""


class Commanded(Protocol):
    """What the server takes over."""

    async def controller(self) -> str:
        """Which one it heard last; empty for none."""


class Server:
    """`async with Server(config, store, pbx, log)`: `python -m bridge serve`, ready once it commands the PBX."""

    def __init__(self, config: Path, store: Path, pbx: Commanded, log: Path, program: Sequence[str] = ()) -> None:
        """`program` is the `roomline` command of another installation; without it this one's."""
        self._program = program
        self.config = config
        self.store = store
        self.log = log
        self._pbx = pbx
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("the server has not been started")
        return self._child

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int:
        return self.child.pid

    async def start(self) -> None:
        """Returns once its heart beats in the PBX. Raises ServerFailed with its last words. A second start appends to the same log. Where
        another one has commanded the PBX before, its callers wait for this one, which then stands back behind nobody."""
        before = await self._controller()
        with contextlib.nullcontext() if before else behind_others():
            await self._start(before)

    async def _start(self, before: str) -> None:
        command = [*(self._program or (sys.executable, "-m", "bridge")), "serve", "--config", str(self.config)]
        # The file alone configures it: no ROOMLINE_… of whoever runs the tests; and another installation finds no modules of this one.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ROOMLINE_")}
        if self._program:
            environ.pop("PYTHONPATH", None)
        self._child = Child(command, log=self.log, folder=self.config.parent, environ=environ)
        try:
            await self._child.start()
            deadline = time.monotonic() + _READY_WITHIN
            while await self._controller() in ("", before):
                if not self._child.running:
                    raise ServerFailed(f"the server ended with status {self._child.returncode}:\n{self._last_lines()}")
                if time.monotonic() > deadline:
                    raise ServerFailed(f"the server did not take the PBX within {_READY_WITHIN:.0f} s:\n{self._last_lines()}")
                await asyncio.sleep(0.05)
        except BaseException:
            await self._child.kill()
            raise

    async def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait; idempotent. Its workers stay."""
        if self._child is not None:
            await self._child.stop(patience=15.0)

    def workers(self) -> list[int]:
        """The process ids of the media nodes that it, or one before it, has started."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue  # ended while we looked
                if b"node" in words and str(self.config).encode() in words:
                    found.append(int(entry.name))
        return sorted(found)

    async def end_workers(self) -> None:
        """SIGKILL: they would go on with their calls for a while otherwise. Returns when they are gone. Raises TimeoutError."""
        async with asyncio.timeout(_GONE_WITHIN):
            while workers := self.workers():
                for pid in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """SIGKILL: the death that no process can prepare for."""
        await self.child.kill()

    def freeze(self) -> None:
        """SIGSTOP: alive, with its sockets open, and silent."""
        self.child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send(signal.SIGCONT)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def open_files(self) -> Counter[str]:
        """How many of each it holds: `socket`, `anon_inode:[eventpoll]`, the paths of files."""
        found: Counter[str] = Counter()
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                found[re.sub(r"^(socket|pipe):.*", r"\1", str(entry.readlink()))] += 1
            except FileNotFoundError:
                continue  # closed while we looked
        return found

    def cpu_seconds(self) -> float:
        """User and system time it has used so far (proc(5): fields 14 and 15 of stat)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def call_records(self) -> list[CallRecord]:
        """What is kept of ended calls, the oldest first. Readable whether the server runs or not."""
        if not self.store.exists():
            return []
        connection = sqlite3.connect(self.store, timeout=5.0)
        try:
            rows = connection.execute("SELECT record FROM calls ORDER BY ended_at, rowid").fetchall()
        finally:
            connection.close()
        return [CallRecord.model_validate_json(text) for (text,) in rows]

    async def call_record(self, number: str, within: float = 5.0) -> CallRecord:
        """The one record of the call from this number, waited for: it is written after the caller has heard the end. Raises
        AssertionError when there is none, or more than one."""
        deadline = time.monotonic() + within
        while not (found := [record for record in self.call_records() if record.number == number]):
            assert time.monotonic() < deadline, f"no record of the call from {number} within {within} s"  # noqa: S101  (for tests)
            await asyncio.sleep(0.05)
        assert len(found) == 1, f"{len(found)} records of calls from {number}"  # noqa: S101  (for tests)
        return found[0]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def _controller(self) -> str:
        """Which controller the PBX heard last."""
        return await self._pbx.controller()

    def _last_lines(self) -> str:
        return "\n".join(self.child.output().splitlines()[-15:]) + f"\n(all of it: {self.log})"
