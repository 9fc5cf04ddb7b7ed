"""Calling somebody through FreeSWITCH: the originate command, its channel's id our own, so that its events are known for ours.

Who is called is put into the PBX's words here, and nothing passes that FreeSWITCH could read as more. What becomes of the call is the
leg's.
"""

import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bridge.errors import CannotDial, LocalProtocolError
from bridge.model.caller import Caller
from bridge.model.target import USER
from bridge.pbx.freeswitch.places import CONTEXT, lease_group
from bridge.pbx.port import DialRequest

NOBODY_THERE: Final = 5
"""Seconds after the answer until a call ends that no controller has taken."""

AFTER_OURS: Final = 2
"""Seconds by which FreeSWITCH's own limit for an answer comes after the story's, whose word counts. It counts whole seconds, the running
one among them."""

_GATEWAY: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_PLAIN: Final = re.compile(r"[^\x00-\x1f\x7f'\"\\{}\[\]()<>|^$&;,]*")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Dialled:
    """The command that calls them, and what is known of the call from the start: who is called is its caller, as in LiveKit the phone
    number is theirs."""

    unique_id: str
    command: str
    caller: Caller


def dialled(request: DialRequest, gateways: Mapping[str, str]) -> Dialled:
    """`gateways`: the sofia gateway of each trunk. Raises CannotDial, LocalProtocolError."""
    gateway = gateways.get(request.trunk_id, "")
    if not gateway:
        raise CannotDial(f"the PBX has no gateway for trunk {request.trunk_id}: name one in pbx[].outbound_gateways")
    wrong = (
        ("number to be called", USER, request.to.replace("#", "")),
        ("gateway", _GATEWAY, gateway),
        ("caller's number", USER, request.number),
        ("caller's name", _PLAIN, request.name),
    )
    for what, pattern, text in wrong:
        if pattern.fullmatch(text) is None or _PLAIN.fullmatch(text) is None:
            raise LocalProtocolError(f"the {what} holds what FreeSWITCH would read as more than that")
    unique_id = str(uuid.uuid4())
    limit = max(1, math.ceil(request.limit)) + AFTER_OURS
    options = {
        "origination_uuid": unique_id,
        "origination_caller_id_number": request.number,
        "origination_caller_id_name": request.name or request.number,
        "originate_timeout": str(limit),
        "ignore_early_media": "true",
        # A comma would end the option, in quotes too (1.10, measured).
        "absolute_codec_string": "^^:PCMU:PCMA",
        # Who sends nothing has FreeSWITCH go on sending to the node, and the node to them.
        "rtp_timer_name": "soft",
        # Else an encrypted call's park loop sends silence over what the node says (danger 4; the reasons stand in roomline.xml).
        "srtp_allow_idle_gaps": "true",
        "send_silence_when_idle": "0",
        # No operator's fallback: who was called is not sent to a queue.
        "roomline_outbound": "1",
        "api_on_answer": f"sched_api +{NOBODY_THERE} {lease_group(unique_id)} uuid_kill {unique_id}",
        **dict(_header(name, value) for name, value in request.headers.items()),
    }
    told = ",".join(f"{name}='{value}'" for name, value in options.items())
    user = request.to.replace("#", "%23")
    command = f"originate {{{told}}}sofia/gateway/{gateway}/{user} park inline {CONTEXT} undef undef {limit}"
    caller = Caller(number=request.to, called=request.number, endpoint=gateway, trunk_id=request.trunk_id)
    return Dialled(unique_id, command, caller)


def _header(name: str, value: str) -> tuple[str, str]:
    if _NAME.fullmatch(name) is None or _PLAIN.fullmatch(value) is None:
        raise LocalProtocolError(f"the header {name!r} holds what FreeSWITCH would read as more than a header")
    return f"sip_h_{name}", value
