"""The measures that every real test stands on, against signals whose properties are known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.testing.listening import (
    Segment,
    chirp,
    dominant_frequency,
    find,
    is_tone,
    level,
    longest_silence,
    lost_share,
    pitches,
    round_trip,
    seconds_of_tone,
    segments,
    tone,
    tone_level,
    tone_share,
)
from bridge.testing.recording import Recording, Samples


def silence(rate: int, seconds: float) -> Samples:
    return np.zeros(round(rate * seconds), np.int16)


def test_levels_are_those_of_the_definition() -> None:
    assert level(np.full(100, -32768, np.int16)) == pytest.approx(0.0)
    assert level(silence(8000, 1)) == -math.inf
    assert level(np.zeros(0, np.int16)) == -math.inf
    assert level(tone(8000, 2.0, [1000.0], -20.0)) == pytest.approx(-20.0, abs=0.1)


@given(hz=st.floats(200, 3400), decibels=st.floats(-40, -6), rate=st.sampled_from([8000, 16000]))
@settings(max_examples=40)
def test_a_tone_is_found_with_its_frequency_and_level(hz: float, decibels: float, rate: int) -> None:
    sound = tone(rate, 0.5, [hz], decibels)
    assert dominant_frequency(sound, rate) == pytest.approx(hz, abs=1.0)
    assert tone_level(sound, rate, hz) == pytest.approx(decibels, abs=0.3)
    assert is_tone(sound, rate, [hz])
    assert not is_tone(sound, rate, [hz + 100.0])


def test_given_two_tones_then_both_must_be_there_and_nothing_else() -> None:
    ringback = tone(8000, 0.5, [440.0, 480.0], -20.0)
    assert is_tone(ringback, 8000, [440.0, 480.0])
    assert not is_tone(ringback, 8000, [440.0])
    assert not is_tone(tone(8000, 0.5, [440.0], -20.0), 8000, [440.0, 480.0])
    speech = chirp(8000, 0.5)
    assert tone_share(speech, 8000, [440.0, 480.0]) < 0.2
    assert not is_tone(silence(8000, 0.5), 8000, [440.0])


def test_the_frequency_is_followed_over_time() -> None:
    sound = np.concatenate((tone(8000, 0.4, [500.0]), silence(8000, 0.4), tone(8000, 0.4, [900.0])))
    heard = [round(pitch.hz, -1) for pitch in pitches(sound, 8000)]
    assert heard == [500.0] * 10 + [0.0] * 10 + [900.0] * 10
    assert seconds_of_tone(sound, 8000, 900.0) == pytest.approx(0.4)
    assert seconds_of_tone(sound, 8000, 700.0) == 0.0


def test_speech_and_pauses_are_parted() -> None:
    parts = (silence(8000, 0.5), chirp(8000, 0.3), silence(8000, 0.1), chirp(8000, 0.2), silence(8000, 0.6), chirp(8000, 0.4))
    sound = np.concatenate(parts)
    assert segments(sound, 8000) == [Segment(0.5, 1.1), Segment(1.7, 2.1)]
    assert longest_silence(sound, 8000) == pytest.approx(0.6)
    assert longest_silence(silence(8000, 2.0), 8000) == pytest.approx(2.0)
    assert segments(silence(8000, 2.0), 8000) == []


def test_a_click_is_no_sound() -> None:
    sound = silence(8000, 1.0)
    sound[4000:4010] = 20000
    assert segments(sound, 8000) == []


@given(delay=st.integers(0, 4000), noise=st.floats(0, 1000), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_a_known_sound_is_found_in_noise(delay: int, noise: float, seed: int) -> None:
    marker = chirp(8000, 0.5)
    within = np.random.default_rng(seed).normal(0, noise + 1, 10000)
    within[delay : delay + len(marker)] += 0.3 * marker
    match = find(marker, within.astype(np.int16), 8000)
    assert match.delay == pytest.approx(delay / 8000, abs=0.001)
    assert match.likeness > 0.7


def test_what_is_not_there_is_unlike() -> None:
    noise = np.random.default_rng(1).normal(0, 3000, 16000).astype(np.int16)
    assert find(chirp(8000, 0.5), noise, 8000).likeness < 0.3
    assert find(chirp(8000, 0.5), silence(8000, 2.0), 8000).likeness == 0.0
    assert find(chirp(8000, 0.5), silence(8000, 0.1), 8000).likeness == 0.0


def test_the_round_trip_is_that_of_arrival_not_of_the_samples() -> None:
    marker = chirp(8000, 0.5)
    said, heard = Recording(8000), Recording(8000)
    line = np.concatenate((silence(8000, 0.2), marker, silence(8000, 0.3)))
    for number, frame in enumerate(np.split(line, len(line) // 160)):
        said.add(100.0 + 0.02 * number, frame)
        heard.add(100.13 + 0.02 * number, frame)
    match = round_trip(said, heard, since=100.2, seconds=0.5)
    assert match.delay == pytest.approx(0.13, abs=0.002)
    assert match.likeness > 0.99
    assert round_trip(said, Recording(8000), since=100.2).likeness == 0.0


RATE = 8000
SWEEP = chirp(RATE, 0.5)
FRAME = RATE // 50


def as_by_a_phone_line(said: Samples, noise: np.random.Generator) -> Samples:
    """What a codec makes of it, coarsely: band-limited with each frequency's phase moved otherwise, noise 20 dB below."""
    frequencies = np.fft.rfftfreq(len(said), 1 / RATE)
    passed = 1 / np.sqrt((1 + (250 / np.maximum(frequencies, 1.0)) ** 4) * (1 + (frequencies / 3400) ** 8))
    moved = np.fft.irfft(np.fft.rfft(said) * passed * np.exp(0.8j * np.sin(frequencies / 500)), len(said))
    return (moved + noise.normal(0.0, 0.1 * float(np.std(moved)), len(said))).astype(np.int16)


