"""Mixing: equal to a slow reference for any number of participants, saturating, never wrapping."""

import struct
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from bridge.rooms.mixer import everybody_else, together

SAMPLES = 8  # a short frame: the mixer does not care
samples = st.lists(st.integers(-32_768, 32_767), min_size=SAMPLES, max_size=SAMPLES)
frames = samples.map(lambda values: struct.pack(f"<{SAMPLES}h", *values))


def clipped_sum(parts: Sequence[bytes]) -> bytes | None:
    if not parts:
        return None
    sums = [sum(values) for values in zip(*(struct.unpack(f"<{SAMPLES}h", part) for part in parts), strict=True)]
    return struct.pack(f"<{SAMPLES}h", *(max(-32_768, min(32_767, value)) for value in sums))


@given(said=st.lists(st.none() | frames, max_size=9))
def test_given_any_participants_when_mixed_then_each_hears_exactly_all_others(said: list[bytes | None]) -> None:
    expected = [
        clipped_sum([frame for other, frame in enumerate(said) if other != place and frame is not None]) for place in range(len(said))
    ]
    assert everybody_else(said) == expected


@given(said=st.lists(frames, max_size=6))
def test_given_any_frames_when_put_together_then_it_is_their_clipped_sum(said: list[bytes]) -> None:
    assert together(said) == clipped_sum(said)


def test_given_three_at_full_scale_when_mixed_then_it_saturates() -> None:
    loud, low = struct.pack("<h", 32_767) * SAMPLES, struct.pack("<h", -32_768) * SAMPLES
    assert everybody_else([loud, loud, loud, None]) == [loud] * 4
    assert everybody_else([low, low, low, None]) == [low] * 4


def test_given_one_or_two_who_speak_when_mixed_then_their_very_frames_are_passed_on() -> None:
    one, two = bytes(SAMPLES * 2), b"\x01\x00" * SAMPLES
    heard = everybody_else([one, None, None])
    assert heard[0] is None
    assert heard[1] is heard[2] is one
    assert everybody_else([one, two]) == [two, one]
