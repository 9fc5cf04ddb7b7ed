"""Measuring sound: tones, speech and silence, delays. Pure functions on 16-bit mono samples; no call, no clock.

Levels are in dBFS by RMS: a full-scale sine is −3.0, silence −inf.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.media.resampling import resample
from bridge.testing.recording import Recording, Samples

_FULL_SCALE = 32768.0
FRAME = 0.02
"""Seconds of a frame, on the phone's side and in WebRTC."""
WHOLE = 0.75
"""A frame that is less like what was said is lost: what G.711 and Opus leave whole is like it by 0.97, half of one hardly by 0.7."""
_STRAY = 0.08
_FINE = 32_000
SILENCE_DB = -50.0
"""What counts as silence: below the noise that G.711 makes of speech, above its idle channel."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of sound, in seconds from the first sample."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Pitch:
    """The strongest frequency in one window that starts `at` seconds; `share` of the window's energy lies there (0–1)."""

    at: float
    hz: float
    level: float
    share: float


@dataclass(frozen=True, slots=True)
class Match:
    """Where a known sound was found: `delay` in seconds, `likeness` is the normalised correlation there (1: the same)."""

    delay: float
    likeness: float


def level(samples: Samples) -> float:
    """dBFS of the whole."""
    if not len(samples):
        return -math.inf
    power = float(np.mean(np.square(samples.astype(np.float64)))) / _FULL_SCALE**2
    return 10 * math.log10(power) if power else -math.inf


def tone_level(samples: Samples, rate: int, hz: float) -> float:
    """dBFS of what sounds at this very frequency (Goertzel; as sharp as the stretch is long: ± 1/seconds Hz)."""
    if not len(samples):
        return -math.inf
    turns = np.exp(-2j * np.pi * hz / rate * np.arange(len(samples)))
    amplitude = 2 * abs(complex(np.dot(samples.astype(np.float64), turns))) / len(samples) / _FULL_SCALE
    return 20 * math.log10(amplitude / math.sqrt(2)) if amplitude else -math.inf


def tone_share(samples: Samples, rate: int, frequencies: Sequence[float], width: float = 15.0) -> float:
    """The share (0–1) of the energy that lies within `width` Hz of these frequencies."""
    power, step = _spectrum(samples, rate)
    total = float(power.sum())
    if not total:
        return 0.0
    bins = np.arange(len(power)) * step
    near = np.zeros(len(power), bool)
    for hz in frequencies:
        near |= np.abs(bins - hz) <= max(width, 1.5 * step)
    return float(power[near].sum()) / total


def is_tone(samples: Samples, rate: int, frequencies: Sequence[float]) -> bool:
    """Whether these frequencies, each of them audible, are what is heard, and hardly anything else."""
    heard = level(samples) > SILENCE_DB and tone_share(samples, rate, frequencies) > 0.9
    return heard and all(tone_level(samples, rate, hz) > SILENCE_DB for hz in frequencies)


def dominant_frequency(samples: Samples, rate: int) -> float:
    """Hz of the strongest component, between the spectrum's steps by interpolation; 0 for silence."""
    power, step = _spectrum(samples, rate)
    peak = int(power.argmax()) if len(power) else 0
    if peak in (0, len(power) - 1) or not power[peak]:
        return peak * step
    left, middle, right = np.log(power[peak - 1 : peak + 2] + 1e-12)
    bend = left - 2 * middle + right
    return float((peak + (0.5 * (left - right) / bend if bend else 0.0)) * step)


def pitches(samples: Samples, rate: int, window: float = 0.040) -> list[Pitch]:
    """The dominant frequency over time, one entry per window; 0 Hz where it is silent."""
    size = round(window * rate)
    found = []
    for start in range(0, len(samples) - size + 1, size):
        piece = samples[start : start + size]
        loud = level(piece)
        hz = dominant_frequency(piece, rate) if loud > SILENCE_DB else 0.0
        found.append(Pitch(start / rate, hz, loud, tone_share(piece, rate, [hz], 1.5 / window) if hz else 0.0))
    return found


