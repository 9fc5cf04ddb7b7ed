"""What a node tells about itself, as Prometheus reads it."""

from prometheus_client import CollectorRegistry, generate_latest

from bridge.media.figures import Figures


def test_given_figures_when_scraped_then_all_counts_are_there() -> None:
    registry = CollectorRegistry()
    figures = Figures(registry)
    figures.beat_came(0.003)
    figures.frames_missing = 4
    figures.depths = [4, 10, 2, 1]
    figures.refusals["unannounced"] += 3
    text = generate_latest(registry).decode()
    for line in (
        "roomline_media_beats_total 1.0",
        'roomline_media_beat_lateness_seconds_bucket{le="0.002"} 0.0',
        'roomline_media_beat_lateness_seconds_bucket{le="0.005"} 1.0',
        "roomline_media_frames_missing_total 4.0",
        'roomline_media_connections_refused_total{why="unannounced"} 3.0',
        'roomline_media_queue_frames_bucket{le="1.0"} 14.0',
        'roomline_media_queue_frames_bucket{le="+Inf"} 17.0',
        "roomline_media_queue_frames_sum 17.0",
    ):
        assert line in text.splitlines(), line


def test_given_two_nodes_when_made_without_a_registry_then_they_do_not_meet() -> None:
    first, second = Figures(), Figures()
    first.beats = 5
    assert second.beats == 0
