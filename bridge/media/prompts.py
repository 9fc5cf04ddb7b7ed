"""The recorded speech of a node, ready to play: the operator's recordings where there are any, ours otherwise.

All is read and converted when `Prompts` is made, before the first call and off the loop. Tones are made in `tones.py`.
"""

from pathlib import Path
from typing import Final

import numpy as np

from bridge.errors import ConfigurationError
from bridge.media.port import ClipName
from bridge.media.recordings import SUFFIXES, Recording, read_recording, way_out
from bridge.media.resampling import resample

RATES: Final = (8_000, 16_000)
SPEECH: Final = frozenset({ClipName.ENTER_PIN, ClipName.ROOM_JOIN, ClipName.UNAVAILABLE, ClipName.NO_COMPANY, ClipName.WELCOME})

_SOUNDS = Path(__file__).parent / "sounds"
_FRAMES_PER_SECOND = 50
_NOT_PLAYED_HERE = {
    ".g729",
    ".wav49",
    ".mp3",
    ".gsm",
    ".g722",
    ".ogg",
    ".oga",
    ".opus",
    ".flac",
    ".aif",
    ".aiff",
    ".m4a",
    ".aac",
    ".siren7",
    ".siren14",
}

Frames = tuple[bytes, ...]
"""20 ms each, little-endian 16-bit mono: 320 bytes at 8 kHz, 640 at 16 kHz; the last one filled up with silence."""


class Prompts:
    """What is said to callers, as frames at 8 and 16 kHz.

    `folder` is the operator's: a file there named after a clip (`enter_pin.wav`; kinds in `recordings.SUFFIXES`) takes the place of
    ours, or of the tone of that name. It is played as loud as it is. `language` names a folder of ours under `sounds`.
    Raises `ConfigurationError` for a folder, language or recording that cannot be used: at start, not in the middle of a call.
    """

    def __init__(self, folder: Path | None, language: str = "en") -> None:
        self._overrides = _of_the_operator(folder) if folder is not None else {}
        self._ours = _of_ours(language)

    def frames(self, name: ClipName, rate: int) -> Frames:
        """A clip of speech at 8000 or 16000 Hz, the operator's before ours. Raises ValueError for a clip that is a tone of ours."""
        _check_rate(rate)
        frames = self._overrides.get((name, rate)) or self._ours.get((name, rate))
        if frames is None:
            raise ValueError(f"{name} is a tone, and there is no recording in its place")
        return frames

    def override(self, name: ClipName, rate: int) -> Frames | None:
        """The operator's recording for any clip, tones too; None where they left it as it is."""
        _check_rate(rate)
        return self._overrides.get((name, rate))


def _check_rate(rate: int) -> None:
    if rate not in RATES:
        raise ValueError(f"a call runs at one of {RATES} Hz, not at {rate}")


def _of_ours(language: str) -> dict[tuple[ClipName, int], Frames]:
    languages = sorted(each.name for each in _SOUNDS.iterdir() if each.is_dir())
    if language not in languages:
        raise ConfigurationError(f"There are no prompts in the language {language!r}; there are: {', '.join(languages)}.")
    return _at_all_rates({name: read_recording(_SOUNDS / language / f"{name}.wav") for name in SPEECH})


def _of_the_operator(folder: Path) -> dict[tuple[ClipName, int], Frames]:
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigurationError(f"{folder}: the folder of prompts cannot be read: {error.strerror or error}.") from error
    chosen = {name: _best(name, files) for name in ClipName}
    return _at_all_rates({name: read_recording(path) for name, path in chosen.items() if path is not None})


def _best(name: ClipName, files: list[Path]) -> Path | None:
    """The file to play for a clip. One of a kind that we cannot play is an error: the operator would wonder why ours is heard."""
    by_suffix = {path.suffix.lower(): path for path in files if path.stem == name}
    for suffix in SUFFIXES:
        if suffix in by_suffix:
            return by_suffix[suffix]
    for suffix in _NOT_PLAYED_HERE & by_suffix.keys():
        path = by_suffix[suffix]
        raise ConfigurationError(f"{path}: files of the kind {suffix} are not played here. {way_out(path)}")
    return None


def _at_all_rates(recordings: dict[ClipName, Recording]) -> dict[tuple[ClipName, int], Frames]:
    return {(name, rate): _frames(recording, rate) for name, recording in recordings.items() for rate in RATES}


def _frames(recording: Recording, rate: int) -> Frames:
    samples = resample(recording.samples, recording.rate, rate)
    per_frame = rate // _FRAMES_PER_SECOND
    whole = np.zeros(-(-samples.size // per_frame) * per_frame)
    whole[: samples.size] = samples
    data = np.clip(np.rint(whole * 32768), -32768, 32767).astype("<i2").tobytes()
    return tuple(data[at : at + 2 * per_frame] for at in range(0, len(data), 2 * per_frame))
