"""A recording keeps the time line of what came."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.testing.recording import Recording, Samples, load_wav, save_wav


def frame(value: int) -> Samples:
    return np.full(160, value, np.int16)


def test_given_jitter_then_frames_follow_without_a_break() -> None:
    recording = Recording(8000)
    for number, late in enumerate((0.0, 0.015, -0.004, 0.019)):
        recording.add(50.0 + 0.02 * number + late, frame(number + 1))
    assert recording.seconds == pytest.approx(0.08)
    assert list(np.unique(recording.samples())) == [1, 2, 3, 4]


def test_given_a_gap_then_the_time_line_holds_silence_there() -> None:
    recording = Recording(8000)
    recording.add(50.00, frame(1))
    recording.add(50.50, frame(2))
    samples = recording.samples()
    assert len(samples) == round(0.52 * 8000)
    assert set(samples[160:4000]) == {0}
    assert set(samples[4000:]) == {2}
    assert recording.longest_gap() == pytest.approx(0.5)
    assert recording.longest_gap(since=50.4, until=51.5) == pytest.approx(1.0)
    assert recording.moment(4080) == pytest.approx(50.51)


def test_a_stretch_is_cut_out_by_its_moments() -> None:
    recording = Recording(8000)
    for number in range(10):
        recording.add(7.0 + 0.02 * number, frame(number))
    cut = recording.samples(since=7.03, until=7.07)
    assert list(cut) == [1] * 80 + [2] * 160 + [3] * 80
    assert len(recording.samples(since=7.15, until=9.0)) == round(1.85 * 8000)
    assert len(recording.samples(since=9.0)) == 0


def test_nothing_heard_is_empty() -> None:
    recording = Recording(8000)
    assert recording.started_at is None
    assert len(recording.samples(since=1.0)) == 0
    assert recording.longest_gap() == 0.0
    assert recording.longest_gap(since=1.0, until=3.0) == 2.0


@given(st.lists(st.integers(-32768, 32767), max_size=400), st.sampled_from([8000, 16000]))
@settings(max_examples=25)
def test_a_file_gives_back_what_was_saved(tmp_path_factory: pytest.TempPathFactory, values: list[int], rate: int) -> None:
    path: Path = tmp_path_factory.mktemp("wav") / "one.wav"
    save_wav(path, np.array(values, np.int16), rate)
    samples, read = load_wav(path)
    assert (list(samples), read) == (values, rate)
