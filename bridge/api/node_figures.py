"""What the media nodes count, all together in /metrics: each under its own name, whether it lives in this process or in one of its own."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric

from bridge.errors import RoomlineError
from bridge.media.port import NodeLoad

PATIENCE: Final = 1.0
"""Seconds that a scrape waits for a node: one that hangs is worth a figure of its own, and no more."""


class CountingNode(Protocol):
    """What is asked of a node here."""

    def load(self) -> NodeLoad: ...

    async def metrics(self) -> Sequence[Metric]: ...


class NodeFigures:
    """A collector: `ask`, then `collect`. Each sample has the label `node`, so that one board fits every set-up."""

    def __init__(self, nodes: Mapping[str, CountingNode]) -> None:
        self._nodes = nodes
        self._families: Sequence[Metric] = ()

    async def ask(self) -> None:
        """Every node at the same time. One that does not answer is down, and its figures are left out."""
        answers = await asyncio.gather(*(_asked(node) for node in self._nodes.values()))
        up = GaugeMetricFamily("roomline_node_up", "Whether the media node answers.", labels=["node"])
        calls = GaugeMetricFamily("roomline_node_calls", "Calls that the media node carries.", labels=["node"])
        families: dict[str, Metric] = {}
        for (name, node), answer in zip(self._nodes.items(), answers, strict=True):
            up.add_metric([name], answer is not None)
            calls.add_metric([name], node.load().calls)
            for family in answer or ():
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    known.add_sample(sample.name, {**sample.labels, "node": name}, sample.value)
        self._families = [up, calls, *families.values()]

    def collect(self) -> Iterator[Metric]:
        """What the last `ask` brought."""
        yield from self._families


async def _asked(node: CountingNode) -> Sequence[Metric] | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await node.metrics()
    except (RoomlineError, TimeoutError, ValueError):
        return None
