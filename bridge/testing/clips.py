"""Recognising what Roomline plays in what a caller heard: its recorded prompts and its wrong-PIN tone."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import bridge.media
from bridge.media.port import ClipName
from bridge.media.resampling import resample
from bridge.media.tones import WRONG_PIN
from bridge.testing.listening import Match, find, likenesses, seconds_of_tone
from bridge.testing.recording import Recording, Samples, load_wav

LIKE = 0.7
"""From this correlation on it is that recording: G.711 and a lost frame or two leave more, another recording has below 0.2."""

_FIRST_WORDS = 0.4


def clip(name: ClipName, rate: int) -> Samples:
    """One of our recorded prompts at a call's rate."""
    path = Path(bridge.media.__file__).parent / "sounds" / "en" / f"{name}.wav"
    samples, own_rate = load_wav(path)
    moved = resample(samples / 32768, own_rate, rate)
    return np.clip(np.rint(moved * 32768), -32768, 32767).astype(np.int16)


async def until_heard(heard: Recording, name: ClipName, *, since: float, within: float, seconds: float | None = None) -> float:
    """Returns the moment at which this prompt began, once it (or its first `seconds`) has been heard whole. Raises TimeoutError."""
    wanted = clip(name, heard.rate)
    if seconds is not None:
        wanted = wanted[: round(seconds * heard.rate)]
    return await _until(heard, since, within, name, find, wanted)


async def until_heard_through_webrtc(heard: Recording, name: ClipName, *, since: float, within: float) -> float:
    """The same for a whole one that came through WebRTC, stretched here and there."""
    return await _until(heard, since, within, name, _find_stretched, clip(name, heard.rate))


async def _until(
    heard: Recording, since: float, within: float, name: ClipName, look: Callable[[Samples, Samples, int], Match], wanted: Samples
) -> float:
    deadline = time.monotonic() + within
    while True:
        start = heard.position(since)
        match = await asyncio.to_thread(look, wanted, heard.samples(since=since), heard.rate)
        if match.likeness >= LIKE:
            return heard.moment(start + round(match.delay * heard.rate))
        if time.monotonic() > deadline:
            raise TimeoutError(f"the prompt {name} was not heard within {within} s (likeness {match.likeness:.2f})")
        await asyncio.sleep(0.1)


def _find_stretched(sound: Samples, within: Samples, rate: int) -> Match:
    """Found by its first words; then the least of its tenths of a second but one in ten counts for all."""
    words = find(sound[: round(_FIRST_WORDS * rate)], within, rate)
    found = sorted(likenesses(sound, within, rate, words.delay))
    return Match(words.delay, found[len(found) // 10])


def wrong_pin_seconds(heard: Recording, since: float) -> float:
    """For how long the wrong-PIN tone was heard: of its parts, the least complete one counts for all."""
    samples = heard.samples(since=since)
    parts = [part for part in WRONG_PIN if part.frequencies]
    shares = [min(1.0, seconds_of_tone(samples, heard.rate, part.frequencies[0]) / part.seconds) for part in parts]
    return min(shares) * sum(part.seconds for part in parts)
