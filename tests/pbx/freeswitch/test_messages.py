"""What an event socket says: any bytes in any pieces are messages or a protocol error, and a header is FreeSWITCH's alone."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.errors import RemoteProtocolError
from bridge.pbx.freeswitch.messages import HEAD_LIMIT, Message, Reader, read_event

# From a FreeSWITCH 1.11.3-dev: a refused login, and the notice that no answer belongs to.
REFUSED = (
    b"Content-Type: auth/request\n\n"
    b"Content-Type: command/reply\nReply-Text: -ERR invalid\n\n"
    b"Content-Type: text/disconnect-notice\nContent-Length: 67\n\n"
    b"Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
)
# A caller who calls himself `Eve\nHangup-Cause: USER_BUSY\n\nEvent-Name: CHANNEL_HANGUP`, as FreeSWITCH writes it.
FORGED = "Eve%0AHangup-Cause%3A%20USER_BUSY%0A%0AEvent-Name%3A%20CHANNEL_HANGUP%0AUnique-ID%3A%20other"
PARKED = (
    "Event-Name: CHANNEL_PARK\nUnique-ID: 78af2611-cf33-4306-b78a-822a53fe5e04\n"
    f"Caller-Caller-ID-Name: {FORGED}\nCaller-Destination-Number: %2B1555\nvariable_empty: \n"
    "variable_sip_h_X-Ticket: a%20b%3A%20c\nUnique-ID: second\n\n"
)
NOTIFY = "Event-Name: CUSTOM\nEvent-Subclass: sofia%3A%3Anotify_refer\nContent-Length: 20\n\nSIP/2.0 100 Trying\r\nanything more"

WORDS = [
    *(b"\n", b"\n\n", b"\r\n", b"\0", b":", b": ", b" ", b"%0A", b"%", b"x" * 70_000),
    *(b"Content-Type: ", b"Content-Length: ", b"content-length: ", b"api/response", b"command/reply", b"text/event-plain", b"auth/request"),
    *(b"-1", b"0", b"5", b"999999999999", b"Reply-Text: +OK", b"Event-Name: DTMF", "😀".encode(), b"\xf0\x9f", b"\xff"),
    REFUSED,
]
STREAM = st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(WORDS)), max_size=20).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def framed(text: str) -> bytes:
    body = text.encode()
    return f"Content-Length: {len(body)}\nContent-Type: text/event-plain\n\n".encode() + body


def read(data: bytes, cuts: list[int]) -> tuple[list[Message], str | None]:
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    reader, messages = Reader(), list[Message]()
    try:
        for start, end in pairwise(places):
            messages += reader.receive(data[start:end])
    except RemoteProtocolError as error:
        return messages, str(error)
    return messages, None


@given(STREAM, CUTS)
@example(REFUSED, [1, 30, 31, 32])
@settings(max_examples=100, deadline=None)
def test_given_any_bytes_in_any_pieces_then_they_are_the_same_messages_or_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    whole, error = read(data, [])
    in_pieces, error_in_pieces = read(data, cuts)
    assert in_pieces == whole[: len(in_pieces)]
    assert error_in_pieces == error
    assert error is not None or in_pieces == whole


@given(st.text(max_size=200), CUTS)
@example(PARKED, [5])
@settings(max_examples=100, deadline=None)
def test_given_any_event_in_any_pieces_then_it_is_read_or_a_protocol_error(text: str, cuts: list[int]) -> None:
    (message,), error = read(framed(text), cuts)
    assert error is None
    assert message.body == text.encode()
    try:
        event = read_event(message.text)
    except RemoteProtocolError:
        return
    assert isinstance(event.name, str)


def test_given_a_refused_login_then_the_notice_behind_it_is_a_message_of_its_own() -> None:
    messages, error = read(REFUSED, [])
    assert error is None
    assert [message.kind for message in messages] == ["auth/request", "command/reply", "text/disconnect-notice"]
    assert messages[2].text.startswith("Disconnected")


def test_given_an_answer_without_a_line_at_its_end_then_the_next_message_begins_behind_its_last_byte() -> None:
    data = b"Content-Type: api/response\nContent-Length: 4\n\ntrueContent-Type: command/reply\nReply-Text: +OK\n\n"
    messages, error = read(data, [])
    assert error is None
    assert [(message.kind, message.text) for message in messages] == [("api/response", "true"), ("command/reply", "")]


def test_given_a_line_break_in_a_callers_name_then_it_makes_no_header_of_its_own() -> None:
    event = read_event(PARKED)
    assert event.name == "CHANNEL_PARK"
    assert event["Caller-Caller-ID-Name"] == "Eve\nHangup-Cause: USER_BUSY\n\nEvent-Name: CHANNEL_HANGUP\nUnique-ID: other"
    assert event["Hangup-Cause"] == ""
    assert event["Caller-Destination-Number"] == "+1555"
    assert event["variable_empty"] == ""
    assert dict(event.beginning("variable_sip_h_")) == {"X-Ticket": "a b: c"}


def test_given_a_header_twice_then_what_freeswitch_said_first_counts() -> None:
    assert read_event(PARKED)["Unique-ID"] == "78af2611-cf33-4306-b78a-822a53fe5e04"


def test_given_an_event_with_a_body_then_it_is_as_long_as_it_says() -> None:
    event = read_event(NOTIFY)
    assert event["Event-Subclass"] == "sofia::notify_refer"
    assert event.body == "SIP/2.0 100 Trying\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"x" * (HEAD_LIMIT + 1),
        b"Reply-Text: +OK\n\n",
        b"HTTP/1.1 400 Bad Request\n\n",
        b"Content-Type: api/response\nContent-Length: -1\n\n",
        b"Content-Type: api/response\nContent-Length: 99999999999\n\n",
        b"Content-Type: api/response\nContent-Length: five\n\n",
    ],
)
def test_given_what_is_no_event_socket_then_it_is_a_protocol_error(data: bytes) -> None:
    assert read(data, [])[1] is not None
