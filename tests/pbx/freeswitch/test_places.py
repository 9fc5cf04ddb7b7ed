"""Whose a channel is, by what FreeSWITCH tells of it; and what hands a call to the operator's fallback."""

import pytest

from bridge.pbx.freeswitch.messages import Event
from bridge.pbx.freeswitch.places import Place, place, to_fallback

ID = "78af2611-cf33-4306-b78a-822a53fe5e04"


def channel(context: str = "roomline", state: str = "CS_EXECUTE", bond: str = "", fallback: str = "9000 XML default") -> Event:
    return Event({
        "Caller-Context": context, "Channel-State": state, "variable_signal_bond": bond, "variable_roomline_fallback": fallback,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("found", "whose"),
    [
        (channel(), Place.OURS),
        (channel(state="CS_ROUTING"), Place.OURS),
        (channel(bond="0e1f"), Place.TAKEN),
        (channel(state="CS_EXCHANGE_MEDIA"), Place.TAKEN),
        (channel(state="CS_HIBERNATE"), Place.TAKEN),
        (channel("default"), Place.FALLBACK),
        (channel("lab"), Place.TAKEN),
        (channel("default", fallback=""), Place.TAKEN),
        (channel("", fallback=""), Place.TAKEN),
    ],
)
def test_given_a_channel_as_freeswitch_tells_of_it_then_it_is_known_whose_it_is(found: Event, whose: Place) -> None:
    assert place(found) is whose


@pytest.mark.parametrize("fallback", ["9000", "9000 XML", "9000 XML default", "queue-1 XML public.x"])
def test_given_a_fallback_then_a_transfer_hands_the_call_there(fallback: str) -> None:
    assert to_fallback(ID, fallback) == f"uuid_transfer {ID} {fallback}"


@pytest.mark.parametrize(
    "fallback", ["", " ", "9000 XML default x", "a;b", "9000\nXML", "9000 XML default\n", "'9000'", "${x}", "-both 9000"]
)
def test_given_no_fallback_or_none_that_is_one_then_callers_hear_that_the_network_is_busy(fallback: str) -> None:
    assert to_fallback(ID, fallback) == f"uuid_kill {ID} SWITCH_CONGESTION"
