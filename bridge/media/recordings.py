"""Reads the sound files operators have: WAV (PCM, float, G.711) and the PBX's raw kinds. Leaves rates and frames to others.

Python's `wave` is not enough: before 3.12 it refuses the extensible header that every tool writes for 24 bits, and always G.711.
Formats: "Multimedia Programming Interface and Data Specifications 1.0" (RIFF) and Microsoft's WAVEFORMATEXTENSIBLE; ITU-T G.711.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bridge.errors import ConfigurationError
from bridge.media.resampling import Samples

LONGEST_SECONDS = 60
_LARGEST_FILE = 64 * 1024 * 1024  # more than a minute in any form one meets (48 kHz, stereo, 32 bits: 23 MB)
_LOWEST_RATE, _HIGHEST_RATE = 4_000, 192_000
_MOST_CHANNELS = 8
_UNKNOWN_LENGTH = 0x7FFF0000  # and above: what tools that write into a pipe put down, as they cannot come back to correct it

_EXTENSIBLE = 0xFFFE
_PCM, _FLOAT, _ALAW, _ULAW = 0x0001, 0x0003, 0x0006, 0x0007
_KNOWN_COMPRESSED = {0x0002: "ADPCM", 0x0011: "ADPCM", 0x0031: "GSM", 0x0055: "MP3"}


class _Unreadable(Exception):  # noqa: N818  (told to people as a ConfigurationError that names the file)
    """Why the bytes at hand are no recording; the text goes on from "the file …"."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One channel of sound and the rate it was taken at, in Hz."""

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        return self.samples.size / self.rate


def read_recording(path: Path) -> Recording:
    """The recording in a file whose suffix is one of `SUFFIXES`, several channels averaged into one.

    Raises `ConfigurationError`, naming the file and the way out, when it is not there, broken, empty or too long.
    """
    try:
        recording = SUFFIXES[path.suffix.lower()](_content(path))
        _check_length(recording)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except _Unreadable as error:
        raise ConfigurationError(f"{path}: the file {error}. {way_out(path)}") from None
    return recording


def way_out(path: Path) -> str:
    """What to do about a sound file that cannot be played."""
    wanted = path.with_suffix(".wav").name
    return f"Make it anew as PCM WAV, at most {LONGEST_SECONDS} s long (sox ORIGINAL -r 16000 -c 1 -b 16 {wanted}), or take it away."


def _content(path: Path) -> bytes:
    if not path.is_file():  # a pipe of that name would block for ever
        raise _Unreadable("is not a regular file")
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise _Unreadable(f"is too large: {size >> 20} MiB, where {_LARGEST_FILE >> 20} MiB are allowed")
    return path.read_bytes()


def _check_length(recording: Recording) -> None:
    if not recording.samples.size:
        raise _Unreadable("is empty: there is no sound in it")
    if recording.seconds > LONGEST_SECONDS:
        raise _Unreadable(f"is too long: {recording.seconds:.1f} s, where {LONGEST_SECONDS} s are allowed")
    if not np.isfinite(recording.samples).all():
        raise _Unreadable("is broken: it holds samples that are no numbers")


@dataclass(frozen=True, slots=True)
class _WaveFormat:
    """What a `fmt ` chunk says."""

    encoding: int
    channels: int
    rate: int
    block: int  # bytes of one sample of all channels
    bits: int


