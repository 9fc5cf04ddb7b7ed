"""Notes in channel variables: cut into lines that AMI carries, read back whole, never half of one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.note import TEXT_LIMIT, CallNote, CallState
from bridge.model.ticket import RoomTicket
from bridge.pbx.asterisk.notes import NOTE, PIECE, PIECES, note_variables, read_note
from bridge.pbx.asterisk.wire import LINE_LIMIT

ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=3 * PIECE)


def keep(kept: dict[str, str], note: str, generation: int) -> None:
    for name, value in note_variables(note, generation):
        kept[name] = value.strip()  # as AMI does to every value


async def read(kept: dict[str, str]) -> str | None:
    async def get(name: str) -> str:
        return kept.get(name, "")

    return await read_note(kept.get(NOTE, ""), get)


def emoji_note() -> str:
    ticket = RoomTicket(call_id="SCL_1", room_name="😀" * 256, identity="sip_😀" + "名" * 250, name="😀" * 256)
    return CallNote(call_id="SCL_1", state=CallState.TALKING, started_at=1.0, ticket=ticket).to_text()


@pytest.mark.parametrize("note", [emoji_note(), "x" * PIECE, "x" * (PIECE + 1), " " * (3 * PIECE), "|" * 2000, "x" * TEXT_LIMIT])
async def test_given_a_note_then_it_is_read_back_whole_from_lines_that_fit(note: str) -> None:
    kept: dict[str, str] = {}
    keep(kept, note, 1)
    assert all(len(f"Value: {value}") <= LINE_LIMIT for value in kept.values())
    assert await read(kept) == note


async def test_given_256_emoji_then_the_note_needs_several_lines_and_means_the_same_afterwards() -> None:
    kept: dict[str, str] = {}
    keep(kept, emoji_note(), 1)
    assert len(kept) > 5
    text = await read(kept)
    assert text is not None
    ticket = CallNote.from_text(text).ticket
    assert ticket is not None
    assert ticket.room_name == "😀" * 256


@given(notes=st.lists(ASCII, min_size=1, max_size=4), broken_off=st.integers(0, 8), last=ASCII)
async def test_given_a_writer_that_dies_in_between_then_the_note_before_is_there_whole(
    notes: list[str], broken_off: int, last: str
) -> None:
    kept: dict[str, str] = {}
    for generation, note in enumerate(notes):
        keep(kept, note, generation)
    writes = list(note_variables(last, len(notes)))
    for name, value in writes[:broken_off]:
        kept[name] = value
    assert await read(kept) == (last if broken_off >= len(writes) else notes[-1])


@pytest.mark.parametrize(
    "mark", ["", "2:1", "0", "0:", ":1", "0:x", "0:-1", "0:²", "0:1:1", f"0:{PIECES + 1}", "0:" + "9" * 5000, "x" * 900]
)
async def test_given_a_mark_that_is_none_then_there_is_no_note(mark: str) -> None:
    assert await read({NOTE: mark, f"{NOTE}_0_0": "|x|"}) is None


@pytest.mark.parametrize("piece", ["", "|", "x", "|x", "x|"])
async def test_given_a_piece_that_is_none_then_there_is_no_note(piece: str) -> None:
    assert await read({NOTE: "0:2", f"{NOTE}_0_0": "|x|", f"{NOTE}_0_1": piece}) is None


async def test_given_any_mark_then_no_more_than_the_limit_is_read() -> None:
    asked: list[str] = []

    async def get(name: str) -> str:
        asked.append(name)
        return "|x|"

    for mark in ("0:64", "0:65", "1:999999", "0:00000000000064"):
        await read_note(mark, get)
    assert len(asked) <= 2 * PIECES


@pytest.mark.parametrize("note", ["é", "x" * (PIECE * PIECES + 1)])
def test_given_a_text_that_is_no_note_then_nothing_is_written(note: str) -> None:
    with pytest.raises(ValueError, match="note"):
        next(iter(note_variables(note, 0)))


def test_given_a_json_of_any_names_then_it_is_ascii_as_notes_must_be() -> None:
    assert emoji_note().isascii()
    assert json.loads(emoji_note())["call_id"] == "SCL_1"
