"""Frames in other pieces: nothing lost, nothing added, and no more kept than is of use."""

import numpy as np
import pytest

from bridge.media.packing import LENGTHS, RATES, SIZES, Packing, likely_rate, nearest_rate
from bridge.media.thirdband import Tripler, Trisector


def tone(rate: int, hertz: int, samples: int) -> bytes:
    return (10_000 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype("<i2").tobytes()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_given_pieces_at_the_calls_rate_when_unpacked_and_packed_then_the_sound_is_the_same(rate: int, length: float) -> None:
    size = round(2 * rate * length)
    packing = Packing(size, rate, rate)
    sound = tone(rate, 440, rate)
    unpacked, packed = b"", b""
    for at in range(0, len(sound) - size + 1, size):
        for frame in packing.unpack(sound[at : at + size]):
            assert len(frame) == rate // 25
            unpacked += frame
            assert packing.pack(frame)
            while (piece := packing.next_piece()) is not None:
                assert len(piece) == size
                packed += piece
    assert unpacked == sound[: len(unpacked)]
    assert packed == sound[: len(packed)]
    assert len(sound) - len(packed) <= 4 * size


def test_given_nobody_who_fetches_when_frames_come_then_the_oldest_are_dropped_and_it_is_told() -> None:
    packing = Packing(960, 8_000, 8_000)
    assert [packing.pack(bytes([number]) * 320) for number in range(8)] == [True] * 4 + [False] * 4
    assert packing.next_piece() == bytes([4]) * 320 + bytes([5]) * 320 + bytes([6]) * 320


@pytest.mark.parametrize(
    ("size", "rate", "likely"),
    [(320, 8_000, 8_000), (640, 8_000, 16_000), (160, 8_000, 8_000), (480, 16_000, 8_000), (1920, 8_000, 48_000), (2880, 16_000, 48_000)],
)
def test_given_a_size_when_nothing_was_timed_then_twenty_milliseconds_are_likely(size: int, rate: int, likely: int) -> None:
    assert likely_rate(size, rate) == likely


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("error", [0.75, 1.0, 1.3])
def test_given_a_rough_pace_when_the_rate_is_asked_then_it_is_found(rate: int, length: float, error: float) -> None:
    assert nearest_rate(2 * rate * error, round(2 * rate * length)) == rate


@pytest.mark.parametrize("size", sorted(SIZES))
def test_given_any_size_when_a_rate_is_found_then_such_pieces_exist(size: int) -> None:
    for pace in (0.0, 20_000.0, 50_000.0, 1e9):
        assert size / (2 * nearest_rate(pace, size)) in LENGTHS
    assert {likely_rate(size, 8_000), likely_rate(size, 16_000)} <= set(RATES)


def test_given_a_tone_when_it_goes_to_48_khz_and_back_then_it_is_as_loud_and_seamless() -> None:
    sound = tone(16_000, 1_000, 16_000)
    up, down = Tripler(), Trisector()
    back = b"".join(down(up(sound[at : at + 640])) for at in range(0, len(sound), 640))
    heard = np.frombuffer(back, "<i2")[500:-500].astype(float)
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(10_000 / np.sqrt(2), rel=0.01)
    assert np.abs(np.diff(heard, 2)).max() < 1_700, "no click between pieces"


def test_given_what_16_khz_cannot_hold_when_it_comes_down_from_48_then_nothing_is_heard_of_it() -> None:
    down = Trisector()
    heard = np.frombuffer(down(tone(48_000, 11_000, 48_000)), "<i2")[200:].astype(float)
    assert np.abs(heard).max() < 30
