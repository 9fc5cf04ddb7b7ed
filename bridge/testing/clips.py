"""Recognising what Roomline plays in what a caller heard: its recorded prompts and its wrong-PIN tone."""

import asyncio
import time
from pathlib import Path

import numpy as np

import bridge.media
from bridge.media.port import ClipName
from bridge.media.resampling import resample
from bridge.media.tones import WRONG_PIN
from bridge.testing.listening import find, seconds_of_tone
from bridge.testing.recording import Recording, Samples, load_wav

LIKE = 0.7
"""From this correlation on it is that recording: G.711 and a lost frame or two leave more, another recording has below 0.2."""


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
    deadline = time.monotonic() + within
    while True:
        start = heard.position(since)
        match = await asyncio.to_thread(find, wanted, heard.samples(since=since), heard.rate)
        if match.likeness >= LIKE:
            return heard.moment(start + round(match.delay * heard.rate))
        if time.monotonic() > deadline:
            raise TimeoutError(f"the prompt {name} was not heard within {within} s (likeness {match.likeness:.2f})")
        await asyncio.sleep(0.1)


def wrong_pin_seconds(heard: Recording, since: float) -> float:
    """For how long the wrong-PIN tone was heard: of its parts, the least complete one counts for all."""
    samples = heard.samples(since=since)
    parts = [part for part in WRONG_PIN if part.frequencies]
    shares = [min(1.0, seconds_of_tone(samples, heard.rate, part.frequencies[0]) / part.seconds) for part in parts]
    return min(shares) * sum(part.seconds for part in parts)
