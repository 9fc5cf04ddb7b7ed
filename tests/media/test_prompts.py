"""What the prompts promise: our recordings as they should be, the operator's in their place, any kind of file or a clear error."""

import struct
import subprocess
import sys
import tomllib
import wave
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge.media.prompts
from bridge.errors import ConfigurationError
from bridge.media.port import ClipName
from bridge.media.prompts import RATES, SPEECH, Prompts
from bridge.media.recordings import LONGEST_SECONDS, SUFFIXES, read_recording
from bridge.media.resampling import Samples, resample

ENGLISH = Path(bridge.media.prompts.__file__).parent / "sounds" / "en"

PCM, FLOAT, ALAW, ULAW, GSM = 1, 3, 6, 7, 0x31


def tone(frequency: float, rate: int, seconds: float = 0.5, level: float = 0.5) -> Samples:
    return np.asarray(level * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate))


def level_at(samples: Samples, frequency: float, rate: int) -> float:
    """Amplitude of one frequency in the middle of the recording, away from its abrupt ends."""
    middle = samples[samples.size // 4 : -samples.size // 4]
    turns = np.exp(-2j * np.pi * frequency * np.arange(middle.size) / rate)
    window = np.hanning(middle.size)
    return float(2 * np.abs(np.sum(middle * window * turns)) / np.sum(window))


def decibels(ratio: float) -> float:
    return float(20 * np.log10(max(ratio, 1e-12)))


def packed(samples: Samples, bits: int) -> bytes:
    if bits == 8:
        return bytes(np.rint(samples * 127 + 128).astype("u1"))
    if bits == 24:
        four_bytes = np.rint(samples * (2**23 - 1)).astype("<i4").tobytes()
        return b"".join(four_bytes[at : at + 3] for at in range(0, len(four_bytes), 4))
    return bytes(np.rint(samples * (2 ** (bits - 1) - 1)).astype(f"<i{bits // 8}").data)


def wav(data: bytes, rate: int, *, bits: int = 16, channels: int = 1, encoding: int = PCM, extensible: bool = False) -> bytes:
    block = bits // 8 * channels
    kind = 0xFFFE if extensible else encoding
    header = struct.pack("<HHIIHH", kind, channels, rate, rate * block, block, bits)
    if extensible:
        header += struct.pack("<HHIH", 22, bits, 0, encoding) + bytes.fromhex("000000001000800000aa00389b71")
    body = (
        b"fmt " + struct.pack("<I", len(header)) + header + b"LIST\x03\x00\x00\x00odd\x00" + b"data" + struct.pack("<I", len(data)) + data
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def heard(frames: Sequence[bytes]) -> Samples:
    return np.frombuffer(b"".join(frames), "<i2") / 32768


# --- our own recordings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SPEECH))
def test_given_no_folder_when_a_prompt_is_asked_for_then_ours_comes_in_frames_of_20_ms(name: ClipName) -> None:
    prompts = Prompts(None)
    for rate in RATES:
        frames = prompts.frames(name, rate)
        assert {len(frame) for frame in frames} == {rate // 50 * 2}
        assert 1.0 < len(frames) / 50 < 6.0
        assert frames is prompts.frames(name, rate), "converted once"
        assert prompts.override(name, rate) is None


@pytest.mark.parametrize("name", sorted(SPEECH))
def test_given_our_recordings_when_measured_then_they_are_fit_for_the_telephone(name: ClipName) -> None:
    with wave.open(str(ENGLISH / f"{name}.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    pieces = np.sqrt(np.mean(samples[: samples.size // 160 * 160].reshape(-1, 160) ** 2, axis=1))  # 10 ms each
    spoken = np.flatnonzero(pieces > pieces.max() * 10 ** (-45 / 20))
    active = pieces[pieces > pieces.max() * 10 ** (-25 / 20)]
    assert spoken[0] <= 5, "at most 50 ms of silence in front"
    assert pieces.size - 1 - spoken[-1] <= 15, "at most 150 ms behind"
    assert -23.0 < decibels(float(np.sqrt(np.mean(active**2)))) < -19.0
    assert decibels(float(np.abs(samples).max())) <= -2.99
    assert abs(samples.mean()) < 1e-3, "no direct current"
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(samples.size, 1 / 16_000)
    assert spectrum[frequencies < 40].sum() < 1e-4 * spectrum.sum(), "no rumble"
    assert spectrum[(frequencies > 300) & (frequencies < 3400)].sum() > 0.3 * spectrum.sum(), "telephones pass 300–3400 Hz only"


def test_given_the_script_when_read_then_it_says_every_prompt_and_asks_for_the_pin_in_livekits_words() -> None:
    texts = tomllib.loads((ENGLISH / "prompts.toml").read_text())["texts"]
    assert set(texts) == SPEECH
    assert texts["enter_pin"] == "Please enter room pin and press hash to confirm."
    assert {path.stem for path in ENGLISH.glob("*.wav")} == SPEECH


def test_given_the_tool_that_makes_them_when_the_voice_is_not_installed_then_it_says_what_to_install(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tools.make_prompts", str(ENGLISH), "--voices", str(tmp_path / "none.tgz")],
        cwd=Path(bridge.__file__).parent.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "is missing: pip install -r tools/make_prompts.requirements.txt" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_given_a_language_that_is_not_there_when_prompts_are_made_then_the_error_names_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=r"'tlh'.*there are: en"):
        Prompts(None, "tlh")
    with pytest.raises(ConfigurationError):
        Prompts(None, "../sounds/en")


def test_given_a_tone_or_a_rate_no_call_has_when_asked_for_then_the_mistake_is_named() -> None:
    prompts = Prompts(None)
    with pytest.raises(ValueError, match="ringback is a tone"):
        prompts.frames(ClipName.RINGBACK, 8_000)
    with pytest.raises(ValueError, match="not at 44100"):
        prompts.frames(ClipName.WELCOME, 44_100)


# --- the operator's -----------------------------------------------------------------------------------------------------


def test_given_an_operators_file_when_its_prompt_is_asked_for_then_theirs_is_played_and_the_others_stay_ours(
    tmp_path: Path,
) -> None:
    (tmp_path / "enter_pin.wav").write_bytes(wav(packed(tone(440, 16_000, 0.103), 16), 16_000))
    (tmp_path / "unrelated.wav").write_bytes(b"never looked at")
    prompts = Prompts(tmp_path)
    for rate in RATES:
        frames = prompts.frames(ClipName.ENTER_PIN, rate)
        assert frames == prompts.override(ClipName.ENTER_PIN, rate)
        assert len(frames) == 6, "103 ms: five whole frames and one filled up"
        assert frames[-1].endswith(bytes(rate // 50 * 2 - 2 * (rate * 3 // 1000) - 2)), "with silence"
        assert prompts.frames(ClipName.WELCOME, rate) == Prompts(None).frames(ClipName.WELCOME, rate)


def test_given_an_operators_file_named_after_a_tone_when_asked_for_then_it_wins(tmp_path: Path) -> None:
    (tmp_path / "ringback.wav").write_bytes(wav(packed(tone(440, 8_000), 16), 8_000))
    prompts = Prompts(tmp_path)
    for rate in RATES:
        frames = prompts.override(ClipName.RINGBACK, rate)
        assert frames is not None
        assert frames == prompts.frames(ClipName.RINGBACK, rate)
        assert level_at(heard(frames), 440, rate) == pytest.approx(0.5, rel=0.01)
    assert prompts.override(ClipName.WRONG_PIN, 8_000) is None


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2])
def test_given_any_common_wav_when_loaded_then_pitch_level_and_length_are_kept(tmp_path: Path, rate: int, bits: int, channels: int) -> None:
    samples = np.repeat(tone(1000, rate), channels)
    (tmp_path / "welcome.wav").write_bytes(wav(packed(samples, bits), rate, bits=bits, channels=channels, extensible=bits == 24))
    prompts = Prompts(tmp_path)
    for target in RATES:
        frames = prompts.frames(ClipName.WELCOME, target)
        assert len(frames) == 25
        assert abs(decibels(level_at(heard(frames), 1000, target) / 0.5)) < 0.2


def test_given_two_channels_when_loaded_then_they_are_averaged(tmp_path: Path) -> None:
    samples = np.stack([tone(1000, 8_000), np.zeros(4000)], axis=1).ravel()
    (tmp_path / "welcome.wav").write_bytes(wav(packed(samples, 16), 8_000, channels=2))
    assert level_at(heard(Prompts(tmp_path).frames(ClipName.WELCOME, 8_000)), 1000, 8_000) == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("width", [4, 8])
def test_given_a_wav_of_floats_when_loaded_then_it_is_played_and_what_exceeds_full_scale_is_clipped(tmp_path: Path, width: int) -> None:
    data = tone(1000, 8_000, level=2.0).astype(f"<f{width}").tobytes()
    (tmp_path / "welcome.wav").write_bytes(wav(data, 8_000, bits=8 * width, encoding=FLOAT))
    samples = np.frombuffer(b"".join(Prompts(tmp_path).frames(ClipName.WELCOME, 8_000)), "<i2")
    assert (samples.min(), samples.max()) == (-32768, 32767)


# Reference points of ITU-T G.711 (16-bit scale): quietest and loudest codes of either sign.
@pytest.mark.parametrize(
    ("suffix", "encoding", "points"),
    [
        (".ulaw", ULAW, {0xFF: 0, 0x7F: 0, 0x80: 32124, 0x00: -32124, 0xFE: 8, 0x7E: -8, 0xF0: 120, 0xEF: 132}),
        (".alaw", ALAW, {0xD5: 8, 0x55: -8, 0xAA: 32256, 0x2A: -32256, 0xC5: 264, 0x45: -264, 0xDA: 248, 0xF5: 528}),
    ],
)
def test_given_g711_when_read_then_its_codes_mean_what_the_standard_says(
    tmp_path: Path, suffix: str, encoding: int, points: dict[int, int]
) -> None:
    raw, in_wav = tmp_path / f"a{suffix}", tmp_path / "a.wav"
    raw.write_bytes(bytes(points))
    in_wav.write_bytes(wav(bytes(points), 8_000, bits=8, encoding=encoding))
    for path in (raw, in_wav):
        recording = read_recording(path)
        assert recording.rate == 8_000
        assert list(recording.samples * 32768) == list(points.values())


@pytest.mark.parametrize(("suffix", "rate"), [(".sln", 8_000), (".sln16", 16_000)])
def test_given_a_pbxs_raw_signed_linear_when_loaded_then_it_is_played(tmp_path: Path, suffix: str, rate: int) -> None:
    (tmp_path / f"welcome{suffix}").write_bytes(packed(tone(1000, rate), 16))
    assert level_at(heard(Prompts(tmp_path).frames(ClipName.WELCOME, 8_000)), 1000, 8_000) == pytest.approx(0.5, rel=0.01)


def test_given_one_prompt_in_two_kinds_when_loaded_then_the_better_kind_is_taken(tmp_path: Path) -> None:
    (tmp_path / "welcome.ulaw").write_bytes(b"\xff" * 8_000)
    (tmp_path / "welcome.gsm").write_bytes(b"for the PBX")
    (tmp_path / "welcome.wav").write_bytes(wav(packed(tone(1000, 16_000), 16), 16_000))
    assert level_at(heard(Prompts(tmp_path).frames(ClipName.WELCOME, 8_000)), 1000, 8_000) == pytest.approx(0.5, rel=0.01)


def test_given_a_wav_written_into_a_pipe_when_loaded_then_its_unknown_length_is_no_matter(tmp_path: Path) -> None:
    whole = wav(packed(tone(1000, 16_000), 16), 16_000)
    at = whole.index(b"data") + 4
    (tmp_path / "welcome.wav").write_bytes(whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :])
    assert len(Prompts(tmp_path).frames(ClipName.WELCOME, 16_000)) == 25


# --- files that cannot be played ----------------------------------------------------------------------------------------

GOOD = wav(packed(tone(1000, 8_000), 16), 8_000)


UNPLAYABLE = [
    ("enter_pin.wav", b"", "is empty"),
    ("enter_pin.wav", b"ID3 this is an mp3 with another name", "is no WAV file"),
    ("enter_pin.wav", GOOD[:30], "WAV header is cut short"),
    ("enter_pin.wav", GOOD[:40], "a WAV header but no sound"),
    ("enter_pin.wav", GOOD[:-400], "ends before its sound does"),
    ("enter_pin.wav", wav(b"", 8_000), "is empty"),
    ("enter_pin.wav", wav(b"\0" * 33, 8_000, bits=8, encoding=GSM), r"not played here \(GSM\)"),
    ("enter_pin.wav", wav(b"\0" * 32, 8_000, bits=16, encoding=FLOAT), r"not played here \(encoding 0x0003, 16 bits\)"),
    ("enter_pin.wav", wav(b"\0" * 32, 0), "header says 1 channels, 0 Hz"),
    ("enter_pin.wav", wav(b"\0" * 32, 8_000, channels=0), "header says 0 channels"),
    ("enter_pin.wav", wav(b"\x00\x00\xc0\x7f" * 9, 8_000, bits=32, encoding=FLOAT), "no numbers"),
    ("enter_pin.wav", wav(bytes(2 * 8_000 * LONGEST_SECONDS + 2), 8_000), "is too long: 60.0 s, where 60 s"),
    ("enter_pin.ulaw", b"\xff" * (8_000 * LONGEST_SECONDS + 800), "is too long: 60.1 s"),
    ("enter_pin.sln", b"", "is empty"),
    ("enter_pin.mp3", b"ID3", "of the kind .mp3 are not played here"),
    ("ringback.GSM", b"", "of the kind .gsm are not played here"),
]


@pytest.mark.parametrize(("name", "content", "why"), UNPLAYABLE, ids=[f"{name} {why}" for name, _, why in UNPLAYABLE])
def test_given_a_file_that_cannot_be_played_when_loaded_then_the_error_names_it_and_the_way_out(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=why) as raised:
        Prompts(tmp_path)
    text = str(raised.value)
    assert text.startswith(f"{tmp_path / name}: ")
    assert f"sox ORIGINAL -r 16000 -c 1 -b 16 {Path(name).stem}.wav" in text


def test_given_a_file_far_too_large_when_loaded_then_it_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "welcome.sln").open("wb") as file:
        file.truncate(1 << 33)  # sparse: eight gigabytes of nothing
    with pytest.raises(ConfigurationError, match="is too large: 8192 MiB"):
        Prompts(tmp_path)


def test_given_a_folder_in_a_files_place_or_none_in_the_folders_when_loaded_then_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "welcome.wav").mkdir()
    with pytest.raises(ConfigurationError, match="is not a regular file"):
        Prompts(tmp_path)
    with pytest.raises(ConfigurationError, match="folder of prompts cannot be read: No such file"):
        Prompts(tmp_path / "nowhere")


@given(content=st.binary(max_size=200), suffix=st.sampled_from(sorted(SUFFIXES)), cut=st.integers(0, len(GOOD)))
def test_given_any_bytes_when_read_then_a_recording_or_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str, cut: int
) -> None:
    path = tmp_path_factory.mktemp("any") / f"welcome{suffix}"
    for candidate in (content, GOOD[: min(cut, 60)] + content):
        path.write_bytes(candidate)
        try:
            recording = read_recording(path)
        except ConfigurationError:
            continue
        assert recording.samples.size > 0
        assert np.isfinite(recording.samples).all()


# --- resampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency", [4_050, 5_000, 6_500, 7_500])
def test_given_a_tone_above_what_8_khz_holds_when_resampled_then_it_is_gone_and_not_folded_back(frequency: int) -> None:
    converted = resample(tone(frequency, 16_000, seconds=2.0), 16_000, 8_000)
    middle = converted[converted.size // 4 : -converted.size // 4]
    assert decibels(float(np.sqrt(2 * np.mean(middle**2))) / 0.5) < -80
    assert decibels(float(np.sqrt(2 * np.mean(converted**2))) / 0.5) < -40, "with its abrupt ends, which hold every frequency"


@pytest.mark.parametrize("source", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("target", RATES)
@pytest.mark.parametrize("frequency", [100, 1_000, 3_400])
def test_given_a_tone_the_telephone_passes_when_resampled_then_its_level_is_kept(source: int, target: int, frequency: int) -> None:
    converted = resample(tone(frequency, source), source, target)
    assert converted.size == ceil(source // 2 * target / source)
    assert abs(decibels(level_at(converted, frequency, target) / 0.5)) < 0.1


def test_given_a_click_when_resampled_then_it_stays_in_its_place_and_does_not_ring_round_the_ends() -> None:
    for at in (0, 4_000, 7_998):
        click = np.zeros(8_000)
        click[at] = 1.0
        converted = resample(click, 16_000, 8_000)
        assert int(np.abs(converted).argmax()) == at // 2
        far = np.abs(np.arange(converted.size) - at / 2) > 200
        assert np.abs(converted[far]).max() < 1e-4


@given(size=st.integers(0, 5_000), source=st.sampled_from([8_000, 11_025, 16_000, 44_100]), target=st.sampled_from(RATES))
def test_given_any_length_when_resampled_then_no_sample_is_lost_or_added(size: int, source: int, target: int) -> None:
    assert resample(np.ones(size), source, target).size == -(-size * target // source)
