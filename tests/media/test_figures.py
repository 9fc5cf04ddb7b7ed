"""What a node tells about itself, as Prometheus reads it."""

from prometheus_client import CollectorRegistry, generate_latest

from bridge.media.figures import Figures


def test_given_figures_when_scraped_then_all_counts_are_there() -> None:
    registry = CollectorRegistry()
    figures = Figures()
    registry.register(figures)
    figures.beat_came(0.003)
    figures.frames_missing = 4
    figures.depths = [4, 10, 2, 1]
    figures.refusals["unannounced"] += 3
    text = generate_latest(registry).decode()
    for line in (
        "roomline_media_beats_total 1.0",
        'roomline_media_beat_lateness_seconds_bucket{le="0.002"} 0.0',
        'roomline_media_beat_lateness_seconds_bucket{le="0.003"} 1.0',
        'roomline_media_beat_lateness_seconds_bucket{le="+Inf"} 1.0',
        "roomline_media_beat_lateness_seconds_sum 0.003",
        "roomline_media_frames_missing_total 4.0",
        'roomline_media_connections_refused_total{why="unannounced"} 3.0',
        'roomline_media_queue_frames_bucket{le="1.0"} 14.0',
        'roomline_media_queue_frames_bucket{le="+Inf"} 17.0',
        "roomline_media_queue_frames_sum 17.0",
    ):
        assert line in text.splitlines(), line
