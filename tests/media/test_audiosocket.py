"""The AudioSocket codec: any bytes in any pieces are understood alike, or end in the remote side's error."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalProtocolError, RemoteProtocolError
from bridge.media.audiosocket import (
    LARGEST_PAYLOAD,
    Audio,
    Decoder,
    DigitPressed,
    Event,
    HungUp,
    Identified,
    audio_header,
    encode,
    token_text,
)

TOKEN = bytes(range(16))
HELLO = b"\x01\x00\x10" + TOKEN


def message(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BH", kind, len(payload)) + payload


def understood(chunks: list[bytes]) -> tuple[list[Event], str]:
    """The events, and the error they end in."""
    decoder, events = Decoder(), []
    try:
        for chunk in chunks:
            decoder.receive(chunk)
            while (event := decoder.next_event()) is not None:
                events.append(event)
    except RemoteProtocolError as error:
        return events, str(error)
    return events, ""


payloads = st.one_of(st.binary(max_size=700), st.integers(0, 1000).map(lambda count: bytes(2 * count)))
messages = st.one_of(
    st.just(HELLO),
    st.builds(message, st.sampled_from([0x10, 0x12]), payloads),
    st.builds(message, st.just(0x03), st.binary(min_size=1, max_size=1)),
    st.builds(message, st.integers(0, 255), st.binary(max_size=20)),
    st.binary(max_size=10),
    st.just(b"\x00\x00\x00"),
)
streams = st.lists(messages, max_size=8).map(lambda rest: HELLO + b"".join(rest)) | st.binary(max_size=300)


@given(stream=streams, cuts=st.lists(st.integers(0, 3000), max_size=12))
def test_given_any_bytes_when_cut_anywhere_then_the_same_events_and_the_same_error(stream: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    whole = understood([stream])
    assert understood([stream[begin:end] for begin, end in pairwise(places)]) == whole
    assert understood([bytes([byte]) for byte in stream]) == whole


@given(stream=streams)
def test_given_any_bytes_when_understood_then_every_frame_is_20_ms(stream: bytes) -> None:
    for event in understood([stream])[0]:
        if isinstance(event, Audio):
            assert len(event.frame) == event.rate // 25


def test_given_a_call_when_its_messages_come_then_each_is_an_event_in_its_order() -> None:
    narrow, wide = b"\x01\x02" * 160, b"\x03\x04" * 320
    stream = HELLO + message(0x10, narrow) + message(0x03, b"5") + message(0x12, wide) + message(0x00, b"")
    assert understood([stream]) == (
        [Identified(TOKEN), Audio(narrow, 8_000), DigitPressed("5"), Audio(wide, 16_000), HungUp()],
        "",
    )


def test_given_payloads_of_any_length_when_they_come_then_they_are_cut_into_whole_frames() -> None:
    sound = b"".join(struct.pack("<h", number) for number in range(160 * 5))
    pieces = [sound[:480], sound[480:482], b"", sound[482:]]
    events, error = understood([HELLO, *(message(0x10, piece) for piece in pieces)])
    assert not error
    assert [event.frame for event in events if isinstance(event, Audio)] == [sound[at : at + 320] for at in range(0, 1600, 320)]


def test_given_the_largest_payload_when_it_comes_then_it_is_all_heard() -> None:
    events, error = understood([HELLO + message(0x12, bytes(LARGEST_PAYLOAD - 1))])
    assert (len(events) - 1, error) == (102, "")


WRONG = [
    (message(0x10, bytes(320)), "kind 0x10 before the UUID"),
    (message(0x03, b"1"), "kind 0x03 before the UUID"),
    (message(0x01, bytes(15)), "a UUID of 15 bytes"),
    (b"GET / HTTP/1.1\r\n\r\n", "kind 0x47"),
    (b"\x16\x03\x01\x02\x00\x01", "kind 0x16"),
    (HELLO + HELLO, "a second UUID"),
    (HELLO + message(0x10, bytes(321)), "16-bit audio of 321 bytes"),
    (HELLO + message(0x03, b"12"), "a digit of 2 bytes"),
    (HELLO + message(0x03, b"\x00"), "a digit 0x00"),
    (HELLO + message(0x00, b"x"), "a hang-up with 1 bytes"),
    (HELLO + message(0xFF, b""), "kind 0xff"),
    *((HELLO + message(kind, bytes(2)), f"kind 0x{kind:02x}") for kind in (0x11, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18)),
]


@pytest.mark.parametrize(("stream", "why"), WRONG, ids=[why for _, why in WRONG])
def test_given_what_no_pbx_sends_when_it_comes_then_it_is_their_error_at_once_and_for_ever(stream: bytes, why: str) -> None:
    events, error = understood([stream])
    assert why in error
    assert events == ([Identified(TOKEN)] if stream.startswith(HELLO) else [])
    decoder = Decoder()
    decoder.receive(stream + bytes(10_000))
    if events:
        assert decoder.next_event() == events[0]
    for _ in range(3):
        with pytest.raises(RemoteProtocolError, match=why):
            decoder.next_event()
        decoder.receive(HELLO)


def test_given_a_wrong_header_when_its_payload_is_still_to_come_then_it_is_not_waited_for() -> None:
    assert understood([HELLO, b"\x10\xff\xff"])[1] == "AudioSocket: 16-bit audio of 65535 bytes"


def test_given_a_hang_up_when_more_comes_then_it_is_not_looked_at() -> None:
    assert understood([HELLO + message(0x00, b"") + b"\xee" * 50, b"\xee" * 50]) == ([Identified(TOKEN), HungUp()], "")


def test_given_whole_messages_when_they_were_looked_at_then_the_decoder_is_between_messages() -> None:
    decoder = Decoder()
    assert not decoder.between_messages
    decoder.receive(HELLO)
    assert isinstance(decoder.next_event(), Identified)
    assert decoder.between_messages
    decoder.receive(b"\x10")
    assert decoder.next_event() is None
    assert not decoder.between_messages
    decoder.receive(message(0x10, bytes(322))[1:])
    assert isinstance(decoder.next_event(), Audio)
    assert not decoder.between_messages, "a sample is left over"


@given(
    events=st.lists(
        st.one_of(
            st.binary(min_size=320, max_size=320).map(lambda frame: Audio(frame, 8_000)),
            st.binary(min_size=640, max_size=640).map(lambda frame: Audio(frame, 16_000)),
            st.sampled_from("0123456789*#ABCD").map(DigitPressed),
        ),
        max_size=6,
    )
)
def test_given_events_when_encoded_then_the_other_side_understands_the_same(events: list[Event]) -> None:
    conversation = [Identified(TOKEN), *events, HungUp()]
    assert understood([b"".join(encode(event) for event in conversation)]) == (conversation, "")


@pytest.mark.parametrize("event", [Identified(b"short"), Audio(bytes(319), 8_000), Audio(bytes(320), 44_100), DigitPressed("12")])
def test_given_what_would_break_the_protocol_when_encoded_then_it_is_our_error(event: Event) -> None:
    with pytest.raises(LocalProtocolError):
        encode(event)


def test_given_a_rate_when_a_header_is_made_then_it_is_asterisks() -> None:
    assert audio_header(8_000) == b"\x10\x01\x40"
    assert audio_header(16_000) == b"\x12\x02\x80"
    assert token_text(TOKEN) == "00010203-0405-0607-0809-0a0b0c0d0e0f"
