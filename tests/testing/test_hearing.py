"""What is heard, in words: tones, cadences, prompts and their edges, on sounds made here."""

import numpy as np
import pytest

from bridge.media.port import ClipName
from bridge.media.tones import REGIONS, WRONG_PIN, Part, Pattern
from bridge.testing.clips import clip
from bridge.testing.hearing import BUSY, BUSY_CADENCE, FALLBACK, MUSIC, RINGBACK, SILENCE, SPEECH, WRONG, Heard, a_tone_of, hear
from bridge.testing.listening import tone
from bridge.testing.pbx_config import FALLBACK_HZ, HOLD_MUSIC_HZ
from bridge.testing.recording import Recording, Samples

RATE = 8000
ENTER_PIN, ROOM_JOIN = (
    '"Please enter room pin and press hash to confirm."',
    '"You are now entering the room."',
)


def recording(*sounds: Samples) -> Recording:
    """In frames of 20 ms, as they come."""
    heard = Recording(RATE)
    line = np.concatenate(sounds)
    for start in range(0, len(line) - 159, 160):
        heard.add(100.0 + start / RATE, line[start : start + 160])
    return heard


def quiet(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.int16)


def cadence(parts: tuple[Part, ...], times: int) -> Samples:
    once = [tone(RATE, part.seconds, part.frequencies, -16.0) if part.frequencies else quiet(part.seconds) for part in parts]
    return np.concatenate(once * times)


def kinds(heard: list[Heard]) -> list[str]:
    return [part.what for part in heard]


def test_given_nothing_then_nothing_is_heard() -> None:
    assert hear(Recording(RATE)) == []
    assert kinds(hear(recording(quiet(1.0)))) == [SILENCE]


@pytest.mark.parametrize(
    ("frequencies", "what"),
    [(HOLD_MUSIC_HZ, MUSIC), ((FALLBACK_HZ,), FALLBACK), ((1200.0,), a_tone_of(1200.0)), ((596.0,), "a tone of 600 Hz")],
)
def test_given_a_tone_then_it_is_called_by_what_it_means(frequencies: tuple[float, ...], what: str) -> None:
    found = hear(recording(quiet(0.5), tone(RATE, 2.0, frequencies), quiet(0.5)))
    assert kinds(found) == [SILENCE, what, SILENCE]
    assert found[1].seconds == pytest.approx(2.0, abs=0.21)


@pytest.mark.parametrize(("pattern", "what"), [(REGIONS["us"][ClipName.RINGBACK], RINGBACK), (BUSY_CADENCE, BUSY)])
def test_given_a_cadence_then_its_pauses_are_part_of_it(pattern: Pattern, what: str) -> None:
    found = hear(recording(cadence(pattern, 3), tone(RATE, 2.0, (1200.0,))))
    assert kinds(found) in ([what, a_tone_of(1200.0)], [what, SILENCE, a_tone_of(1200.0)])


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.05, 0.08])
def test_given_the_wrong_pin_tone_then_its_three_parts_are_one_sound(shift: float) -> None:
    found = hear(recording(quiet(0.5 + shift), cadence(WRONG_PIN, 1), quiet(0.6)))
    assert kinds(found) == [SILENCE, WRONG, SILENCE]


def test_given_prompts_then_they_are_told_apart_also_when_keys_interrupt_one() -> None:
    interrupted = clip(ClipName.ENTER_PIN, RATE)[: round(1.6 * RATE)]
    found = hear(recording(interrupted, quiet(0.2), clip(ClipName.ROOM_JOIN, RATE), quiet(1.5), tone(RATE, 1.0, (1200.0,))))
    assert kinds(found) == [ENTER_PIN, ROOM_JOIN, SILENCE, a_tone_of(1200.0)]


def test_given_other_speech_then_it_is_speech() -> None:
    noise = np.random.default_rng(1).normal(0, 4000, 2 * RATE).astype(np.int16)
    assert kinds(hear(recording(quiet(0.5), noise, quiet(1.5)))) == [SILENCE, SPEECH, SILENCE]


def test_given_a_tone_that_is_interrupted_then_the_gap_is_told() -> None:
    found = hear(recording(tone(RATE, 2.0, (1200.0,)), tone(RATE, 1.5, HOLD_MUSIC_HZ), tone(RATE, 2.0, (1200.0,))))
    assert kinds(found) == [a_tone_of(1200.0), MUSIC, a_tone_of(1200.0)]
    assert found[1].seconds == pytest.approx(1.5, abs=0.21)
