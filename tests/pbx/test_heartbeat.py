"""Who commands a PBX, by the words in it."""

import pytest

from bridge.pbx.heartbeat import Heartbeat


@pytest.mark.parametrize(("there", "epoch"), [("", "1"), ("nonsense", "1"), ("7:a:3", "8"), ("9999999999:a:1", "1")])
def test_given_what_is_there_when_we_come_then_our_epoch_is_the_next_one(there: str, epoch: str) -> None:
    value = Heartbeat().after(there)
    assert value is not None
    assert value.split(":")[::2] == [epoch, "1"]


def test_given_our_own_word_or_none_then_it_counts_on_in_its_epoch() -> None:
    heart = Heartbeat()
    first = heart.after("3:x:1")
    assert first is not None
    second = heart.after(first)
    assert second == first.removesuffix("1") + "2"
    assert heart.after("") == first.removesuffix("1") + "3", "a PBX that was started anew has forgotten it"


def test_given_a_newer_controller_then_there_is_nothing_to_write_and_of_two_with_one_epoch_one_stays() -> None:
    first, second = Heartbeat(), Heartbeat()
    ours, theirs = first.after(""), second.after("")
    assert ours is not None
    assert theirs is not None
    assert sorted([first.after(theirs) is None, second.after(ours) is None]) == [False, True]
    assert first.after("99:x:1") is None
