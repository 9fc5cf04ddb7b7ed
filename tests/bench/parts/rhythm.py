"""How steady the sound of a stack's nodes was between two moments: from /metrics, as an operator's board would have it."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from bridge.testing.stack import Stack

_MEDIA = "roomline_media_"
_LATENESS = f"{_MEDIA}beat_lateness_seconds_bucket"
_LATE = 0.005
"""Seconds; one of the histogram's bounds."""

Counts = Mapping[tuple[str, float], float]
"""By the name of the sample and, for a histogram's bucket, its bound (infinity for all else); all nodes together."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Of the beats in the measured time. Lateness in milliseconds, to the histogram's next bound."""

    beats: int
    late_ms_p50: float
    late_ms_p99: float
    late_share_over_5_ms: float
    skipped: int
    frames_missing: int
    frames_dropped: int
    frames_unsent: int


async def counted(stack: Stack) -> Counts:
    """Up to now."""
    return _read(await asyncio.to_thread(_scrape, f"http://{stack.http_address}/metrics"))


def rhythm(before: Counts, after: Counts) -> Rhythm:
    grown = {key: count - before.get(key, 0.0) for key, count in after.items()}
    buckets = sorted((bound, count) for (name, bound), count in grown.items() if name == _LATENESS)
    beats = buckets[-1][1]

    def of(name: str) -> int:
        return round(grown[f"{_MEDIA}{name}_total", math.inf])

    return Rhythm(
        beats=round(beats),
        late_ms_p50=_bound(buckets, 0.50 * beats),
        late_ms_p99=_bound(buckets, 0.99 * beats),
        late_share_over_5_ms=round(1 - grown[_LATENESS, _LATE] / beats, 5),
        skipped=of("beats_skipped"),
        frames_missing=of("frames_missing"),
        frames_dropped=of("frames_dropped"),
        frames_unsent=of("frames_unsent"),
    )


def _bound(buckets: Sequence[tuple[float, float]], count: float) -> float:
    return 1000 * min(bound for bound, cumulated in buckets if cumulated >= count)


def _scrape(url: str) -> str:
    with urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def _read(text: str) -> Counts:
    counts: dict[tuple[str, float], float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(_MEDIA):
                counts[sample.name, float(sample.labels.get("le", "inf"))] += sample.value
    return counts
