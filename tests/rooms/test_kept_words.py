"""Words kept while a seat is made: none is lost, and the delay is won back in pauses or over periods of the voice."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.media.frames import RATES, samples_per_frame
from bridge.rooms.kept_words import MOST_KEPT, KeptWords

Signal = NDArray[np.float64]


def voice(rate: int, seconds: float, pitch: float = 120.0) -> Signal:
    """A vowel: a pitch with its overtones, getting louder and softer four times a second."""
    time = np.arange(int(rate * seconds)) / rate
    overtones = sum(np.sin(2 * np.pi * pitch * n * time) / n for n in range(1, 12))
    return np.asarray(4000 * overtones * (0.7 + 0.3 * np.sin(2 * np.pi * 4 * time)))


def frames_of(signal: Signal, rate: int) -> list[bytes]:
    size = samples_per_frame(rate)
    return [signal[at : at + size].astype("<i2").tobytes() for at in range(0, len(signal) - size + 1, size)]


def run(rate: int, signal: Signal, late: int) -> tuple[Signal, int | None]:
    """`late` frames are kept before the first goes out. Returns what went out, and after how many beats less than 40 ms were left."""
    words, out, soon = KeptWords(rate), [], None
    frames = frames_of(signal, rate)
    for frame in frames[:late]:
        words.add(frame)
    for beat, frame in enumerate(frames[late:]):
        words.add(frame)
        out.append(words.next_frame() or b"")
        if soon is None and words.frames < 2:
            soon = beat
    while (rest := words.next_frame()) is not None:
        out.append(rest)
    return np.frombuffer(b"".join(out), "<i2").astype(float), soon


@pytest.mark.parametrize("rate", RATES)
def test_given_speech_without_a_pause_then_the_delay_is_below_40_ms_within_five_seconds(rate: int) -> None:
    _, soon = run(rate, voice(rate, 12.0), late=25)
    assert soon is not None
    assert soon < 250


@pytest.mark.parametrize("rate", RATES)
def test_given_speech_without_a_pause_then_it_has_no_click_in_it(rate: int) -> None:
    signal = voice(rate, 8.0)
    out, _ = run(rate, signal, late=15)
    assert np.abs(np.diff(out, 2)).max() < 1.15 * np.abs(np.diff(signal, 2)).max()


@pytest.mark.parametrize("rate", RATES)
def test_given_pauses_then_only_they_get_shorter(rate: int) -> None:
    """Ten words of 200 ms with pauses of 200 ms: each word leaves as it came."""
    words = [voice(rate, 0.2, pitch=100.0 + 10 * n) for n in range(10)]
    signal = np.concatenate([part for word in words for part in (word, np.zeros(rate // 5))])
    out, soon = run(rate, signal, late=15)
    assert soon is not None
    assert soon < 100
    for word in words:
        whole = np.rint(word[: len(word) - 1])
        at = np.flatnonzero(np.isclose(out[: len(out) - len(whole)], whole[0], atol=1.0))
        assert any(np.allclose(out[start : start + len(whole)], whole, atol=1.0) for start in at)


def test_given_a_pause_then_some_of_it_stays_between_the_words() -> None:
    words = KeptWords(8000)
    for frame in frames_of(voice(8000, 0.1), 8000) + 20 * [bytes(320)] + frames_of(voice(8000, 0.1), 8000):
        words.add(frame)
    out = []
    while (frame_out := words.next_frame()) is not None:
        out.append(frame_out)
    quiet = [frame == bytes(320) for frame in out]
    assert sum(quiet) == 3


def test_given_nothing_late_then_each_frame_leaves_as_it_came() -> None:
    words = KeptWords(8000)
    for frame in frames_of(voice(8000, 2.0), 8000):
        words.add(frame)
        assert words.next_frame() == frame
    assert words.next_frame() is None


def test_given_hardly_any_delay_then_it_goes_in_the_next_pause_and_not_before() -> None:
    words = KeptWords(8000)
    frames = frames_of(np.concatenate((voice(8000, 1.0), np.zeros(12_000), voice(8000, 0.2))), 8000)
    words.add(frames[0])
    words.add(frames[1])
    out, left = [], []
    for frame in frames[2:]:
        out.append(words.next_frame())
        left.append(words.frames)
        words.add(frame)
    assert set(left[:45]) == {1.0}
    assert out[:45] == frames[:45]
    assert left[-1] == 0.0
    assert out[-9:] == frames[-10:-1]


def test_given_a_seat_that_takes_too_long_then_the_newest_five_seconds_are_kept() -> None:
    words = KeptWords(8000)
    for number in range(MOST_KEPT + 10):
        words.add(np.full(160, 1000 + number, "<i2").tobytes())
    assert words.frames == MOST_KEPT
    first = words.next_frame()
    assert first is not None
    assert np.frombuffer(first, "<i2")[0] == 1010