def seconds_of_tone(samples: Samples, rate: int, hz: float, tolerance: float = 12.0) -> float:
    """For how long, windows of 40 ms added up, this frequency is what is heard."""
    window = 0.040
    return window * sum(1 for pitch in pitches(samples, rate, window) if pitch.share > 0.8 and abs(pitch.hz - hz) <= tolerance)


def segments(samples: Samples, rate: int, *, threshold: float = SILENCE_DB, bridge: float = 0.25, shortest: float = 0.04) -> list[Segment]:
    """The stretches louder than `threshold`; pauses shorter than `bridge` seconds do not part them, clicks shorter than `shortest`
    do not count. Resolution 10 ms."""
    size = rate // 100
    count = len(samples) // size
    if not count:
        return []
    power = np.square(samples[: count * size].astype(np.float64).reshape(count, size)).mean(axis=1)
    loud = power > _FULL_SCALE**2 * 10 ** (threshold / 10)
    found: list[Segment] = []
    for start, end in _runs(loud):
        if found and (start - round(found[-1].end * 100)) / 100 < bridge:
            found[-1] = Segment(found[-1].start, end / 100)
        else:
            found.append(Segment(start / 100, end / 100))
    return [segment for segment in found if segment.seconds >= shortest]


def longest_silence(samples: Samples, rate: int, *, threshold: float = SILENCE_DB) -> float:
    """Seconds, the beginning and the end included."""
    edges = [0.0]
    for segment in segments(samples, rate, threshold=threshold, bridge=0.0):
        edges += [segment.start, segment.end]
    edges.append(len(samples) / rate)
    return max(end - start for start, end in zip(edges[::2], edges[1::2], strict=True))


def find(sound: Samples, within: Samples, rate: int) -> Match:
    """Where in `within` the `sound` begins, by normalised cross-correlation. The best place, however unlike: look at `likeness`."""
    if not len(sound) or len(within) < len(sound):
        return Match(0.0, 0.0)
    needle = sound.astype(np.float64) - float(sound.mean())
    hay = within.astype(np.float64) - float(within.mean())
    size = 1 << (len(hay) + len(needle) - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(hay, size) * np.conj(np.fft.rfft(needle, size)), size)[: len(hay) - len(needle) + 1]
    sums = np.concatenate(([0.0], np.cumsum(np.square(hay))))
    energies = sums[len(needle) :] - sums[: len(sums) - len(needle)]
    # A place that is all but silent matches anything: it must hold at least a thousandth of the sound's own energy.
    floor = float(np.square(needle).sum()) * 1e-3
    likeness = products / np.sqrt(np.maximum(energies, floor) * float(np.square(needle).sum()) + 1e-9)
    best = int(likeness.argmax())
    return Match(best / rate, float(likeness[best]))


def likenesses(sound: Samples, within: Samples, rate: int, at: float, *, piece: float = 0.1, stray: float = 0.06) -> list[float]:
    """How much each piece of the sound (seconds, in order; silent ones are left out) is like what is heard within `stray` seconds of its
    place, when the sound begins `at` seconds. A WebRTC receiver stretches what it hears to its own clock, so that a long stretch fits
    nowhere, but leaves nothing out."""
    size, margin = round(piece * rate), round(stray * rate)
    found = []
    for start in range(0, len(sound) - size + 1, size):
        wanted = sound[start : start + size]
        if level(wanted) > SILENCE_DB:
            place = round(at * rate) + start
            found.append(find(wanted, within[max(0, place - margin) : place + size + margin], rate).likeness)
    return found


