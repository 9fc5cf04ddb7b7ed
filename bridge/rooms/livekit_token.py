"""What a participant of kind SIP shows LiveKit at the door: the access token of livekit-sip-semantics.md §3.7.

Making it is all that happens here; `livekit.py` joins with it.
"""

import time
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import jwt
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from livekit.protocol.room import RoomConfiguration

from bridge.errors import Unavailable
from bridge.model.ticket import RoomTicket
from bridge.rooms.options import LiveKitAccess

# `settings.py` says it once, in words; each token would say it again.
warnings.filterwarnings("ignore", category=jwt.warnings.InsecureKeyLengthWarning)

LIFETIME: Final = timedelta(hours=24)
"""§3.7. Long, because the SDK comes back with the same token after a lost connection."""

SKEW: Final = timedelta(hours=14)
"""How far LiveKit's clock and ours may be apart: as far as one that was set to some zone's time instead of UTC. LiveKit allows a minute,
and a token that is not valid yet, or no more, is a lost call."""

TOKEN_ATTRIBUTES: Final = 4096
"""Bytes of attributes that go into the token: it travels in one HTTP header, and proxies in front of LiveKit allow 8 KB."""

_ALWAYS_IN_TOKEN: Final = ("sip.callID", "sip.trunkID", "sip.ruleID", "sip.trunkPhoneNumber", "sip.phoneNumber")

_GRANTS: Final = {
    "roomJoin": True,
    "canPublish": True,
    "canSubscribe": True,
    "canPublishData": True,
    "canUpdateOwnMetadata": True,
}


def join_token(access: LiveKitAccess, ticket: RoomTicket, now: float | None = None) -> str:
    """A JWT that lets the ticket's participant into its room. Raises `Unavailable` for a room configuration that LiveKit would not
    understand. `now` is Unix time."""
    now = time.time() if now is None else now
    claims: dict[str, Any] = {
        "iss": access.key,
        "sub": ticket.identity,
        "nbf": int(now - SKEW.total_seconds()),
        "exp": int(now + LIFETIME.total_seconds()),
        "name": ticket.name,
        "kind": "sip",
        "metadata": ticket.metadata,
        "attributes": attributes_in_token(ticket.attributes),
        "video": {**_GRANTS, "room": ticket.room_name},
        "roomPreset": ticket.room_preset,
        "roomConfig": _room_configuration(ticket.room_config),
    }
    return jwt.encode({name: value for name, value in claims.items() if value}, access.secret, algorithm="HS256")


def look_token(access: LiveKitAccess, room_name: str, now: float | None = None) -> str:
    """A JWT that lets us see who is in one room, good for a minute, and for the skew of two clocks."""
    return _question_token(access, {"roomAdmin": True, "room": room_name}, now)


def list_token(access: LiveKitAccess, now: float | None = None) -> str:
    """The same, to see which rooms there are."""
    return _question_token(access, {"roomList": True}, now)


def _question_token(access: LiveKitAccess, grants: Mapping[str, Any], now: float | None) -> str:
    now = time.time() if now is None else now
    skew = SKEW.total_seconds()
    claims = {"iss": access.key, "nbf": int(now - skew), "exp": int(now + skew + 60), "video": grants}
    return jwt.encode(claims, access.secret, algorithm="HS256")


def attributes_in_token(attributes: Mapping[str, str]) -> dict[str, str]:
    """All of them where they fit, so that others see them from the join on; else those that LiveKit puts there. The rest is set right
    after the join."""
    # Half a surrogate pair is no UTF-8; what a caller sends must not raise here.
    sizes = (len(name.encode(errors="replace")) + len(value.encode(errors="replace")) for name, value in attributes.items())
    if sum(sizes) <= TOKEN_ATTRIBUTES:
        return dict(attributes)
    return {name: attributes[name] for name in _ALWAYS_IN_TOKEN if name in attributes}


def _room_configuration(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """In LiveKit's JSON names, whatever of the two spellings the operator used."""
    try:
        return MessageToDict(ParseDict(dict(configuration), RoomConfiguration()))
    except ParseError as error:
        raise Unavailable(f"the rule's room_config is none: {error}") from None
