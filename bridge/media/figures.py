"""What a node measures of itself: its rhythm, its queues, who was turned away. Counted as plain integers on the beat, made into
Prometheus families only when somebody looks."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

QUEUE_FRAMES: Final = 3
"""Frames of one caller kept between the socket and the beat, the one to be taken included. Later audio is wrong audio."""

LATENESS_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.010, 0.020, 0.050, 0.100, 0.500)
"""Seconds. More than 5 ms is out of rhythm, more than 20 ms costs a frame."""


class Figures:
    """The figures of one node: a collector for Prometheus' registry."""

    __slots__ = (
        "_late_seconds",
        "_lateness",
        "beats",
        "beats_skipped",
        "connections",
        "depths",
        "faults",
        "frames_dropped",
        "frames_missing",
        "frames_trimmed",
        "frames_unsent",
        "refusals",
    )

    def __init__(self) -> None:
        self._lateness = [0] * (len(LATENESS_BUCKETS) + 1)
        self._late_seconds = 0.0
        self.beats = 0
        self.beats_skipped = 0
        self.faults = 0
        self.frames_missing = 0
        self.frames_dropped = 0
        self.frames_trimmed = 0
        self.frames_unsent = 0
        self.connections = 0
        self.depths = [0] * (QUEUE_FRAMES + 1)
        self.refusals: Counter[str] = Counter()

    def beat_came(self, late: float) -> None:
        """A beat came `late` seconds after its time."""
        self.beats += 1
        self._lateness[bisect_left(LATENESS_BUCKETS, late)] += 1
        self._late_seconds += late

    def collect(self) -> Iterator[Metric]:
        """For Prometheus' registry."""
        for name, documentation, value in (
            ("beats", "Beats of 20 ms that were played.", self.beats),
            (
                "beats_skipped",
                "Beats left out because the process was stalled: each is 20 ms that callers did not hear.",
                self.beats_skipped,
            ),
            ("faults", "Faults of ours on the beat; the log has their tracebacks.", self.faults),
            ("frames_missing", "Beats in which a connected PBX channel had sent no audio.", self.frames_missing),
            ("frames_dropped", "Frames from the PBX that came faster than they could be heard.", self.frames_dropped),
            ("frames_trimmed", "Frames from the PBX left out to win back delay that nothing needed.", self.frames_trimmed),
            ("frames_unsent", "Frames that the PBX was too slow to take.", self.frames_unsent),
            ("connections", "Audio connections let in.", self.connections),
        ):
            yield CounterMetricFamily(f"roomline_media_{name}", documentation, value=value)
        refused = CounterMetricFamily("roomline_media_connections_refused", "Audio connections turned away.", labels=["why"])
        for why, times in sorted(self.refusals.items()):
            refused.add_metric([why], times)
        yield refused
        yield _histogram(
            "roomline_media_beat_lateness_seconds",
            "How late a beat came, against its place on the monotonic clock.",
            [f"{bound}" for bound in LATENESS_BUCKETS],
            self._lateness,
            self._late_seconds,
        )
        yield _histogram(
            "roomline_media_queue_frames",
            "Frames of a caller that waited when the beat took one.",
            [f"{float(frames)}" for frames in range(len(self.depths))],
            [*self.depths, 0],
            sum(frames * times for frames, times in enumerate(self.depths)),
        )


def _histogram(name: str, documentation: str, bounds: Sequence[str], counts: Sequence[int], total: float) -> Metric:
    """`counts`: of each bucket by itself, the one without a bound last."""
    histogram = HistogramMetricFamily(name, documentation)
    cumulated = [sum(counts[: place + 1]) for place in range(len(counts))]
    histogram.add_metric([], list(zip([*bounds, "+Inf"], cumulated, strict=True)), sum_value=total)
    return histogram
