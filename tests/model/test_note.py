"""The note on a call: written whole, read whole, never more than its place holds."""

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.note import TEXT_LIMIT, BrokenNote, CallNote, CallState
from bridge.model.ticket import RoomTicket

TICKET = RoomTicket(
    call_id="SCL_1",
    room_name="lobby",
    identity="sip_+15550123",
    name="Phone +15550123",
    metadata="from the rule",
    attributes={"sip.callID": "SCL_1", "sip.callStatus": "ringing"},
    room_preset="quiet",
    room_config={"agents": [{"agent_name": "desk"}], "empty_timeout": 300},
)
NOTE = CallNote(
    call_id="SCL_1",
    state=CallState.WAITING,
    started_at=1_700_000_000.25,
    answered_at=1_700_000_003.5,
    trunk_id="ST_1",
    rule_id="SDR_1",
    ticket=TICKET,
    pin_tries=2,
    ringing_timeout_status=480,
    company_until=1_700_000_180.0,
    over_at=1_700_086_400.0,
)

text = st.text(max_size=300)
tickets = st.builds(
    RoomTicket,
    call_id=text,
    room_name=text,
    identity=text,
    name=text,
    metadata=text,
    attributes=st.dictionaries(text, text, max_size=5),
    room_preset=text,
    room_config=st.dictionaries(
        text, st.recursive(st.none() | st.booleans() | text, lambda inner: st.lists(inner, max_size=3)), max_size=3
    ),
)
times = st.none() | st.floats(0, 4e9)
notes = st.builds(
    CallNote,
    call_id=st.text(min_size=1, max_size=40),
    state=st.sampled_from(CallState),
    started_at=st.floats(0, 4e9),
    answered_at=times,
    trunk_id=text,
    rule_id=text,
    ticket=st.none() | tickets,
    pin_tries=st.integers(0, 1000),
    ringing_timeout_status=st.integers(400, 699),
    company_until=times,
    over_at=times,
)


@pytest.mark.parametrize("state", CallState)
def test_given_a_note_of_any_state_when_read_again_then_it_is_the_same(state: CallState) -> None:
    note = NOTE.model_copy(update={"state": state})
    assert CallNote.from_text(note.to_text()) == note


@given(note=notes)
def test_given_any_note_then_it_is_one_line_of_ascii_within_the_limit(note: CallNote) -> None:
    written = note.to_text()
    assert written.isascii()
    assert written.isprintable()
    assert len(written) <= TEXT_LIMIT
    again = CallNote.from_text(written)
    assert again.call_id == note.call_id
    if len(written) < TEXT_LIMIT // 2:
        assert again == note


def test_given_emoji_names_of_256_characters_then_nothing_is_left_out() -> None:
    emoji = "😀" * 64  # 256 bytes: as long as a room takes a name
    note = NOTE.model_copy(update={"ticket": replace(TICKET, room_name=emoji, identity=emoji, name=emoji)})
    assert CallNote.from_text(note.to_text()) == note
    longer = NOTE.model_copy(update={"ticket": replace(TICKET, name="😀" * 256)})
    assert CallNote.from_text(longer.to_text()) == longer


def _heavy(**changes: Any) -> CallNote:
    return CallNote.from_text(NOTE.model_copy(update={"ticket": replace(TICKET, **changes)}).to_text())


def test_given_long_metadata_then_it_stays_in_the_rule_and_all_else_in_the_note() -> None:
    again = _heavy(metadata="m" * 512_000)
    assert again.metadata_in_rule
    assert again.ticket == replace(TICKET, metadata="")


def test_given_long_metadata_and_no_rule_then_none_is_said_to_have_it() -> None:
    of_ours = NOTE.model_copy(update={"ticket": replace(TICKET, metadata="m" * 512_000), "rule_id": "", "outgoing": True})
    again = CallNote.from_text(of_ours.to_text())
    assert not again.metadata_in_rule
    assert again.ticket == replace(TICKET, metadata="")


def test_given_a_long_room_configuration_then_it_is_left_out() -> None:
    again = _heavy(room_config={"metadata": "c" * 100_000})
    assert again.ticket == replace(TICKET, metadata="", room_config={})


def test_given_long_attributes_then_the_longest_are_left_out_first() -> None:
    attributes = {"sip.callID": "SCL_1"} | {f"sip.h.x-{number}": "v" * 200 * number for number in range(30)}
    again = _heavy(attributes=attributes)
    assert again.ticket is not None
    assert again.ticket.attributes["sip.callID"] == "SCL_1"
    assert "sip.h.x-1" in again.ticket.attributes
    assert "sip.h.x-29" not in again.ticket.attributes
    assert not again.ticket.metadata
    assert again.metadata_in_rule


def test_given_half_a_surrogate_pair_from_a_caller_then_the_note_is_still_kept() -> None:
    assert _heavy(name="\ud83d").ticket == replace(TICKET, name="\ud83d")


@pytest.mark.parametrize(
    "written",
    ["", "null", "[]", "{", "{}", '"text"', "NaN", "[" * 100_000, '{"call_id":"a","state":"talking","started_at":NaN}', "1" * 5000],
)
def test_given_garbage_then_it_is_a_broken_note(written: str) -> None:
    with pytest.raises(BrokenNote):
        CallNote.from_text(written)


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"surprise": 1}, {"call_id": ""}, {"state": "dancing"}, {"ticket": "x"}, {"pin_tries": -1}, {"over_at": "Infinity"}],
)
def test_given_a_note_of_another_kind_then_it_is_a_broken_note(change: dict[str, Any]) -> None:
    with pytest.raises(BrokenNote):
        CallNote.from_text(json.dumps(json.loads(NOTE.to_text()) | change))


@given(written=st.text(max_size=400) | st.binary(max_size=400).map(lambda raw: raw.decode("latin-1")))
def test_given_any_text_then_it_is_a_note_or_a_broken_one(written: str) -> None:
    with contextlib.suppress(BrokenNote):
        CallNote.from_text(written)


@given(cut=st.integers(0, 600))
def test_given_a_note_cut_short_then_it_is_broken(cut: int) -> None:
    whole = NOTE.to_text()
    if cut < len(whole):
        with pytest.raises(BrokenNote):
            CallNote.from_text(whole[:cut])
