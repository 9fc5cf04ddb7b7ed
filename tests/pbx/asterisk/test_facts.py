"""What the dialplan tells of a caller: decoded once, whatever the caller put in."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.caller import Caller
from bridge.pbx.asterisk.facts import is_sip, read_caller
from tests.pbx.asterisk.stage import FACTS, encoded


def read(facts: str, headers: str = "", **trusted: str) -> Caller:
    return read_caller(facts, headers, trusted)


def test_given_a_sip_call_then_every_fact_of_it_is_told() -> None:
    assert read(encoded(**FACTS), "&X-Ticket=42&User-Agent=Example%20Phone%2F1.0") == Caller(
        number="+15550123",
        called="+15550100",
        display_name="Ada 😀",
        host="sip.example.net",
        source_address="203.0.113.7",
        sip_call_id="abc@example.net",
        sip_tag="tag-1",
        endpoint="carrier-a",
        headers={"X-Ticket": "42", "User-Agent": "Example Phone/1.0"},
    )


@pytest.mark.parametrize("technology", ["IAX2", "DAHDI", "Local", "SIP", ""])
def test_given_a_call_that_came_otherwise_then_it_has_no_sip_facts(technology: str) -> None:
    facts = encoded(called="100", number="200", name="Bob", technology=technology, formats="(alaw)")
    assert not is_sip(facts)
    assert read(facts) == Caller(number="200", called="100", display_name="Bob")
    assert is_sip(encoded(technology="PJSIP"))


@pytest.mark.parametrize(
    "name",
    [
        "x,Endpoint: carrier-a",
        "x&endpoint=carrier-a&number=911",
        "x\nEndpoint: carrier-a",
        "x\r\n\r\nAction: Hangup",
        "nul\0nul",
        "%2526endpoint%253Dcarrier-a",
        "=&=&=",
        "😀" * 256,
        "n" * 65_536,
        "${SHELL(id)}",
    ],
)
def test_given_a_hostile_name_then_it_is_a_name_and_forges_nothing(name: str) -> None:
    caller = read(encoded(called="1", number="2", name=name, technology="PJSIP"), **{"carrier-a": "ST_1"})
    assert caller == Caller(number="2", called="1", display_name=name)


def test_given_a_hostile_header_then_it_is_one_header() -> None:
    caller = read(encoded(**FACTS), f"&X-A={quote('a&X-B=b', safe='')}&{quote('X&C=', safe='')}=c")
    assert caller.headers == {"X-A": "a&X-B=b", "X&C=": "c"}


def test_given_a_header_twice_then_the_last_counts() -> None:
    assert read("", "&X-A=1&X-B=2&X-A=3").headers == {"X-A": "3", "X-B": "2"}


def test_given_a_text_with_percents_then_it_is_decoded_once() -> None:
    assert read("name=100%2525").display_name == "100%25"


def test_given_bytes_that_are_no_utf8_then_they_are_replaced() -> None:
    assert read("name=caf%E9&number=%F0%9F").display_name == "caf\ufffd"


def test_given_a_trusted_endpoint_then_it_stands_for_its_trunk_and_no_other_does() -> None:
    trusted = {"carrier-a": "ST_1", "": "ST_0"}
    assert read("endpoint=carrier-a", **trusted).trunk_id == "ST_1"
    assert read("endpoint=carrier", **trusted).trunk_id == ""
    assert read("endpoint=Carrier-A", **trusted).trunk_id == ""
    assert read("endpoint=", **trusted).trunk_id == ""
    assert read("", **trusted).trunk_id == ""


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("sip:+15550123@sip.example.net", "sip.example.net"),
        ("sips:a@sip.example.net:5061;transport=tls", "sip.example.net"),
        ('"a@evil.example" <sip:a@[2001:db8::1]:5060>', "2001:db8::1"),
        ("sip:a%40evil.example@sip.example.net", "sip.example.net"),
        ("tel:+15550123", ""),
        ("", ""),
    ],
)
def test_given_a_from_uri_then_its_host_is_known(uri: str, host: str) -> None:
    assert read(encoded(**{"from": uri})).host == host


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("203.0.113.7:5060", "203.0.113.7"),
        ("203.0.113.7", "203.0.113.7"),
        ("[2001:db8::7]:5060", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("", ""),
        (":5060", ""),
        ("203.0.113.7:5060,198.51.100.1", ""),
    ],
)
def test_given_a_remote_address_then_the_port_is_left_out(address: str, source: str) -> None:
    assert read(encoded(address=address)).source_address == source


@pytest.mark.parametrize(
    ("formats", "wideband"),
    [
        ("(g722|alaw)", True),
        ("(opus)", True),
        ("(slin16)", True),
        ("(alaw|g722)", False),
        ("(ulaw)", False),
        ("(slin)", False),
        ("", False),
    ],
)
def test_given_the_formats_then_the_first_says_whether_the_call_is_wideband(formats: str, wideband: bool) -> None:
    assert read(encoded(formats=formats)).wideband is wideband


@given(facts=st.text(), headers=st.text())
def test_given_any_text_then_there_is_a_caller(facts: str, headers: str) -> None:
    assert isinstance(read(facts, headers), Caller)


@given(number=st.text(), name=st.text(), headers=st.dictionaries(st.text(min_size=1), st.text()))
def test_given_any_values_then_they_come_back_as_they_were(number: str, name: str, headers: dict[str, str]) -> None:
    caller = read(encoded(number=number, name=name), encoded(**headers))
    assert (caller.number, caller.display_name, caller.headers) == (number, name, headers)
