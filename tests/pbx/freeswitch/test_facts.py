"""What FreeSWITCH tells of a caller: numbers, addresses, who they are known as, and the codec that is chosen for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.caller import Caller
from bridge.pbx.freeswitch.facts import codec, is_outgoing, is_sip, read_caller
from bridge.pbx.freeswitch.messages import Event

# From a FreeSWITCH 1.11.3-dev, of a caller who gave a P-Asserted-Identity of his own.
PARKED = {
    "Channel-Name": "sofia/public/+15551230001@127.0.0.1:5201",
    "Caller-Caller-ID-Name": "Alice PAI",
    "Caller-Caller-ID-Number": "+15559990001",
    "Caller-Network-Addr": "192.0.2.9",
    "Caller-Destination-Number": "1000",
    "variable_sip_from_user": "+15551230001",
    "variable_sip_from_host": "sip.example.net",
    "variable_sip_from_tag": "tag-1",
    "variable_sip_from_display": "Alice Caller",
    "variable_sip_call_id": "1-17471@127.0.0.1",
    "variable_sip_network_ip": "192.0.2.9",
    "variable_sofia_profile_name": "public",
    "variable_sip_h_X-Tenant": "acme",
    "variable_sip_h_Diversion": "<sip:+15558880001@carrier.example>;reason=unconditional",
}
AUTHORIZED = {"variable_sip_authorized": "true", "variable_user_name": "carrier-a"}


def offer(*lines: str) -> dict[str, str]:
    return {"variable_switch_r_sdp": "\r\n".join(("v=0", "c=IN IP4 127.0.0.1", *lines, ""))}


def test_given_a_sip_call_then_its_caller_is_who_the_from_header_names() -> None:
    assert read_caller(Event(PARKED), {}) == Caller(
        number="+15551230001",
        called="1000",
        display_name="Alice Caller",
        host="sip.example.net",
        source_address="192.0.2.9",
        sip_call_id="1-17471@127.0.0.1",
        sip_tag="tag-1",
        endpoint="public",
        headers={"X-Tenant": "acme", "Diversion": "<sip:+15558880001@carrier.example>;reason=unconditional"},
    )


def test_given_a_number_that_the_operator_rewrote_then_it_counts() -> None:
    assert read_caller(Event(PARKED | {"variable_roomline_number": "+4930"}), {}).number == "+4930"


def test_given_a_call_without_sip_then_its_caller_is_who_freeswitch_says() -> None:
    channel = Event({"Channel-Name": "verto.rtc/1000", "Caller-Caller-ID-Name": "Bob", "Caller-Caller-ID-Number": "1001"})
    caller = read_caller(channel, {})
    assert (caller.number, caller.display_name) == ("1001", "Bob")
    assert not is_sip(channel)


@pytest.mark.parametrize(
    ("told", "trusted", "trunk"),
    [
        (AUTHORIZED | {"variable_trunk_id": "ST_1"}, {}, "ST_1"),
        (AUTHORIZED, {"carrier-a": "ST_2"}, "ST_2"),
        (AUTHORIZED, {"carrier-b": "ST_2"}, ""),
        ({"variable_user_name": "carrier-a", "variable_trunk_id": "ST_1"}, {"carrier-a": "ST_2"}, ""),
        ({"variable_trunk_id": "ST_1"}, {"": "ST_2"}, ""),
        ({"variable_sip_h_trunk_id": "ST_1", "variable_sip_authorized": "true"}, {"": "ST_2"}, ""),
        ({"variable_sip_auth_username": "carrier-a"}, {"carrier-a": "ST_2"}, ""),
    ],
)
def test_given_what_freeswitch_made_sure_of_then_that_alone_names_the_trunk(
    told: dict[str, str], trusted: dict[str, str], trunk: str
) -> None:
    assert read_caller(Event(PARKED | told), trusted).trunk_id == trunk


@pytest.mark.parametrize(
    ("sdp", "chosen"),
    [
        ({}, "PCMU"),
        (offer("m=audio 40000 RTP/AVP 0 101", "a=rtpmap:101 telephone-event/8000"), "PCMU"),
        (offer("m=audio 40000 RTP/AVP 8 0 9"), "PCMA"),
        (offer("m=audio 40000 RTP/AVP 9 0 8"), "G722"),
        (offer("m=audio 40000/2 RTP/SAVPF 111 9 0", "a=rtpmap:111 opus/48000/2", "a=rtpmap:9 G722/8000"), "G722"),
        (offer("m=audio 40000 RTP/AVP 111 97", "a=rtpmap:111 opus/48000/2", "a=rtpmap:97 g722/8000"), "G722"),
        (offer("m=audio 40000 RTP/AVP 18"), "PCMU"),
        (offer("m=video 40000 RTP/AVP 9"), "PCMU"),
        (offer("m=audio x RTP/AVP 9"), "PCMU"),
    ],
)
def test_given_an_offer_then_the_first_codec_that_is_ours_is_chosen(sdp: dict[str, str], chosen: str) -> None:
    assert codec(Event(sdp)) == chosen
    assert read_caller(Event(PARKED | sdp), {}).wideband == (chosen == "G722")


@given(st.dictionaries(st.sampled_from([*PARKED, "variable_switch_r_sdp", "variable_user_name"]), st.text()))
def test_given_any_text_then_it_is_a_caller(told: dict[str, str]) -> None:
    assert isinstance(read_caller(Event(told), {}), Caller)
    assert not is_outgoing(Event(told))
