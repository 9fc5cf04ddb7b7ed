"""docker/compose.yaml as a project of this run's own: built, started, called, its services restarted; ended with its volumes."""

import asyncio
import json
import subprocess
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from bridge.testing.ports import free_port
from tests.real.docker.engine import Engine

DOCKER = Path(__file__).parents[3] / "docker"

READY_WITHIN = 120

_CURL = """\
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=3)
except urllib.error.HTTPError as error:
    answer = error
print(answer.read().decode())
"""


@dataclass(frozen=True)
class CallOf:
    """A call under way in a container of its own."""

    process: "subprocess.Popen[bytes]"
    log: Path

    async def says(self, text: str, within: float = 40.0) -> None:
        """Returns once its story has these words. Raises AssertionError with the story."""
        deadline = time.monotonic() + within
        while text not in (story := self.story()):
            assert self.process.poll() is None, story
            assert time.monotonic() < deadline, f"not heard within {within} s: {text}\n{story}"
            await asyncio.sleep(0.1)

    async def told(self, within: float = 120.0) -> "Story":
        deadline = time.monotonic() + within
        while (status := self.process.poll()) is None:
            assert time.monotonic() < deadline, f"still under way after {within} s:\n{self.story()}"
            await asyncio.sleep(0.1)
        lines = [line for line in self.story().splitlines() if line.startswith('{"ok"')]
        assert lines, f"ended with {status}:\n{self.story()}"
        return Story(status, json.loads(lines[-1]), self.story())

    def story(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass(frozen=True)
class Story:
    """What became of a call: the program's exit status, its JSON, its words."""

    status: int
    told: Mapping[str, Any]
    text: str

    @property
    def outcome(self) -> str:
        return str(self.told["outcome"])

    def heard(self, what: str) -> float:
        """For how many seconds in all."""
        return float(sum(part["until"] - part["since"] for part in self.told["heard"] if part["what"] == what))

    def order(self, *what: str) -> list[str]:
        """These sounds in the order in which they were heard, each as often as it came anew."""
        kinds = [part["what"] for part in self.told["heard"] if part["what"] in what]
        return [kind for place, kind in enumerate(kinds) if place == 0 or kinds[place - 1] != kind]

    def longest_without(self, *what: str) -> float:
        """Seconds: the longest stretch of anything else between the first and the last of these."""
        parts = [part for part in self.told["heard"] if part["what"] in what]
        longest = float(max((later["since"] - earlier["until"] for earlier, later in pairwise(parts)), default=0.0))
        print(f"the longest stretch without {', '.join(what)}: {longest:.1f} s")  # for docs/docker.md
        return longest


@dataclass(frozen=True)
class Rights:
    """What the process of a container may do, and who reaches it."""

    root: bool
    capabilities: int
    may_get_more: bool
    writes_to_its_root: bool
    published_at: Set[str]
    health: str


UNPUBLISHED = Rights(
    root=False, capabilities=0, may_get_more=False, writes_to_its_root=False, published_at=frozenset[str](), health="healthy"
)
PUBLISHED_HERE = replace(UNPUBLISHED, published_at=frozenset({"127.0.0.1"}))
"""As docker/compose.yaml promises it of every service."""


class Composition:
    """`profiles` as docker/environment chooses them; ports and secrets are this run's own."""

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        name: str,
        images: Mapping[str, str],
        options: Sequence[str] = (),
        *,
        files: Sequence[str] = ("compose.yaml",),
    ) -> None:
        self._files = files
        self.engine = engine
        self._folder = folder
        self.name = name
        self._calls: list[CallOf] = []
        self.file = folder / f"{name}.env"
        subprocess.run([DOCKER / "environment", *options, "--to", self.file], check=True, capture_output=True, timeout=30)
        first = 2 * (free_port() // 2)
        ports = {
            key: free_port() for key in ("API_PORT", "SIP_PORT", "LIVEKIT_PORT", "LIVEKIT_TCP_PORT", "LIVEKIT_UDP_PORT", "CARRIER_PORT")
        }
        settings = {**ports, "RTP_PORTS": f"{first + 10_000}-{first + 10_019}", **images}
        with self.file.open("a") as file:
            file.writelines(f"{key}={value}\n" for key, value in settings.items())

    def settings(self) -> dict[str, str]:
        """What stands in its .env."""
        lines = self.file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def compose(self, *arguments: str, timeout: float = 180.0, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self.engine.docker(*self._words(), *arguments, timeout=timeout, check=check)

    def build(self) -> None:
        self.compose("--profile", "*", "build", "-q", "roomline", "asterisk", "carrier", timeout=1200)

    def up(self, *more: Path) -> None:
        """Returns once every service says that it is healthy. Compose gives up on one that is not so yet: Roomline, say, whose node was
        away until now, has its next look at itself in some seconds. `more`: compose files that count this time."""
        files = [word for path in more for word in ("-f", str(path))]
        words = (*files, "up", "-d", "--no-build", "--wait", "--wait-timeout", str(READY_WITHIN))
        for _ in range(3):
            if self.compose(*words, timeout=READY_WITHIN + 60, check=False).returncode == 0:
                return
            time.sleep(6)
        self.compose(*words, timeout=READY_WITHIN + 60)

    def down(self, *, volumes: bool = False) -> None:
        self.end_calls()
        # A node waits for its last call; here nobody calls any more.
        self.compose("--profile", "*", "down", "-t", "5", "--remove-orphans", *(["--volumes"] if volumes else []), check=False)

    def restart(self, service: str) -> None:
        """As somebody does who does not wait."""
        self.compose("restart", "-t", "1", service)

    def roomline(self, *arguments: str, check: bool = True) -> str:
        return self.compose("exec", "-T", "roomline", "roomline", *arguments, check=check).stdout

    def carrier(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.compose(*self._run(), *arguments, check=False)

    async def call(self, number: str, *arguments: str) -> CallOf:
        """Begin a call that tells its story."""
        words = ["docker", *self._words(), *self._run(), "call", number, "--json", *arguments]
        log = self._folder / f"call-{len(self._calls) + 1}.log"
        with log.open("wb") as output:
            process = await asyncio.to_thread(
                subprocess.Popen, words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(self.engine.environ)
            )
        self._calls.append(CallOf(process, log))
        return self._calls[-1]

    async def whole_call(self, number: str, *arguments: str) -> Story:
        return await (await self.call(number, *arguments)).told()

    def end_calls(self) -> None:
        """Those that a test has left behind: asked to end, so that their containers go with them."""
        left = [call.process for call in self._calls if call.process.poll() is None]
        for process in left:
            process.terminate()
        for process in left:
            process.wait(30)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of each service's container."""
        ids = self.compose("ps", "-q").stdout.split()
        found = json.loads(self.engine.docker("inspect", *ids).stdout) if ids else []
        return {container["Config"]["Labels"]["com.docker.compose.service"]: container for container in found}

    def http(self, path: str) -> str:
        """As curl from the server's own host: what it says, whatever the status."""
        return self.compose("exec", "-T", "roomline", "python", "-c", _CURL, f"http://127.0.0.1:8881{path}").stdout

    def rights(self) -> dict[str, Rights]:
        """What each container's first process has, as the kernel tells it from inside; and what it is published at."""
        return {service: self._rights(service, container) for service, container in self.containers().items()}

    def _rights(self, service: str, container: Mapping[str, Any]) -> Rights:
        script = "cat /proc/1/status; if touch /written; then echo Written: yes; fi"
        lines = self.compose("exec", "-T", service, "sh", "-c", script, check=False).stdout.splitlines()
        status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        bindings = [binding for each in container["HostConfig"]["PortBindings"].values() for binding in each]
        return Rights(
            root="0" in status["Uid"],
            capabilities=int(status["CapEff"][0], 16),
            may_get_more=status["NoNewPrivs"] != ["1"],
            writes_to_its_root="Written" in status,
            published_at={binding["HostIp"] for binding in bindings},
            health=container["State"]["Health"]["Status"],
        )

    def _words(self) -> list[str]:
        files = [word for name in self._files for word in ("-f", str(DOCKER / name))]
        return ["compose", *files, "--env-file", str(self.file), "-p", self.name]

    @staticmethod
    def _run() -> list[str]:
        return ["run", "--rm", "-T", "--no-deps", "carrier"]
