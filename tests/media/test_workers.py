"""Workers are started when they are missing, given up when they do not answer, and left alone when they are there."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

import bridge.media.workers
from bridge.errors import Superseded
from bridge.media.node import InProcessNode
from bridge.media.node_server import NodeServer
from bridge.media.options import NodeOptions
from bridge.media.port import NodeLoad
from bridge.media.workers import Workers
from bridge.rooms.local import LocalRooms
from tests.media.test_node import CLIPS
from tests.media.test_remote import eventually

NODE = """
import asyncio, sys
from pathlib import Path
from bridge.media.node import InProcessNode
from bridge.media.options import NodeOptions
from bridge.media.node_server import NodeServer
from bridge.rooms.local import LocalRooms
from tests.media.test_node import CLIPS

async def main():
    async with InProcessNode(NodeOptions(port=0), LocalRooms(), CLIPS) as node, NodeServer(node, Path(sys.argv[1])):
        await asyncio.sleep(30)

asyncio.run(main())
"""


class Starter:
    """A command, and how often it was asked for."""

    def __init__(self, *command: str) -> None:
        self.command = command
        self.places: list[int] = []

    def __call__(self, place: int) -> Sequence[str]:
        self.places.append(place)
        return self.command


@asynccontextmanager
async def running(workers: Workers) -> AsyncIterator[None]:
    task = asyncio.create_task(workers.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for process in workers.started():
            process.kill()
            process.wait()


async def test_given_a_node_that_is_there_then_none_is_started(tmp_path: Path) -> None:
    start = Starter("false")
    async with InProcessNode(NodeOptions(port=0, max_calls=7), LocalRooms(), CLIPS) as node, NodeServer(node, tmp_path / "node.sock"):
        workers = Workers([tmp_path / "node.sock"], start)
        async with running(workers):
            await eventually(lambda: workers.load() == NodeLoad(calls=0, room_for=7))
            await asyncio.sleep(0.5)
            assert start.places == []


async def test_given_no_node_then_one_is_started_and_when_it_dies_another(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    start = Starter(sys.executable, "-c", NODE, str(path))
    workers = Workers([path], start)
    async with running(workers):
        await eventually(lambda: not workers.load().lost)
        (process,) = workers.started()
        process.kill()
        await eventually(lambda: len(start.places) == 2)
        await eventually(lambda: not workers.load().lost)
        assert [each.poll() for each in workers.started()] == [None]


async def test_given_a_node_that_cannot_start_then_it_is_not_tried_in_a_storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.media.workers, "RESTART_PAUSE", 0.5)
    start = Starter(sys.executable, "-c", "raise SystemExit('the port is in use')")
    workers = Workers([tmp_path / "node.sock"], start)
    async with running(workers):
        await eventually(lambda: len(start.places) >= 2)
        await asyncio.sleep(0.6)
        assert len(start.places) <= 4
    assert workers.load().lost
    assert "the port is in use" in (tmp_path / "node.log").read_text()


async def test_given_no_node_then_nobody_waits_for_it_for_ever_and_one_that_is_there_is_seen_at_once(tmp_path: Path) -> None:
    workers = Workers([tmp_path / "node.sock"], None)
    async with running(workers):
        assert not await workers.first_there(0.2)
        async with InProcessNode(NodeOptions(port=0), LocalRooms(), CLIPS) as node, NodeServer(node, tmp_path / "node.sock"):
            assert await workers.first_there(5.0)


async def test_given_services_of_the_operators_then_nothing_is_started(tmp_path: Path) -> None:
    workers = Workers([tmp_path / "node.sock"], None)
    async with running(workers):
        await asyncio.sleep(0.6)
        assert workers.started() == []
        assert workers.load() == NodeLoad(calls=0, room_for=0, lost=True)


async def test_given_a_newer_controller_then_the_older_one_neither_starts_nor_ends_a_worker_any_more(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    start = Starter(sys.executable, "-c", NODE, str(path))
    older, newer = Workers([path], start), Workers([path], start)
    async with running(older):
        await eventually(lambda: not older.load().lost)
        (process,) = older.started()
        async with running(newer):
            await eventually(lambda: not newer.load().lost)
            await asyncio.sleep(0.5)
            assert process.poll() is None
            assert newer.started() == []
            process.kill()
            await eventually(lambda: len(newer.started()) == 1 and not newer.load().lost)
        await asyncio.sleep(0.3)
        assert start.places == [0, 0], "the first one's, and the newer one's when that had died"


async def test_given_a_controller_that_has_lost_every_node_to_a_newer_one_then_it_ends_with_that(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    async with contextlib.AsyncExitStack() as stack:
        for path in paths:
            node = await stack.enter_async_context(InProcessNode(NodeOptions(port=0), LocalRooms(), CLIPS))
            await stack.enter_async_context(NodeServer(node, path))
        older = Workers(paths, Starter("false"))
        ending = asyncio.create_task(older.run())
        await eventually(lambda: not older.load().lost)
        async with running(Workers(paths[:1], None)):
            await asyncio.sleep(0.3)
            assert not ending.done(), "one is left to it"
        async with running(Workers(paths, None)):
            with pytest.raises(Superseded, match="newer controller"):
                await asyncio.wait_for(ending, 5)


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that a server before ours has started."""
    process = subprocess.Popen([sys.executable, "-c", NODE, str(tmp_path / "node.sock")])
    yield process
    process.kill()
    process.wait()


