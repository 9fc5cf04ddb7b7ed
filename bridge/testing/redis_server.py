"""A real Redis on loopback: the one that is installed, or Debian's unpacked into the cache folder; started, killed and started again over
the same data.

async with RedisServer(folder) as redis:
    ...  # redis.url is what an operator writes under `store`
"""

import asyncio
import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from redis import Redis
from redis.exceptions import RedisError

from bridge.errors import RoomlineError
from bridge.testing.cache import Progress, cache_folder
from bridge.testing.child import Child
from bridge.testing.ports import LOOPBACK, free_port
from bridge.testing.unpacked import CannotUnpack, Program, loader_command, unpacked

_READY_WITHIN: Final = 10.0


class NoRedis(RoomlineError):  # noqa: N818  (a state of this machine; the text says what to do)
    """No Redis can be had here."""


_REDIS: Final = Program(
    name="Redis",
    key="redis-1",
    packages=("redis-server",),
    oldest_major=6,
    needed=re.compile(
        r"redis-server|redis-tools|libc6|libgcc-s1|libstdc\+\+6|libjemalloc2|liblua5.1-0|liblzf1|libsystemd0|libssl3.*|libcap2|libatomic1"
    ),
    objects=("usr/bin/redis-server",),
)


def get_redis_server(progress: Progress = lambda line: None, *, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What starts it. The first of: `redis-server` or `valkey-server` on PATH, one in the cache, one unpacked now, which takes some
    seconds. Raises NoRedis, whose text says what to do."""
    path = environ.get("PATH", os.defpath)
    if found := shutil.which("redis-server", path=path) or shutil.which("valkey-server", path=path):
        return (found,)
    try:
        return loader_command(unpacked(_REDIS, cache_folder(environ), progress), "usr/bin/redis-server", "redis-server")
    except CannotUnpack as error:
        raise NoRedis(f"{error}; or install it (apt install redis-server)") from error


class RedisServer:
    """`async with RedisServer(folder)`: ready, with a password, everything it is told on disk before it answers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: Child | None = None
        self.port = free_port()
        self.password = secrets.token_urlsafe(16)

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{self.address}/0"

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("Redis has not been started")
        return self._child

    def client(self) -> "Redis":
        """The library's own blocking client. To be closed."""
        return Redis.from_url(self.url)

    async def start(self) -> None:
        """Returns once it answers. Raises NoRedis with its last words."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"bind {LOOPBACK}\nport {self.port}\nrequirepass {self.password}\ndir {self._folder}\n"
            'save ""\nappendonly yes\nappendfsync always\ndaemonize no\n'
        )
        self._child = Child([*await asyncio.to_thread(get_redis_server), str(config)], log=self._folder / "redis.log", folder=self._folder)
        await self._child.start()
        deadline = time.monotonic() + _READY_WITHIN
        while not await asyncio.to_thread(self._answers):
            if not self._child.running or time.monotonic() > deadline:
                await self._child.kill()
                raise NoRedis("Redis does not start:\n" + "\n".join(self._child.output().splitlines()[-8:]))
            await asyncio.sleep(0.02)

    def _answers(self) -> bool:
        client = self.client()
        try:
            return bool(client.ping())
        except RedisError:
            return False
        finally:
            client.close()

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop(patience=2.0)

    async def kill(self) -> None:
        await self.child.kill()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()
