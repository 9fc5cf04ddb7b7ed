"""The sounds a node makes itself: call progress tones, the wrong-PIN tone, comfort noise. Made once, at start, for both rates.

Frequencies and cadences: ITU-T E.180 Supplement 2 (as in Asterisk's indications.conf). Levels count against a sine of full scale.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bridge.errors import ConfigurationError
from bridge.media.frames import RATES, Frames, bytes_per_frame
from bridge.media.port import ClipName

LEVEL: Final = -16.0
"""dBFS of a tone while it sounds, all its frequencies together: -13 dBm0 (0 dBm0 is 3.14 dB below full scale, ITU-T G.711)."""

COMFORT_STEPS: Final = 12
"""Comfort noise keeps within ±12 steps of 16-bit samples, below -75 dBFS: hardly heard, but not the dead silence of a broken line. G.711's
µ-law makes silence of all that is below 4 steps, and 8 of what is up to 11."""

_COMFORT_DEVIATION = 4.0

_RAMP_SECONDS = 0.005  # a raised cosine at each edge: no click
_COMFORT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Part:
    """`seconds` of these frequencies at once, in Hz; of silence where there are none. Whole frames: a multiple of 20 ms."""

    frequencies: tuple[float, ...]
    seconds: float


Pattern = tuple[Part, ...]

WRONG_PIN: Final[Pattern] = (
    Part((900,), 0.30),
    Part((), 0.06),
    Part((700,), 0.30),
    Part((), 0.06),
    Part((500,), 0.30),
    Part((), 0.06),
)
"""Three falling tones, a second in all: like no call progress tone of any country, and none of the frequencies of DTMF."""

_EUROPE: Final[dict[ClipName, Pattern]] = {
    ClipName.RINGBACK: (Part((425,), 1.0), Part((), 4.0)),
}

DIAL_TONE: Final[Pattern] = (Part((425,), 1.0), Part((), 4.0))
"""What a room hears of a phone that rings: ETSI's, as LiveKit's, whatever the region (livekit-sip-semantics.md §3.9)."""

REGIONS: Final[dict[str, dict[ClipName, Pattern]]] = {
    "us": {
        ClipName.RINGBACK: (Part((440, 480), 2.0), Part((), 4.0)),
    },
    "eu": _EUROPE,
    "de": _EUROPE,
    "uk": {
        ClipName.RINGBACK: (Part((400, 450), 0.4), Part((), 0.2), Part((400, 450), 0.4), Part((), 2.0)),
    },
}
"""Tones that callers know from home, by region."""


class Tones:
    """All tones of a region as frames. Each begins and ends at rest, so that it can be looped."""

    def __init__(self, region: str = "us") -> None:
        """Raises `ConfigurationError` for a region that is not in `REGIONS`."""
        if region not in REGIONS:
            raise ConfigurationError(f"There are no tones for the region {region!r}; there are: {', '.join(sorted(REGIONS))}.")
        patterns = {**REGIONS[region], ClipName.WRONG_PIN: WRONG_PIN, ClipName.DIAL_TONE: DIAL_TONE}
        self._frames = {(name, rate): _cut(_sound(pattern, rate), rate) for name, pattern in patterns.items() for rate in RATES}
        self._frames |= {(ClipName.COMFORT, rate): _cut(_faint_noise(rate), rate) for rate in RATES}

    def frames(self, name: ClipName, rate: int) -> Frames | None:
        """One period of a tone; None for what is speech."""
        return self._frames.get((name, rate))


def _sound(pattern: Pattern, rate: int) -> NDArray[np.int16]:
    return np.concatenate([_part(part, rate) for part in pattern])


def _part(part: Part, rate: int) -> NDArray[np.int16]:
    count = round(part.seconds * rate)
    if not part.frequencies:
        return np.zeros(count, np.int16)
    amplitude = 32767 * 10 ** (LEVEL / 20) / np.sqrt(len(part.frequencies))
    turns = 2 * np.pi * np.arange(count) / rate
    wave = amplitude * np.sum([np.sin(turns * frequency) for frequency in part.frequencies], axis=0)
    edge = round(_RAMP_SECONDS * rate)
    rise = 0.5 - 0.5 * np.cos(np.pi * np.arange(edge) / edge)
    wave[:edge] *= rise
    wave[-edge:] *= rise[::-1]
    return np.asarray(np.rint(wave), np.int16)


def _faint_noise(rate: int) -> NDArray[np.int16]:
    noise = np.random.default_rng(20).normal(0.0, _COMFORT_DEVIATION, round(_COMFORT_SECONDS * rate))
    return np.asarray(np.clip(np.rint(noise), -COMFORT_STEPS, COMFORT_STEPS), np.int16)


def _cut(samples: NDArray[np.int16], rate: int) -> Frames:
    size = bytes_per_frame(rate)
    sound = samples.astype("<i2").tobytes()
    if len(sound) % size:
        raise ValueError("a pattern's parts are whole frames")
    return tuple(sound[at : at + size] for at in range(0, len(sound), size))
