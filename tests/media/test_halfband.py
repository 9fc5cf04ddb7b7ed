"""Live conversion between 8 and 16 kHz: level, no aliasing, no seams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bridge.media.halfband import Doubler, Halver

Samples = NDArray[np.float64]
AMPLITUDE = 10_000.0


def tone(frequency: float, rate: int) -> Samples:
    return np.asarray(AMPLITUDE * np.sin(2 * np.pi * frequency * np.arange(rate) / rate))


def converted(by: Doubler | Halver, sound: Samples, per_frame: int) -> Samples:
    data = sound.astype("<i2").tobytes()
    size = 2 * per_frame
    frames = [by(data[at : at + size]) for at in range(0, len(data), size)]
    return np.frombuffer(b"".join(frames), "<i2").astype(float)


def decibels(sound: Samples, frequency: float, rate: int) -> float:
    """Of one frequency, against what went in."""
    middle = sound[rate // 8 : -rate // 8]
    window = np.hanning(middle.size)
    turns = np.exp(-2j * np.pi * frequency * np.arange(middle.size) / rate)
    return float(20 * np.log10(2 * np.abs(np.sum(middle * window * turns)) / np.sum(window) / AMPLITUDE + 1e-9))


@pytest.mark.parametrize("frequency", [300, 1_000, 2_400, 3_400])
def test_given_a_tone_the_telephone_passes_when_converted_then_its_level_is_kept(frequency: int) -> None:
    assert decibels(converted(Doubler(), tone(frequency, 8_000), 160), frequency, 16_000) == pytest.approx(0, abs=0.1)
    assert decibels(converted(Halver(), tone(frequency, 16_000), 320), frequency, 8_000) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("frequency", [300, 1_000, 2_400, 3_400])
def test_given_a_tone_when_doubled_then_its_mirror_image_is_not_heard(frequency: int) -> None:
    assert decibels(converted(Doubler(), tone(frequency, 8_000), 160), 8_000 - frequency, 16_000) < -58


@pytest.mark.parametrize("frequency", [4_600, 5_000, 6_000, 7_700])
def test_given_a_tone_above_what_8_khz_holds_when_halved_then_it_is_not_folded_back(frequency: int) -> None:
    assert decibels(converted(Halver(), tone(frequency, 16_000), 320), 8_000 - frequency, 8_000) < -58


@given(frames=st.integers(1, 6), seed=st.integers(0, 1000))
def test_given_any_sound_when_converted_frame_by_frame_then_there_are_no_seams(frames: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(-8_000, 8_000, 320 * frames).astype(float)
    for kind in (Doubler, Halver):
        in_frames = converted(kind(), noise, 320)
        in_one = converted(kind(), noise, noise.size)
        assert np.abs(in_frames - in_one).max() <= 1, "but for rounding"


def test_given_full_scale_when_converted_then_it_saturates_and_does_not_wrap() -> None:
    square = np.repeat(np.tile([32_767.0, -32_768.0], 40), 4)
    doubled = converted(Doubler(), square, square.size)
    halved = converted(Halver(), square, square.size)
    for sound, step in ((doubled, 2), (halved, 1)):
        assert sound.max() == 32_767
        assert sound.min() == -32_768
        assert sound.size == (square.size * 2 if step == 2 else square.size // 2)