def lost_share(sweep: Samples, heard: Samples, rate: int) -> float:
    """Of the 20 ms frames of this sweep, said over and over: the share that does not arrive as it was said, be it missing, left out, or
    filled in with something else. Raises ValueError when it is not heard at all.

    The sweep is looked for anew each time it begins, and each frame near its place, so that a receiver may stretch it to its own clock.
    Frames are cut at two offsets, as nothing says where the sender's own began: a lost one counts as 0.9 to 1.6, by how it lies and what
    takes its place, and never less (tests/testing/test_listening.py). All is looked at at 32 kHz: at 8 kHz half a sample is the fifth of a
    period of 3 kHz, and what lies between two samples is like neither.
    """
    sweep, heard, rate = _at_rate(sweep, rate, _FINE), _at_rate(heard, rate, _FINE), _FINE
    seconds = len(sweep) / rate
    at = find(sweep, heard[: 2 * len(sweep)], rate).delay
    found: list[float] = []
    while (at + seconds + _STRAY) * rate < len(heard):
        for offset in (0.0, FRAME / 2):
            found += likenesses(sweep[round(offset * rate) :], heard, rate, at + offset, piece=FRAME, stray=_STRAY)
        begin = max(0, round((at + seconds - 2 * _STRAY) * rate))
        next_sweep = find(sweep, heard[begin : round((at + 2 * (seconds + _STRAY)) * rate)], rate)
        at = begin / rate + next_sweep.delay
    if not found:
        raise ValueError("there is not a whole sweep to be heard")
    return sum(like < WHOLE for like in found) / len(found)


def round_trip(said: Recording, heard: Recording, since: float, seconds: float = 1.5, longest: float = 1.0) -> Match:
    """How long what was said from the moment `since` (`time.monotonic`) for `seconds` took to come back (`longest` at most)."""
    first = said.position(since)
    sound = said.samples()[first : first + round(seconds * said.rate)]
    if not heard.frames:
        return Match(0.0, 0.0)
    begin = heard.position(since)
    within = heard.samples()[begin : begin + len(sound) + round(longest * heard.rate)]
    match = find(sound, within, said.rate)
    arrived = heard.moment(begin + round(match.delay * heard.rate))
    return Match(arrived - said.moment(first), match.likeness)


def tone(rate: int, seconds: float, frequencies: Sequence[float], decibels: float = -12.0) -> Samples:
    """Sines of equal strength that sum up to this level; 5 ms ramps at both ends."""
    times = np.arange(round(seconds * rate)) / rate
    amplitude = _FULL_SCALE * 10 ** (decibels / 20) * math.sqrt(2 / len(frequencies))
    wave = sum((amplitude * np.sin(2 * np.pi * hz * times) for hz in frequencies), np.zeros(len(times)))
    return _ramped(wave, rate)


def chirp(rate: int, seconds: float, low: float = 400.0, high: float = 3000.0, decibels: float = -12.0) -> Samples:
    """A sweep, unlike itself at every other moment: what delays are measured with."""
    times = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (low * times + (high - low) * np.square(times) / (2 * seconds))
    return _ramped(_FULL_SCALE * 10 ** (decibels / 20) * math.sqrt(2) * np.sin(phase), rate)


def _at_rate(samples: Samples, rate: int, wanted: int) -> Samples:
    return np.clip(np.rint(resample(samples.astype(np.float64), rate, wanted)), -32768, 32767).astype(np.int16)


def _ramped(wave: NDArray[np.float64], rate: int) -> Samples:
    ramp = np.minimum(1.0, np.arange(1, len(wave) + 1) / (0.005 * rate))
    shaped = wave * ramp * ramp[::-1]
    return np.clip(shaped, -32768, 32767).astype(np.int16)


def _spectrum(samples: Samples, rate: int) -> tuple[NDArray[np.float64], float]:
    """Power per bin and the bins' distance in Hz; a constant offset does not count."""
    if not len(samples):
        return np.zeros(0), 1.0
    shaped = (samples.astype(np.float64) - float(samples.mean())) * np.hanning(len(samples))
    size = max(len(samples), 1)
    return np.square(np.abs(np.fft.rfft(shaped, size))), rate / size


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
