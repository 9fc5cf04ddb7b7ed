"""Calling somebody: the command that FreeSWITCH is told, and what could be read as more than a part of it."""

import pytest

from bridge.errors import CannotDial, LocalProtocolError
from bridge.pbx.freeswitch.dialing import dialled
from bridge.pbx.port import DialRequest

GATEWAYS = {"ST_1": "carrier-a", "ST_bad": "carrier/../a b"}


def test_given_a_request_then_it_is_one_command_with_an_id_of_our_own() -> None:
    request = DialRequest("ST_1", "+15550123", "+15550100", "Ada Lovelace", {"X-Ticket": "42 a:b"}, limit=20.4)
    found = dialled(request, GATEWAYS)
    options, _, rest = found.command.partition("}")
    assert rest == "sofia/gateway/carrier-a/+15550123 park inline roomline undef undef 23", "the whole seconds after 20.4, and two more"
    assert options.startswith("originate {")
    for part in (
        f"origination_uuid='{found.unique_id}'",
        "origination_caller_id_number='+15550100'",
        "origination_caller_id_name='Ada Lovelace'",
        "absolute_codec_string='^^:PCMU:PCMA'",
        "rtp_timer_name='soft'",
        "srtp_allow_idle_gaps='true'",
        "send_silence_when_idle='0'",
        "ignore_early_media='true'",
        "roomline_outbound='1'",
        "sip_h_X-Ticket='42 a:b'",
        f"api_on_answer='sched_api +5 roomline-{found.unique_id} uuid_kill {found.unique_id}'",
    ):
        assert part in options
    assert (found.caller.number, found.caller.called, found.caller.trunk_id) == ("+15550123", "+15550100", "ST_1")


def test_given_two_calls_then_their_ids_differ() -> None:
    request = DialRequest("ST_1", "1", "2")
    assert dialled(request, GATEWAYS).unique_id != dialled(request, GATEWAYS).unique_id


@pytest.mark.parametrize(("to", "user"), [("*21#", "*21%23"), ("bob.smith", "bob.smith")])
def test_given_who_is_called_by_marks_then_they_are_those_of_an_address(to: str, user: str) -> None:
    assert f"/{user} park" in dialled(DialRequest("ST_1", to, "2"), GATEWAYS).command


def test_given_a_trunk_without_a_gateway_then_it_says_what_to_do() -> None:
    with pytest.raises(CannotDial, match="outbound_gateways"):
        dialled(DialRequest("ST_2", "1", "2"), GATEWAYS)


@pytest.mark.parametrize(
    "request_",
    [
        DialRequest("ST_bad", "1", "2"),
        *(DialRequest("ST_1", to, "2") for to in ("", "1 &park", "1'", "1}x", "1,2", "1\n", "a@b", "1|2", "${x}", "a/b", "[x]")),
        *(DialRequest("ST_1", "1", number) for number in ("", "2'", "2,origination_uuid=x", "2}")),
        *(DialRequest("ST_1", "1", "2", name) for name in ("a'b", "a}b", "${x}", "a\nb", "a,b", "a\\b", "^^:")),
        *(DialRequest("ST_1", "1", "2", headers={name: "x"}) for name in ("", "a b", "a=b", "a'b", "a:b")),
        *(DialRequest("ST_1", "1", "2", headers={"X-A": value}) for value in ("a'b", "a}b", "${x}", "a\r\nb", "[x]", "a,b")),
    ],
)
def test_given_what_freeswitch_would_read_as_more_then_nobody_is_called(request_: DialRequest) -> None:
    with pytest.raises(LocalProtocolError):
        dialled(request_, GATEWAYS)
