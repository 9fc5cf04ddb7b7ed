"""What FreeSWITCH tells of a caller. Everything in it may be shaped by the caller; any text gives a Caller.

The number is the user of the From header, and not FreeSWITCH's caller id: anybody may set that by a P-Asserted-Identity header
(freeswitch.md). An operator who rewrites numbers on purpose sets `roomline_number`, which no caller can.
"""

import re
from collections.abc import Mapping
from typing import Final

from bridge.model.caller import Caller
from bridge.pbx.freeswitch.messages import Event
from bridge.pbx.freeswitch.places import TRUNK

CODECS: Final = ("PCMU", "PCMA", "G722")
"""Those whose audio is 8 or 16 kHz; one is chosen before the answer, and stays: another one would end the audio to the node (danger 2)."""

_STATIC: Final = {"0": "PCMU", "8": "PCMA", "9": "G722"}
_AUDIO: Final = re.compile(r"^m=audio [0-9]+(?:/[0-9]+)? \S+((?: [0-9]{1,3})+)", re.MULTILINE)
_MAP: Final = re.compile(r"^a=rtpmap:([0-9]{1,3}) ([A-Za-z0-9]+)/", re.MULTILINE)


def read_caller(channel: Event, trusted_users: Mapping[str, str]) -> Caller:
    """`channel`: any event that has the channel's variables. `trusted_users`: the trunk of a user of FreeSWITCH's own directory."""
    user = channel["variable_user_name"]
    authorized = channel["variable_sip_authorized"] == "true"
    return Caller(
        number=channel["variable_roomline_number"] or channel["variable_sip_from_user"] or channel["Caller-Caller-ID-Number"],
        called=channel["Caller-Destination-Number"],
        display_name=channel["variable_sip_from_display"] if is_sip(channel) else channel["Caller-Caller-ID-Name"],
        host=channel["variable_sip_from_host"],
        source_address=channel["variable_sip_network_ip"] or channel["Caller-Network-Addr"],
        sip_call_id=channel["variable_sip_call_id"],
        sip_tag=channel["variable_sip_from_tag"],
        endpoint=user or channel["variable_sofia_profile_name"],
        trunk_id=(trusted_users.get(user, "") or channel[f"variable_{TRUNK}"]) if authorized and user else "",
        headers=dict(channel.beginning("variable_sip_h_")),
        wideband=codec(channel) == "G722",
    )


def is_sip(channel: Event) -> bool:
    """Whether the call came by SIP, so that it has SIP statuses."""
    return channel["Channel-Name"].startswith("sofia/")


def is_outgoing(channel: Event) -> bool:
    """Whether Roomline has called them (`dialing.py`)."""
    return channel["variable_roomline_outbound"] == "1"


def codec(channel: Event) -> str:
    """The first codec of the caller's offer that we take; PCMU without an offer (the caller then gets ours), or one that has none."""
    offer = channel["variable_switch_r_sdp"]
    audio = _AUDIO.search(offer)
    if audio is None:
        return CODECS[0]
    names = {number: name.upper() for number, name in _MAP.findall(offer)}
    offered = (names.get(number) or _STATIC.get(number, "") for number in audio[1].split())
    return next((name for name in offered if name in CODECS), CODECS[0])
