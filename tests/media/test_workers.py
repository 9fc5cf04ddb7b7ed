"""Workers are started when they are missing, given up when they do not answer, and left alone when they are there."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import bridge.media.workers
from bridge.media.node import InProcessNode, NodeOptions
from bridge.media.node_server import NodeServer
from bridge.media.port import NodeLoad
from bridge.media.workers import Workers
from bridge.rooms.local import LocalRooms
from tests.media.test_node import CLIPS
from tests.media.test_remote import eventually

NODE = """
import asyncio, sys
from pathlib import Path
from bridge.media.node import InProcessNode, NodeOptions
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
    workers = Workers([path], start, tmp_path / "log")
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
    workers = Workers([tmp_path / "node.sock"], start, tmp_path / "log")
    async with running(workers):
        await eventually(lambda: len(start.places) >= 2)
        await asyncio.sleep(0.6)
        assert len(start.places) <= 4
    assert workers.load().lost
    assert "the port is in use" in log(tmp_path)


async def test_given_services_of_the_operators_then_nothing_is_started(tmp_path: Path) -> None:
    workers = Workers([tmp_path / "node.sock"], None)
    async with running(workers):
        await asyncio.sleep(0.6)
        assert workers.started() == []
        assert workers.load() == NodeLoad(calls=0, room_for=0, lost=True)


def log(folder: Path) -> str:
    return (folder / "log").read_text()
