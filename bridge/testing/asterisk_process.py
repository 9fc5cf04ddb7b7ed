"""One running Asterisk: its own folders and loopback ports, no root, ready when its manager answers, stopped by its own id.

What it is to be (a PBX, a carrier) is in the configuration files it is given.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.errors import RoomlineError, Unavailable
from bridge.testing.ami import Ami
from bridge.testing.child import Child
from bridge.testing.get_asterisk import Asterisk

_READY_WITHIN = 45.0
"""It takes less than a second; a loaded machine or one that reads the files for the first time needs more."""


class AsteriskFailed(RoomlineError):  # noqa: N818  (the text is the log's last lines)
    """The Asterisk ended or did not get ready."""


@dataclass(frozen=True, slots=True)
class Manager:
    """Where an AMI is and how to get in."""

    host: str
    port: int
    user: str
    secret: str

    async def connect(self, *, events: bool = True) -> Ami:
        return await Ami.connect(self.host, self.port, self.user, self.secret, events=events)

    def __repr__(self) -> str:
        return f"Manager({self.host}:{self.port}, user={self.user!r})"


class AsteriskProcess:
    """`async with AsteriskProcess(…)`. `files` are those of its configuration folder, by name; asterisk.conf is made here.

    folder/etc, folder/log, folder/lib stay there for a look afterwards.
    """

    def __init__(self, asterisk: Asterisk, folder: Path, files: Mapping[str, str], manager: Manager) -> None:
        self.folder = folder
        self.manager = manager
        self._asterisk = asterisk
        self._files = files
        self._runtime: Path | None = None
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("this Asterisk has not been started")
        return self._child

    @property
    def log(self) -> Path:
        return self.folder / "log" / "console.log"

    async def start(self) -> None:
        """Returns once its manager answers and all modules are loaded; after a death it starts anew, at the same places. Raises
        AsteriskFailed."""
        await self.stop()
        # Its control socket's whole path must fit into 108 bytes, which the caller's folder may not.
        self._runtime = Path(tempfile.mkdtemp(prefix="roomline-"))
        self._write_configuration(self._runtime)
        command = [*self._asterisk.command, "-f", "-n", "-q", "-C", str(self.folder / "etc" / "asterisk.conf")]
        self._child = Child(command, log=self.log, folder=self.folder)
        try:
            await self._child.start()
            await self._wait_until_ready()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Idempotent."""
        try:
            if self._child is not None:
                await self._child.stop()
        finally:
            if self._runtime is not None:
                shutil.rmtree(self._runtime, ignore_errors=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def _write_configuration(self, runtime: Path) -> None:
        for name in ("etc", "log", "lib/keys", "spool", "agi"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        folders = {
            "astetcdir": self.folder / "etc",
            "astmoddir": self._asterisk.modules,
            "astvarlibdir": self.folder / "lib",
            "astdbdir": self.folder / "lib",
            "astkeydir": self.folder / "lib",
            # The documentation there is part of the program: without it configuration types cannot be registered.
            "astdatadir": self._asterisk.data,
            "astagidir": self.folder / "agi",
            "astspooldir": self.folder / "spool",
            "astrundir": runtime,
            "astlogdir": self.folder / "log",
        }
        lines = [
            "[directories]",
            *(f"{name} => {path}" for name, path in folders.items()),
            "[options]",
            "documentation_language = en",
        ]
        for name, text in {"asterisk.conf": "\n".join(lines) + "\n", **self._files}.items():
            path = self.folder / "etc" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # some hold secrets
            path.write_text(text)

    async def _wait_until_ready(self) -> None:
        try:
            async with asyncio.timeout(_READY_WITHIN):
                while True:
                    if not self.child.running:
                        raise AsteriskFailed(f"Asterisk ended with status {self.child.returncode}:\n{self._last_lines()}")
                    try:
                        async with await self.manager.connect(events=False) as ami:
                            await ami.command("core waitfullybooted")
                            return
                    except Unavailable:
                        await asyncio.sleep(0.05)
        except TimeoutError:
            raise AsteriskFailed(f"Asterisk did not get ready within {_READY_WITHIN:.0f} s:\n{self._last_lines()}") from None

    def _last_lines(self) -> str:
        return "\n".join(self.child.output().splitlines()[-15:]) + f"\n(all of it: {self.log})"