def _wave(content: bytes) -> Recording:
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise _Unreadable("is no WAV file" if content else "is empty: there is no sound in it")
    wave_format: _WaveFormat | None = None
    for name, body, whole in _chunks(content):
        if name == b"fmt ":
            wave_format = _wave_format(body)
        elif name == b"data":
            if wave_format is None:
                break
            if not whole:
                raise _Unreadable("is broken: it ends before its sound does")
            return Recording(_channels_as_one(body, wave_format), wave_format.rate)
    raise _Unreadable("is broken: it has a WAV header but no sound")


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Name, body and whether the body is whole; a chunk of odd length is followed by a byte of padding."""
    at = 12
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        at += 8
        whole = size >= _UNKNOWN_LENGTH or at + size <= len(content)
        yield name, content[at : at + size], whole
        at += size + (size & 1)


def _wave_format(body: bytes) -> _WaveFormat:
    if len(body) < 16:
        raise _Unreadable("is broken: its WAV header is cut short")
    encoding, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", body)
    if encoding == _EXTENSIBLE and len(body) >= 26:
        encoding = struct.unpack_from("<H", body, 24)[0]  # the first two bytes of the sub-format's GUID
    if not (1 <= channels <= _MOST_CHANNELS and _LOWEST_RATE <= rate <= _HIGHEST_RATE and block and block % channels == 0):
        raise _Unreadable(f"is broken: its WAV header says {channels} channels, {rate} Hz, {block} bytes a sample")
    return _WaveFormat(encoding, channels, rate, block, bits)


def _channels_as_one(data: bytes, wave_format: _WaveFormat) -> Samples:
    whole = len(data) - len(data) % wave_format.block
    samples = _decode(data[:whole], wave_format.encoding, wave_format.block // wave_format.channels)
    return np.asarray(samples.reshape(-1, wave_format.channels).mean(axis=1))


def _decode(data: bytes, encoding: int, width: int) -> Samples:
    decoder = _DECODERS.get((encoding, width))
    if decoder is None:
        kind = _KNOWN_COMPRESSED.get(encoding, f"encoding {encoding:#06x}, {8 * width} bits")
        raise _Unreadable(f"is a WAV of a kind that is not played here ({kind})")
    return decoder(data)


def _numbers(data: bytes, kind: str) -> Samples:
    numbers: NDArray[Any] = np.frombuffer(data, kind)
    return numbers.astype(np.float64)


def _three_bytes(data: bytes) -> Samples:
    padded = np.zeros((len(data) // 3, 4), np.uint8)
    padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return _numbers(padded.tobytes(), "<i4") / 2**31


def _ulaw_table() -> Samples:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude) / 32768


def _alaw_table() -> Samples:
    code = np.arange(256) ^ 0x55
    segment = (code & 0x70) >> 4
    step = ((code & 0x0F) << 4) + 8
    magnitude = np.where(segment > 0, (step + 0x100) << np.maximum(segment - 1, 0), step)
    return np.where(code & 0x80, magnitude, -magnitude) / 32768


_ULAW_VALUES, _ALAW_VALUES = _ulaw_table(), _alaw_table()

_DECODERS: Final[dict[tuple[int, int], Callable[[bytes], Samples]]] = {
    (_PCM, 1): lambda data: (_numbers(data, "u1") - 128) / 128,
    (_PCM, 2): lambda data: _numbers(data, "<i2") / 2**15,
    (_PCM, 3): _three_bytes,
    (_PCM, 4): lambda data: _numbers(data, "<i4") / 2**31,
    (_FLOAT, 4): lambda data: _numbers(data, "<f4"),
    (_FLOAT, 8): lambda data: _numbers(data, "<f8"),
    (_ULAW, 1): lambda data: _ULAW_VALUES[np.frombuffer(data, np.uint8)],
    (_ALAW, 1): lambda data: _ALAW_VALUES[np.frombuffer(data, np.uint8)],
}
"""Bytes as samples of full scale ±1.0, by encoding and bytes a sample. Integer samples of one byte are unsigned."""


def _raw(encoding: int, width: int, rate: int) -> Callable[[bytes], Recording]:
    def read(content: bytes) -> Recording:
        return Recording(_decode(content[: len(content) - len(content) % width], encoding, width), rate)

    return read


SUFFIXES: Final[dict[str, Callable[[bytes], Recording]]] = {
    ".wav": _wave,
    ".sln16": _raw(_PCM, 2, 16_000),
    ".sln": _raw(_PCM, 2, 8_000),
    ".ulaw": _raw(_ULAW, 1, 8_000),
    ".alaw": _raw(_ALAW, 1, 8_000),
}
"""How each kind of file is read, best first: where a folder holds two of one name, the earlier kind here is taken.
The raw ones are Asterisk's, without a header: signed linear at 16 and 8 kHz, G.711 at 8 kHz."""
