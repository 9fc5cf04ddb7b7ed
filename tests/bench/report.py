"""What every bench says in the same words: which machine, progress on standard error, percentiles, and one JSON object as the last line."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Machine:
    """What figures are to be compared by."""

    cpu: str
    cores: int
    python: str
    system: str


def machine() -> Machine:
    return Machine(_cpu(), os.cpu_count() or 0, platform.python_version(), f"{platform.system()} {platform.release()}")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed (nearest rank). Raises ValueError for no values."""
    if not values:
        raise ValueError("there is nothing to take a percentile of")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def milliseconds(seconds: float) -> float:
    """For a reader: to a tenth."""
    return round(1000 * seconds, 1)


def say(text: str) -> None:
    """Progress, for a person who waits."""
    print(text, file=sys.stderr, flush=True)


def finish(bench: str, figures: Mapping[str, Any]) -> None:
    """The last line of standard output."""
    print(json.dumps({"bench": bench, "machine": asdict(machine()), **figures}), flush=True)
