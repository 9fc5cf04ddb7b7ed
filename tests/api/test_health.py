"""What probes and Prometheus are told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.core import Metric

from bridge.api import node_figures
from bridge.api.health import Health, serve_health
from bridge.api.node_figures import NodeFigures
from bridge.errors import ConfigurationError
from bridge.media.figures import Figures
from bridge.media.port import NodeLoad
from bridge.pbx.port import PbxHealth


@dataclass
class Pbx:
    name: str = "hq"
    connected: bool = True

    async def health(self) -> PbxHealth:
        return PbxHealth(self.connected, "7.0", "" if self.connected else "the AMI at 127.0.0.1:5038 cannot be reached")


def answering() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Node:
    room_for: int = 10
    figures: Figures = field(default_factory=Figures)
    answers: asyncio.Event = field(default_factory=answering)

    async def metrics(self) -> Sequence[Metric]:
        await self.answers.wait()
        return list(self.figures.collect())

    def load(self) -> NodeLoad:
        return NodeLoad(calls=2, room_for=self.room_for)


@dataclass
class Store:
    trouble: str = ""


@dataclass
class Calls:
    live: int = 2


@dataclass
class World:
    pbx: Pbx
    node: Node
    store: Store
    url: str


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    pbx, node, store = Pbx(), Node(), Store()
    node.figures.frames_missing = 7
    async with serve_health(Health([pbx], node, Calls(), store), NodeFigures({"0": node}), "127.0.0.1", 0) as port:
        yield World(pbx, node, store, f"http://127.0.0.1:{port}")


async def ask(world: World, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(world.url + path) as answer:
        return answer.status, await answer.text()


async def test_given_a_server_that_runs_then_it_is_alive_whatever_the_pbx(world: World) -> None:
    world.pbx.connected = False
    assert await ask(world, "/healthz") == (200, "OK\n")


async def test_given_pbx_and_room_for_more_then_it_is_ready(world: World) -> None:
    status, body = await ask(world, "/readyz")
    assert status == 200
    assert '"ready": true' in body


@pytest.mark.parametrize("what", ["pbx", "node"])
async def test_given_no_pbx_or_no_room_then_it_is_not_ready_and_says_why(world: World, what: str) -> None:
    if what == "pbx":
        world.pbx.connected = False
    else:
        world.node.room_for = 0
    status, body = await ask(world, "/readyz")
    assert status == 503
    assert ("cannot be reached" if what == "pbx" else '"room_for": 0') in body


async def test_given_a_store_that_is_away_then_calls_can_be_taken_and_it_is_said(world: World) -> None:
    world.store.trouble = "the store redis://127.0.0.1:6379/0 cannot be reached"
    status, body = await ask(world, "/readyz")
    assert status == 200
    assert '"store": {"current": false, "detail": "the store redis://127.0.0.1:6379/0 cannot be reached"}' in body


async def test_given_a_scrape_then_the_figures_are_in_prometheus_words(world: World) -> None:
    status, body = await ask(world, "/metrics")
    assert status == 200
    lines = body.splitlines()
    for line in (
        "roomline_calls_active 2.0",
        "roomline_media_room 10.0",
        'roomline_node_up{node="0"} 1.0',
        'roomline_node_calls{node="0"} 2.0',
        'roomline_media_frames_missing_total{node="0"} 7.0',
        'roomline_media_beat_lateness_seconds_bucket{le="0.005",node="0"} 0.0',
    ):
        assert line in lines, line
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
    assert "# TYPE roomline_media_beat_lateness_seconds histogram" in lines


async def test_given_a_node_that_hangs_then_a_scrape_says_so_and_does_not_wait_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_figures, "PATIENCE", 0.05)
    world.node.answers.clear()
    status, body = await ask(world, "/metrics")
    assert status == 200
    assert 'roomline_node_up{node="0"} 0.0' in body.splitlines()
    assert "roomline_media_frames_missing_total" not in body
    world.node.answers.set()
    _, body = await ask(world, "/metrics")
    assert 'roomline_node_up{node="0"} 1.0' in body.splitlines()


async def test_given_several_nodes_then_each_family_is_there_once_with_all_of_them() -> None:
    first, second = Node(), Node()
    first.figures.beats, second.figures.beats = 3, 4
    figures = NodeFigures({"0": first, "1": second})
    async with serve_health(Health([], first, Calls(), Store()), figures, "127.0.0.1", 0) as port:
        _, body = await ask(World(Pbx(), first, Store(), f"http://127.0.0.1:{port}"), "/metrics")
    assert body.count("# TYPE roomline_media_beats_total counter") == 1
    assert {'roomline_media_beats_total{node="0"} 3.0', 'roomline_media_beats_total{node="1"} 4.0'} <= set(body.splitlines())


async def test_given_another_path_then_it_is_not_found(world: World) -> None:
    assert (await ask(world, "/"))[0] == 404


async def test_given_an_address_in_use_then_the_error_names_it(world: World) -> None:
    port = int(world.url.rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=f"http.listen: 127.0.0.1:{port} cannot be had"):
        async with serve_health(Health([], Node(), Calls(), Store()), NodeFigures({}), "127.0.0.1", port):
            pass
