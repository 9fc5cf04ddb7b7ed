"""A process that belongs to us: started with its output in a file, stopped by its own id, never outliving its parent.

Used for both Asterisks and for Roomline's server; what they are is their own modules' business.
"""

import asyncio
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.testing.priority import has_started

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded before a fork: dlopen between fork and exec may dead-lock


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """`async with Child(command, log=…)`; signals go to this process alone. Its standard output and error are appended to `log`."""

    def __init__(self, command: Sequence[str], *, log: Path, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
        self._command = tuple(command)
        self._environ = dict(os.environ if environ is None else environ)
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.log = log

    async def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environ,
                cwd=self._folder,
                # A session of its own: Ctrl-C on the terminal reaches us alone, and we end it in order.
                start_new_session=True,
                # Between fork and exec it calls one C function that was loaded beforehand, and takes no lock.
                preexec_fn=_die_with_parent,
            )
        has_started(self._process.pid)

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """None while it runs (or has not been started)."""
        return None if self._process is None else self._process.returncode

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def wait(self) -> int:
        return await self._started().wait()

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT, SIGKILL, …; nothing if it has ended."""
        if self.running:
            self._started().send_signal(number)

    async def stop(self, patience: float = 5.0) -> None:
        """SIGTERM, and SIGKILL when that does not end it within `patience` seconds. Idempotent; works on a frozen process too."""
        if self._process is None:
            return
        try:
            self.send(signal.SIGTERM)
            self.send(signal.SIGCONT)
            async with asyncio.timeout(patience):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL, at once. Idempotent."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            await asyncio.shield(self._process.wait())

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self._command[0]} has not been started")
        return self._process
