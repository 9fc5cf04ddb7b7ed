"""A node's figures on their way to the controller: Prometheus's families as its text format, and back; those of the process among them."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

_process = ProcessCollector(registry=None)


class Collected:
    """Families that are there already, as a collector."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def written(families: Iterable[Metric]) -> str:
    registry = CollectorRegistry()
    registry.register(Collected(families))
    return generate_latest(registry).decode()


def read(text: str) -> Sequence[Metric]:
    """Raises ValueError for anything else."""
    return list(text_string_to_metric_families(text))


def of_this_process() -> Sequence[Metric]:
    """Memory, processor time, open files (`process_*`, as every exporter names them), and threads: LiveKit's SDK makes its own."""
    return [*_process.collect(), GaugeMetricFamily("process_threads", "Number of threads in the process.", value=_threads())]


def _threads() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return threading.active_count()
