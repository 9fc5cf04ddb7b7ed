"""Header rules beyond the conformance vectors (livekit-sip-semantics.md §1.13)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.headers import InvalidHeader, check_header_names, check_headers, check_name, check_name_address, check_value

STACKS_OWN = [
    "accept",
    "accept-encoding",
    "accept-language",
    "allow",
    "allow-events",
    "call-id",
    "contact",
    "content-encoding",
    "content-length",
    "content-type",
    "cseq",
    "event",
    "expires",
    "from",
    "max-forwards",
    "record-route",
    "refer-to",
    "reply-to",
    "k",
    "l",
    "m",
    "o",
    "r",
    "t",
    "u",
    "v",
]


@pytest.mark.parametrize("name", STACKS_OWN)
def test_given_a_header_of_the_stack_when_we_would_send_it_then_it_is_refused_in_any_case(name: str) -> None:
    for written in (name, name.upper(), name.title()):
        with pytest.raises(InvalidHeader):
            check_name(written, restrict=True)
        assert check_name(written, restrict=False) == ()


@pytest.mark.parametrize("name", ["", "a" * 256, "X:Y", "X Y", "X\r\nY", "X\x00", "Ünï", "📞", "\ud800", "X\n", "X<"])
def test_given_a_name_that_cannot_be_when_checked_then_it_is_refused_everywhere(name: str) -> None:
    for restrict in (True, False):
        with pytest.raises(InvalidHeader):
            check_name(name, restrict=restrict)
    with pytest.raises(InvalidHeader):
        check_header_names(["X-Good", name])


@pytest.mark.parametrize("name", ["a" * 255, "X-!%*_+`'~.1", "i", "x-from", "route", "supported"])
def test_given_a_name_at_the_edge_when_checked_then_it_is_good(name: str) -> None:
    assert check_name(name, restrict=True) == ()


@pytest.mark.parametrize("name", ["To", "VIA"])
def test_given_to_or_via_when_we_would_send_it_then_it_is_only_warned_of(name: str) -> None:
    assert len(check_name(name, restrict=True)) == 1
    assert check_name(name, restrict=False) == ()


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "\x00", "\x1f", "\x7f", "é" * 513, "a" * 1025])
def test_given_a_value_with_a_control_character_or_too_long_when_checked_then_it_is_refused(value: str) -> None:
    with pytest.raises(InvalidHeader):
        check_value("X-Any", value)


@pytest.mark.parametrize("value", ["", "\t", "é" * 512, "a" * 1024, "\x80\x9f", "📞"])
def test_given_a_value_at_the_edge_when_checked_then_it_is_good(value: str) -> None:
    assert check_value("X-Any", value) == ()


def test_given_an_empty_value_of_a_name_address_header_when_checked_then_nothing_is_said() -> None:
    assert check_value("From", "") == ()
    assert len(check_value("FROM", "nobody")) == 1


@pytest.mark.parametrize(
    "value",
    [
        "sip",
        "tel:+1",
        "sips:a@b;c=d",
        "<sip:a@b>",
        "\u00a0<sip:a@b>",
        "<sip:a@b?x=,y>;tag=1",
        r'"\101\x41\u0041\U00000041" <sip:a>',
        r'"a \" b" <sip:a>',
        '"" <tel:1>',
        "Alice\tSmith <sip:a>",
    ],
)
def test_given_an_address_that_go_takes_when_checked_then_it_is_good(value: str) -> None:
    check_name_address(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "SIP:a@b",
        "sip a",
        "sip:a?b",
        "http://a",
        ">sip:a<",
        "<sip:a",
        "<<sip:a>>",
        "<sip:a b>",
        '" <sip:a>',
        r'"\q" <sip:a>',
        r'"\400" <sip:a>',
        r'"\ud800" <sip:a>',
        r'"\U0000d800" <sip:a>',
        r'"\U00110000" <sip:a>',
        r""""\'" <sip:a>""",
        '"a\nb" <sip:a>',
        "Ünï <sip:a>",
    ],
)
def test_given_an_address_that_go_refuses_when_checked_then_it_is_refused(value: str) -> None:
    with pytest.raises(InvalidHeader):
        check_name_address(value)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3))
def test_given_any_headers_when_checked_then_they_are_taken_or_refused_and_what_is_taken_forges_nothing(headers: dict[str, str]) -> None:
    try:
        check_headers(headers)
    except InvalidHeader:
        return
    assert not any(character in text for pair in headers.items() for text in pair for character in "\r\n\x00")