def silenced(said: Samples, at: int) -> Samples:
    return np.zeros(FRAME, np.int16)


def repeated(said: Samples, at: int) -> Samples:
    """As a receiver conceals a loss: the last period, again and again."""
    period = said[at - RATE // 500 : at]
    return np.resize(period, FRAME)


def left_out(said: Samples, at: int) -> Samples:
    return np.zeros(0, np.int16)


@pytest.mark.parametrize(
    ("replaced", "offset"), [(silenced, 0), (silenced, FRAME // 2), (repeated, FRAME // 2), (left_out, 0), (left_out, FRAME // 4)]
)
def test_a_share_of_lost_frames_below_one_in_a_hundred_and_one_above_are_told_apart(
    replaced: Callable[[Samples, int], Samples], offset: int
) -> None:
    chance = np.random.default_rng(5)
    said = np.tile(SWEEP, 20)
    for lost, least, most in ((2, 0.003, 0.009), (10, 0.015, 0.04)):
        heard, since = [], 0
        for at in offset + FRAME * (np.arange(lost) * (490 // lost) + chance.integers(5, 490 // lost, lost)):
            heard += [said[since:at], replaced(said, at)]
            since = at + FRAME
        line = np.concatenate([*heard, said[since:]])
        assert least < lost_share(SWEEP, as_by_a_phone_line(line, chance), RATE) < most


def test_what_is_stretched_to_another_clock_is_not_lost() -> None:
    said = as_by_a_phone_line(np.tile(SWEEP, 10), np.random.default_rng(6))
    assert lost_share(SWEEP, said, RATE) == 0.0
    slower = np.interp(np.arange(round(len(said) * 1.0005)) / 1.0005, np.arange(len(said)), said).astype(np.int16)
    assert lost_share(SWEEP, slower, RATE) == 0.0


def test_given_no_sweep_then_no_share_is_made_up() -> None:
    with pytest.raises(ValueError, match="whole sweep"):
        lost_share(SWEEP, silence(RATE, 0.3), RATE)
    assert lost_share(SWEEP, silence(RATE, 5.0), RATE) == 1.0