async def test_given_an_earlier_servers_worker_when_it_freezes_then_it_is_ended_and_another_started(
    tmp_path: Path, earlier: "subprocess.Popen[bytes]"
) -> None:
    path = tmp_path / "node.sock"
    await eventually(path.exists)
    start = Starter(sys.executable, "-c", NODE, str(path))
    workers = Workers([path], start)
    async with running(workers):
        await eventually(lambda: not workers.load().lost)
        assert start.places == []
        earlier.send_signal(signal.SIGSTOP)
        await eventually(lambda: workers.load().lost)
        await eventually(lambda: not workers.load().lost)
        assert earlier.wait() == -signal.SIGKILL
        assert start.places == [0]


async def test_given_a_worker_then_its_log_is_a_file_of_its_own_and_no_pipe_of_the_servers(tmp_path: Path) -> None:
    """A collector that reads no more of the server's output would stop whoever writes into the same pipe."""
    start = Starter("sh", "-c", "readlink /proc/$$/fd/1 /proc/$$/fd/2; echo its last words >&2")
    workers, path = Workers([tmp_path / "run" / "node-0.sock"], start), tmp_path / "run" / "node-0.log"
    async with running(workers):
        await eventually(lambda: path.exists() and "its last words" in path.read_text(), within=20)
    assert path.read_text().splitlines()[:3] == [str(path), str(path), "its last words"]
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("failure", ["no such program", "no log"])
async def test_given_a_worker_that_cannot_be_started_then_it_is_tried_again_and_the_server_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    monkeypatch.setattr(bridge.media.workers, "RESTART_PAUSE", 0.2)
    path = tmp_path / "run" / "node.sock"
    start = Starter(str(tmp_path / "no-such-program") if failure == "no such program" else sys.executable, "-c", NODE, str(path))
    if failure == "no log":
        (tmp_path / "run" / "node.log").mkdir(parents=True)
    workers = Workers([path], start)
    async with running(workers):
        with structlog.testing.capture_logs() as logs:
            await eventually(lambda: len(start.places) >= 3, within=20)
        assert {line["event"] for line in logs if line["log_level"] == "error"} == {"a media node could not be started: it is tried again"}
        start.command = (sys.executable, "-c", NODE, str(path))
        if failure == "no log":
            (tmp_path / "run" / "node.log").rmdir()
        await eventually(lambda: not workers.load().lost, within=20)
