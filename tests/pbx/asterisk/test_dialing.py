"""What Asterisk is told to call somebody: no text makes it more than one number by one endpoint (toll fraud)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import CannotDial, LocalProtocolError
from bridge.pbx.asterisk.dialing import dialled
from bridge.pbx.port import DialRequest

ENDPOINTS = {"ST_a": "carrier-a"}


def test_given_a_number_then_it_is_called_by_the_trunks_endpoint_with_its_headers() -> None:
    found = dialled(DialRequest("ST_a", "+15550123", "+15550100", "The Desk", {"X-Call": "a b"}, 12.5), ENDPOINTS)
    assert (found.action["Channel"], found.action["Context"], found.action["Timeout"]) == (
        "PJSIP/+15550123@carrier-a",
        "roomline-called",
        12500,
    )
    assert found.action["CallerID"] == '"The Desk" <+15550100>'
    assert "PJSIP_HEADER(add,X-Call)=a b" in found.action["Variable"]  # type: ignore[operator]  # a list
    assert (found.caller.number, found.caller.called, found.unique_id[:9]) == ("+15550123", "+15550100", "roomline-")


def test_given_a_trunk_without_an_endpoint_then_the_setting_is_named() -> None:
    with pytest.raises(CannotDial, match="outbound_endpoints"):
        dialled(DialRequest("ST_b", "+1", "+2"), ENDPOINTS)


@pytest.mark.parametrize(
    "to", ["1&Local/2@internal", "1@evil", "1/2", "1,2", "1|2", "${X}", "1)", "1\r\nAction: x", "", "1;2", "a b", "1\0"]
)
def test_given_what_a_dial_string_reads_as_more_then_nothing_leaves(to: str) -> None:
    for request in (DialRequest("ST_a", to, "+2"), DialRequest("ST_a", "+1", to)):
        with pytest.raises(LocalProtocolError):
            dialled(request, ENDPOINTS)


@given(
    st.text(max_size=30),
    st.text(max_size=30),
    st.text(max_size=30),
    st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=2),
)
def test_given_any_text_then_one_number_by_one_endpoint_or_nothing(to: str, number: str, name: str, headers: dict[str, str]) -> None:
    try:
        action = dialled(DialRequest("ST_a", to, number, name, headers), ENDPOINTS).action
    except LocalProtocolError:
        return
    assert re.fullmatch(r"PJSIP/[A-Za-z0-9_.!~*'+%-]+@carrier-a", str(action["Channel"]))
    for value in action.values():
        for text in value if isinstance(value, list) else [str(value)]:
            assert not set(text) & {"\r", "\n", "\0"}
