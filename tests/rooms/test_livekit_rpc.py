"""What the room is told of the INVITE's headers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rooms.livekit_rpc import remote_headers

HEADERS = {
    "Via": "SIP/2.0/UDP host",
    "Record-Route": "<sip:proxy>",
    "Content-Length": "0",
    "CSeq": "1 INVITE",
    "Max-Forwards": "70",
    "From": '"Ada" <sip:1@host>',
    "X-Ticket": "42",
    "User-Agent": "phone",
}


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        ("", {"From", "X-Ticket", "User-Agent"}),
        ("{}", {"From", "X-Ticket", "User-Agent"}),
        ('{"include": ["x-ticket", "VIA"]}', {"X-Ticket"}),
        ('{"exclude": ["FROM"]}', {"X-Ticket", "User-Agent"}),
        ('{"include": ["from", "x-ticket"], "exclude": ["x-ticket"]}', {"From"}),
        ("[]", {"From", "X-Ticket", "User-Agent"}),
        ("no json", {"From", "X-Ticket", "User-Agent"}),
        ('{"include": 7, "exclude": [7]}', {"From", "X-Ticket", "User-Agent"}),
    ],
)
def test_given_a_question_then_the_headers_that_tell_of_the_caller(payload: str, names: set[str]) -> None:
    assert set(json.loads(remote_headers(HEADERS, payload))["headers"]) == names


@given(st.text())
def test_given_any_payload_then_an_answer(payload: str) -> None:
    assert "Via" not in json.loads(remote_headers(HEADERS, payload))["headers"]


def test_given_a_deeply_nested_payload_then_an_answer() -> None:
    assert json.loads(remote_headers(HEADERS, "[" * 100_000))["headers"]["X-Ticket"] == "42"
