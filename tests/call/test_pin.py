"""The PIN dialogue's state machine: keys and time in, decisions out."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.call.options import PinOptions
from bridge.call.pin import MAX_LENGTH, Entered, Failure, PinEntry


def enter(keys: str, now: float = 0.0) -> Entered | Failure | None:
    entry = PinEntry(PinOptions())
    for key in keys:
        outcome = entry.key(key, now)
        if outcome is not None:
            return outcome
    return None


def test_given_digits_when_hash_is_pressed_then_they_are_entered() -> None:
    assert enter("1234#") == Entered("1234")
    assert enter("0*9#") == Entered("0*9")
    assert enter("ABCDabcd#") == Entered("abcdabcd")


def test_given_hash_alone_then_the_entry_is_empty() -> None:
    assert enter("#") == Entered("")


def test_given_sixteen_characters_then_they_are_entered_and_the_seventeenth_fails() -> None:
    assert enter("1" * 16 + "#") == Entered("1" * 16)
    assert enter("1" * 16) is None
    assert enter("1" * 17) is Failure.TOO_LONG


def test_given_keys_a_telephone_does_not_have_then_they_are_ignored() -> None:
    assert enter("1x\0é 2#") == Entered("12")


def test_given_a_prompt_that_plays_then_no_time_runs() -> None:
    entry = PinEntry(PinOptions())
    assert entry.deadline is None
    assert entry.time(1e9) is None
    entry.prompt_ended(100.0)
    assert entry.deadline == 110.0
    assert entry.time(109.9) is None
    assert entry.time(110.0) is Failure.TOO_SLOW


def test_given_a_key_in_the_prompt_then_it_counts_and_the_prompt_may_stop() -> None:
    entry = PinEntry(PinOptions())
    assert not entry.started
    assert entry.key("7", 3.0) is None
    assert entry.started
    assert entry.deadline == 8.0
    # The prompt's own end does not give more time.
    entry.prompt_ended(4.0)
    assert entry.deadline == 8.0


def test_given_slow_digits_then_each_gives_its_own_time() -> None:
    entry = PinEntry(PinOptions(first_digit_timeout=10, digit_timeout=5))
    entry.prompt_ended(0.0)
    for number in range(8):
        assert entry.time(9.9 + 4.9 * number) is None
        assert entry.key("1", 9.9 + 4.9 * number) is None
    assert entry.time(9.9 + 4.9 * 7 + 5.0) is Failure.TOO_SLOW


def test_given_an_entry_then_nobody_is_shown_its_digits() -> None:
    entry = PinEntry(PinOptions())
    for key in "735190":
        entry.key(key, 0.0)
    assert "7" not in repr(entry)
    assert "735190" not in repr(entry.key("#", 0.0))


@given(keys=st.text(max_size=200))
def test_given_any_storm_of_keys_then_the_entry_stays_bounded(keys: str) -> None:
    entry, pressed = PinEntry(PinOptions()), 0
    for key in keys:
        outcome = entry.key(key, 0.0)
        if outcome is not None:
            assert pressed <= MAX_LENGTH
            assert isinstance(outcome, Failure) or len(outcome.pin) == pressed
            return
        pressed += key in "0123456789*abcdABCD"
    assert pressed <= MAX_LENGTH
