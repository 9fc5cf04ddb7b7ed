"""A real LiveKit server on loopback: the one that is installed, or one built from its public source with Go into the cache.

async with LiveKitServer(await asyncio.to_thread(get_livekit_server), folder) as livekit:
    ...  # livekit.rooms() is what an operator writes under `rooms`
"""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import yaml
from livekit.api import LiveKitAPI

from bridge.errors import RoomlineError
from bridge.rooms.options import LiveKitAccess
from bridge.testing.cache import Progress, cache_folder, lock
from bridge.testing.child import Child
from bridge.testing.ports import LOOPBACK, free_port
from bridge.testing.redis_server import RedisServer

VERSION: Final = "1.13.5"
_MODULE = f"github.com/livekit/livekit-server/cmd/server@v{VERSION}"
_BUILT_WITHIN = 900.0
_READY_WITHIN = 15.0


class NoLiveKit(RoomlineError):  # noqa: N818  (a state of this machine; the text says what to do)
    """No LiveKit server can be had here."""


def get_livekit_server(progress: Progress = lambda line: None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """The first of: the binary that LIVEKIT_SERVER names, `livekit-server` on PATH, one in the cache, one built now.

    Blocks for some minutes when it has to build: call it in a thread. Raises `NoLiveKit`, whose text says what to do.
    """
    if named := environ.get("LIVEKIT_SERVER"):
        if not os.access(named, os.X_OK):
            raise NoLiveKit(f"LIVEKIT_SERVER names {named}, which cannot be run")
        return Path(named)
    if found := shutil.which("livekit-server", path=environ.get("PATH", os.defpath)):
        return Path(found)
    binary = cache_folder(environ) / f"livekit-server-{VERSION}-{os.uname().machine}"
    if not binary.is_file():
        with lock(cache_folder(environ) / "livekit.lock", "LiveKit", progress):
            if not binary.is_file():
                _build(binary, environ, progress)
    return binary


def _build(binary: Path, environ: Mapping[str, str], progress: Progress) -> None:
    """Into a temporary folder, then renamed: the binary is whole or not there."""
    go = shutil.which("go", path=f"{environ.get('PATH', os.defpath)}:/usr/local/go/bin")
    if go is None:
        raise NoLiveKit("no livekit-server on PATH, and no Go to build one with: install either, or name one with LIVEKIT_SERVER=PATH")
    progress(f"building LiveKit's server {VERSION} with Go (two to four minutes, once)")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="livekit-build-", dir=binary.parent) as work:
        try:
            built = subprocess.run(
                [go, "install", _MODULE],
                env={**environ, "GOBIN": work, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"},
                capture_output=True,
                text=True,
                timeout=_BUILT_WITHIN,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoLiveKit(f"LiveKit's server was not built within {_BUILT_WITHIN:.0f} s") from None
        if built.returncode:
            last = (built.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise NoLiveKit(f"LiveKit's server could not be built: {last}")
        (Path(work) / "server").rename(binary)
    progress(f"LiveKit's server built in {time.monotonic() - began:.0f} s")


class LiveKitServer:
    """`async with LiveKitServer(binary, folder)`: ready to be joined; killed, frozen and started again at the same address."""

    def __init__(self, binary: Path, folder: Path, redis: RedisServer | None = None) -> None:
        """Its API for SIP needs a Redis; rooms do not."""
        self._binary = binary
        self._folder = folder
        self._redis = redis
        self._child: Child | None = None
        self.port = free_port()
        self.media_port = free_port()
        self.key = f"API{secrets.token_hex(6)}"
        self.secret = secrets.token_urlsafe(32)

    @property
    def url(self) -> str:
        return f"ws://{LOOPBACK}:{self.port}"

    @property
    def access(self) -> LiveKitAccess:
        return LiveKitAccess(self.url, self.key, self.secret)

    def rooms(self) -> dict[str, Any]:
        """What stands under `rooms` in roomline.yaml, its secret in a file of its own."""
        return {"kind": "livekit", "url": self.url, "key": self.key, "secret": {"file": str(self._folder / "livekit.secret")}}

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("LiveKit has not been started")
        return self._child

    async def start(self) -> None:
        """Returns once it answers. Raises NoLiveKit with its last words."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("livekit.yaml", yaml.safe_dump(self._configuration())), ("livekit.secret", self.secret)):
            path = self._folder / name
            path.touch(mode=0o600)
            path.write_text(text)
        command = [str(self._binary), "--config", str(self._folder / "livekit.yaml")]
        self._child = Child(command, log=self._folder / "livekit.log", folder=self._folder)
        await self._child.start()
        deadline = time.monotonic() + _READY_WITHIN
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0)) as session:
            while not await self._answers(session):
                if not self._child.running or time.monotonic() > deadline:
                    await self._child.kill()
                    raise NoLiveKit("LiveKit's server does not start:\n" + "\n".join(self._child.output().splitlines()[-8:]))
                await asyncio.sleep(0.05)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"http://{LOOPBACK}:{self.port}/") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _configuration(self) -> dict[str, Any]:
        redis = {"redis": {"address": self._redis.address, "password": self._redis.password}} if self._redis else {}
        return {
            **redis,
            "port": self.port,
            "bind_addresses": [LOOPBACK],
            "keys": {self.key: self.secret},
            "rtc": {
                "udp_port": self.media_port,
                "tcp_port": 0,
                "node_ip": LOOPBACK,
                "use_external_ip": False,
                "enable_loopback_candidate": True,
                "interfaces": {"includes": ["lo"]},
            },
            "logging": {"level": "info", "json": True},
        }

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop(patience=2.0)

    async def kill(self) -> None:
        await self.child.kill()

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open, and nothing answers."""
        self.child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send(signal.SIGCONT)

    def api(self) -> LiveKitAPI:
        """LiveKit's own client, as its operator uses it. To be closed."""
        return LiveKitAPI(self.url, self.key, self.secret)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()
