"""The tones callers hear: their frequencies, cadence and level, and that they begin and end without a click."""

from itertools import groupby

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.errors import ConfigurationError
from bridge.media.frames import RATES, Frames, bytes_per_frame
from bridge.media.port import ClipName
from bridge.media.tones import COMFORT_STEPS, LEVEL, REGIONS, WRONG_PIN, Pattern, Tones

Samples = NDArray[np.float64]


def samples(frames: Frames) -> Samples:
    return np.frombuffer(b"".join(frames), "<i2") / 32768


def frames_of(region: str, name: ClipName, rate: int) -> Frames:
    frames = Tones(region).frames(name, rate)
    assert frames is not None
    return frames


def spectrum_peaks(sound: Samples, rate: int) -> list[float]:
    """The frequencies within 10 dB of the strongest, in Hz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size)))
    strong = [
        place
        for place in range(1, spectrum.size - 1)
        if spectrum[place] > spectrum.max() / 3 and spectrum[place] >= max(spectrum[place - 1], spectrum[place + 1])
    ]
    return [place * rate / sound.size for place in strong]


def cadence(frames: Frames) -> list[tuple[bool, float]]:
    """Runs of sound and silence in seconds."""
    return [(sounds, round(0.02 * len(list(run)), 2)) for sounds, run in groupby(any(frame) for frame in frames)]


ALL = [(region, name, pattern) for region, tones in REGIONS.items() for name, pattern in tones.items()]
ALL += [("us", ClipName.WRONG_PIN, WRONG_PIN)]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("region", "name", "pattern"), ALL, ids=[f"{region}-{name}" for region, name, _ in ALL])
def test_given_a_region_when_a_tone_is_made_then_it_sounds_as_written(region: str, name: ClipName, pattern: Pattern, rate: int) -> None:
    frames = frames_of(region, name, rate)
    assert {len(frame) for frame in frames} == {bytes_per_frame(rate)}
    assert cadence(frames) == [(bool(part.frequencies), part.seconds) for part in pattern]
    begin = 0
    for part in pattern:
        end = begin + round(part.seconds * rate)
        if part.frequencies:
            sound = samples(frames)[begin:end]
            assert spectrum_peaks(sound, rate) == pytest.approx(list(part.frequencies), abs=1.5 / part.seconds)
            middle = sound[sound.size // 10 : -sound.size // 10]
            level = 20 * np.log10(np.sqrt(2 * np.mean(middle**2)))
            assert level == pytest.approx(LEVEL, abs=0.5)
        begin = end


def test_given_north_america_when_it_rings_then_440_and_480_hz_two_seconds_in_six() -> None:
    frames = frames_of("us", ClipName.RINGBACK, 8_000)
    assert cadence(frames) == [(True, 2.0), (False, 4.0)]
    assert spectrum_peaks(samples(frames)[:16_000], 8_000) == pytest.approx([440, 480], abs=1)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("region", "name", "pattern"), ALL, ids=[f"{region}-{name}" for region, name, _ in ALL])
def test_given_a_tone_when_looped_then_there_is_no_click(region: str, name: ClipName, pattern: Pattern, rate: int) -> None:
    sound = samples(frames_of(region, name, rate) * 2)
    highest = max(frequency for part in pattern for frequency in part.frequencies)
    amplitude = 10 ** (LEVEL / 20) * np.sqrt(2)  # of two frequencies that meet; one alone has less
    steepest = 2 * np.pi * highest / rate * amplitude
    assert np.abs(np.diff(sound)).max() <= steepest
    assert sound[0] == sound[-1] == 0.0


@pytest.mark.parametrize("rate", RATES)
def test_given_comfort_noise_when_it_plays_then_it_is_there_but_hardly(rate: int) -> None:
    noise = np.frombuffer(b"".join(frames_of("us", ClipName.COMFORT, rate)), "<i2")
    assert np.abs(noise).max() == COMFORT_STEPS
    assert 20 * np.log10(float(noise.std()) / 32768) < -75.0
    frames = noise.reshape(-1, rate // 50)
    assert (np.abs(frames) >= 4).any(axis=1).all(), "no frame is digital silence, in G.711's µ-law neither: its first step"
    assert abs(float(noise.mean())) < 0.05 * float(noise.std())


def test_given_speech_when_asked_for_then_it_is_no_tone() -> None:
    assert Tones().frames(ClipName.ENTER_PIN, 8_000) is None


def test_given_a_region_we_do_not_know_when_made_then_the_error_names_those_we_do() -> None:
    with pytest.raises(ConfigurationError, match="'mars'; there are: de, eu, uk, us"):
        Tones("mars")
