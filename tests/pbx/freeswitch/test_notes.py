"""A call's note in a channel variable: any note comes back, and nothing else is taken for one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.note import TEXT_LIMIT
from bridge.pbx.freeswitch.notes import NOTE_LIMIT, kept_note, read_note
from bridge.pbx.freeswitch.wire import COMMAND_LIMIT, written


@given(st.text(st.characters(max_codepoint=127), max_size=2000))
def test_given_any_note_then_it_is_kept_in_letters_that_mean_nothing_to_freeswitch(note: str) -> None:
    kept = kept_note(note)
    assert re.fullmatch(r"[A-Za-z0-9_=-]*", kept)
    assert read_note(kept) == (note or None)


def test_given_the_longest_note_then_one_command_sets_it() -> None:
    assert NOTE_LIMIT > TEXT_LIMIT
    assert len(written(f"api uuid_setvar {'x' * 36} roomline_note {kept_note('x' * NOTE_LIMIT)}", {})) < COMMAND_LIMIT


@pytest.mark.parametrize("note", ["ä", "😀", "x" * (NOTE_LIMIT + 1)])
def test_given_what_is_no_note_then_it_is_not_kept(note: str) -> None:
    with pytest.raises(ValueError, match="a note"):
        kept_note(note)


@pytest.mark.parametrize("kept", ["", "x", "a b=", "ä", "_undef_", "w6Q=", "YQ==\n"])
def test_given_what_nobody_kept_then_it_is_no_note(kept: str) -> None:
    assert read_note(kept) is None
