"""When a node that is a process of its own ends: who started it, what it carries, and who still asks for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from bridge import node_app
from bridge.media.node import InProcessNode
from bridge.media.node_server import NodeServer
from bridge.media.port import NodeLoad

ORPHAN_LIMIT = 10.0


@dataclass
class Node:
    """What is asked of node and server; counts how often."""

    now: NodeLoad = field(default_factory=lambda: NodeLoad(calls=1, room_for=1))
    alone_for: float = 0.0
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    looks: int = 0

    def load(self) -> NodeLoad:
        self.looks += 1
        return self.now

    def change(self, **facts: object) -> None:
        self.now = replace(self.now, **facts)  # type: ignore[arg-type]  # the fields of NodeLoad

    async def goes_on(self, running: "asyncio.Task[None]") -> None:
        """It has looked twice since, and serves."""
        seen = self.looks
        async with asyncio.timeout(20.0):
            while self.looks < seen + 2:  # noqa: ASYNC110  (a look has no event of its own)
                await asyncio.sleep(0.001)
        assert not running.done()


@asynccontextmanager
async def serving(*, started_by_server: bool) -> AsyncIterator[tuple[Node, "asyncio.Task[None]"]]:
    node = Node()
    until = node_app._until_unneeded(cast(InProcessNode, node), cast(NodeServer, node), node.leaving, ORPHAN_LIMIT, wait=started_by_server)
    running = asyncio.create_task(until)
    yield node, running
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def is_worn(node: Node) -> None:
    node.change(worn=True)


def is_forgotten(node: Node) -> None:
    node.alone_for = ORPHAN_LIMIT + node_app.UNNEEDED_AFTER + 0.1


def is_asked_to_leave(node: Node) -> None:
    node.leaving.set()


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_app, "_LOOK_EVERY", 0.001)


@pytest.mark.parametrize("reason", [is_worn, is_forgotten, is_asked_to_leave])
async def test_given_a_worker_that_is_not_needed_any_more_then_it_ends_with_its_last_call(reason: Callable[[Node], None]) -> None:
    async with serving(started_by_server=True) as (node, running):
        await node.goes_on(running)
        reason(node)
        await node.goes_on(running)
        node.change(calls=0)
        await asyncio.wait_for(running, 20.0)


async def test_given_a_worker_that_is_needed_then_it_goes_on_without_a_call() -> None:
    """Its controller may be away for as long as calls may be without one."""
    async with serving(started_by_server=True) as (node, running):
        node.change(calls=0)
        node.alone_for = ORPHAN_LIMIT + node_app.UNNEEDED_AFTER - 0.1
        await node.goes_on(running)


@pytest.mark.parametrize("reason", [is_worn, is_forgotten])
async def test_given_a_node_that_is_a_service_then_it_goes_on_until_it_is_asked_to_leave(reason: Callable[[Node], None]) -> None:
    """Nobody would start it anew at once: systemd counts restarts, and the operator knows of none."""
    async with serving(started_by_server=False) as (node, running):
        node.change(calls=0)
        reason(node)
        await node.goes_on(running)
        is_asked_to_leave(node)
        await asyncio.wait_for(running, 20.0)
