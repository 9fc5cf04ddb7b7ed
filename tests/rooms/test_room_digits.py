"""Digits from a room that means no good."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.sparse_log import SparseLog
from bridge.rooms.room_digits import EACH_SECOND, MOST_AT_ONCE, RoomDigits


class Silent(SparseLog):
    """Counts the warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.said = 0

    def warning(self, event: str, **facts: object) -> None:
        self.said += 1


@pytest.mark.parametrize("digits", ["5", "0123456789*#", "abcdABCD", "4w2", "w" * MOST_AT_ONCE])
def test_given_digits_that_a_phone_has_then_they_are_accepted(digits: str) -> None:
    assert RoomDigits("r", Silent()).accept(digits, 0.0)


@pytest.mark.parametrize(
    "digits", ["", "x", "1;2", "e", "W", " 1", "1\n", "\x00", "٤٢", "４２", "²", "1\ufe0f\u20e3", "9" * 65, "9" * 10_240]
)
def test_given_digits_that_do_not_exist_then_none_is_accepted(digits: str) -> None:
    log = Silent()
    assert not RoomDigits("r", log).accept(digits, 0.0)
    assert log.said == 1


def test_given_a_card_number_in_a_burst_of_packets_then_all_of_it_is_accepted() -> None:
    keys = RoomDigits("r", Silent())
    assert all(keys.accept(digit, 100.0) for digit in "4000123412341234w0928#")


def test_given_a_storm_then_no_more_than_a_phone_can_take() -> None:
    log = Silent()
    keys = RoomDigits("r", log)
    accepted = sum(keys.accept("1", number / 1000) for number in range(10_000))
    assert accepted == pytest.approx(MOST_AT_ONCE + 10 * EACH_SECOND, abs=1)
    assert log.said == 10_000 - accepted


@given(st.lists(st.tuples(st.text(alphabet="159#wx٤", max_size=80), st.floats(0, 5)), max_size=50))
def test_given_any_packets_then_only_whole_ones_of_known_digits_and_never_too_many(packets: list[tuple[str, float]]) -> None:
    keys, now, accepted = RoomDigits("r", Silent()), 0.0, 0
    for digits, pause in packets:
        now += pause
        if keys.accept(digits, now):
            assert set(digits) <= set("159#w")
            accepted += len(digits)
    assert accepted <= MOST_AT_ONCE + now * EACH_SECOND + 1e-6
