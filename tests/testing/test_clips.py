"""What Roomline plays is recognised in what a caller heard, and nothing else is taken for it."""

import time

import numpy as np
import pytest

from bridge.media.port import ClipName
from bridge.media.tones import Tones
from bridge.testing.clips import LIKE, clip, until_heard, until_heard_through_webrtc, wrong_pin_seconds
from bridge.testing.listening import find
from bridge.testing.recording import Recording, Samples

SPEECH = [ClipName.ENTER_PIN, ClipName.ROOM_JOIN, ClipName.WELCOME, ClipName.NO_COMPANY, ClipName.UNAVAILABLE]


def over_a_telephone_line(samples: Samples) -> Samples:
    """Through G.711's µ-law (ITU-T G.711, the continuous form), 6 dB quieter."""
    scaled = samples / 65536
    packed = np.sign(scaled) * np.log1p(255 * np.abs(scaled)) / np.log(256)
    unpacked = np.round(packed * 127) / 127
    line: Samples = (np.sign(unpacked) * ((256 ** np.abs(unpacked)) - 1) / 255 * 32768).astype(np.int16)
    return line


def recording_of(samples: Samples, began: float) -> Recording:
    heard = Recording(8000)
    whole = np.concatenate((np.zeros(4000, np.int16), samples, np.zeros(-len(samples) % 160 + 1600, np.int16)))
    for number, frame in enumerate(np.split(whole, len(whole) // 160)):
        heard.add(began + number * 0.020, frame)
    return heard


@pytest.mark.parametrize("name", SPEECH)
async def test_a_prompt_is_recognised_after_a_telephone_line_and_no_other_one_is(name: ClipName) -> None:
    began = time.monotonic()
    heard = recording_of(over_a_telephone_line(clip(name, 8000)), began)
    assert await until_heard(heard, name, since=began, within=0.0) == pytest.approx(began + 0.5, abs=0.002)
    for other in SPEECH:
        if other is not name:
            assert find(clip(other, 8000), np.pad(heard.samples(), (0, 40000)), 8000).likeness < LIKE / 2


async def test_given_a_prompt_that_does_not_come_then_it_is_said_which() -> None:
    began = time.monotonic()
    heard = recording_of(clip(ClipName.WELCOME, 8000), began)
    with pytest.raises(TimeoutError, match="enter_pin"):
        await until_heard(heard, ClipName.ENTER_PIN, since=began, within=0.05)


async def test_the_beginning_of_a_prompt_is_enough_when_asked_for() -> None:
    began = time.monotonic()
    heard = recording_of(clip(ClipName.ENTER_PIN, 8000)[:12000], began)
    assert await until_heard(heard, ClipName.ENTER_PIN, since=began, within=0.0, seconds=1.2) > began
    with pytest.raises(TimeoutError):
        await until_heard(heard, ClipName.ENTER_PIN, since=began, within=0.0)


@pytest.mark.parametrize("name", SPEECH)
async def test_a_prompt_that_a_receiver_has_stretched_is_recognised_and_one_with_a_hole_is_not(name: ClipName) -> None:
    began = time.monotonic()
    spoken = over_a_telephone_line(clip(name, 8000))
    # 8 ms more every second, as a receiver that fills its buffer does it.
    stretched = np.concatenate([np.append(part, part[-64:]) for part in np.array_split(spoken, max(1, len(spoken) // 8000))])
    heard = recording_of(stretched, began)
    assert await until_heard_through_webrtc(heard, name, since=began, within=0.0) == pytest.approx(began + 0.5, abs=0.020)
    stretched[len(stretched) // 2 :][:8000] = 0
    with pytest.raises(TimeoutError):
        await until_heard_through_webrtc(recording_of(stretched, began), name, since=began, within=0.0)


def test_the_wrong_pin_tone_is_measured_whole() -> None:
    began = 100.0
    frames = Tones().frames(ClipName.WRONG_PIN, 8000)
    assert frames is not None
    tone = over_a_telephone_line(np.frombuffer(b"".join(frames), "<i2").astype(np.int16))
    assert wrong_pin_seconds(recording_of(tone, began), began) > 0.7
    assert wrong_pin_seconds(recording_of(tone[: len(tone) // 2], began), began) == 0.0
    assert wrong_pin_seconds(recording_of(clip(ClipName.WELCOME, 8000), began), began) == 0.0
