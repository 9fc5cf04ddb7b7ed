"""Calling somebody through Asterisk: the Originate action, its channel's name and id our own, so that its events are known for ours.

Who is called is put into the PBX's words here, and nothing passes that Asterisk could read as more. What becomes of the call is the leg's.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from bridge.errors import CannotDial, LocalProtocolError
from bridge.model.caller import Caller
from bridge.model.target import USER
from bridge.pbx.asterisk.wire import Headers
from bridge.pbx.port import DialRequest

CALLED: Final = "roomline-called"
"""The context for who has answered."""

ID_PREFIX: Final = "roomline-"
"""Of the channels that we make: the manager's filter lets their events through (dialplan/asterisk/manager.conf)."""

_ENDPOINT: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_PLAIN: Final = re.compile(r"[^\x00-\x1f\x7f<>\"\\\\,()$;&|]*")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Dialled:
    """The Originate that calls them, and what is known of the call from the start: who is called is its caller, as in LiveKit the phone
    number is theirs."""

    unique_id: str
    action: Headers
    caller: Caller


def dialled(request: DialRequest, endpoints: Mapping[str, str]) -> Dialled:
    """`endpoints`: the PJSIP endpoint of each trunk. Raises CannotDial, LocalProtocolError."""
    endpoint = endpoints.get(request.trunk_id, "")
    if not endpoint:
        raise CannotDial(f"the PBX has no endpoint for trunk {request.trunk_id}: name one in pbx[].outbound_endpoints")
    wrong = (
        ("number to be called", USER, request.to.replace("#", "")),
        ("endpoint", _ENDPOINT, endpoint),
        ("caller's number", USER, request.number),
        ("caller's name", _PLAIN, request.name),
    )
    for what, pattern, text in wrong:
        if pattern.fullmatch(text) is None:
            raise LocalProtocolError(f"the {what} holds what Asterisk would read as more than that")
    unique_id = f"{ID_PREFIX}{secrets.token_hex(8)}"
    user = request.to.replace("#", "%23")
    action: Headers = {
        "Channel": f"PJSIP/{user}@{endpoint}",
        "ChannelId": unique_id,
        "Context": CALLED,
        "Exten": "s",
        "Priority": 1,
        "CallerID": f'"{request.name}" <{request.number}>' if request.name else f"<{request.number}>",
        "Timeout": max(1, round(request.limit * 1000)),
        "Async": "true",
        "EarlyMedia": "false",
        # No operator's fallback: who was called is not sent to a queue.
        "Variable": [
            f'ROOMLINE_FACTS="outbound=1&number={quote(request.to, safe="")}&called={quote(request.number, safe="")}&technology=PJSIP"',
            *(_header(name, value) for name, value in request.headers.items()),
        ],
    }
    caller = Caller(number=request.to, called=request.number, endpoint=endpoint, trunk_id=request.trunk_id)
    return Dialled(unique_id, action, caller)


def _header(name: str, value: str) -> str:
    if _NAME.fullmatch(name) is None or _PLAIN.fullmatch(value) is None:
        raise LocalProtocolError(f"the header {name!r} holds what Asterisk would read as more than a header")
    return f"PJSIP_HEADER(add,{name})={value}"
