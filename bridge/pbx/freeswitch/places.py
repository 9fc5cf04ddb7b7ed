"""Where channels are: with us, fallen back, or taken elsewhere by somebody else. Holds every name that dialplan/freeswitch shares with us.

The dialplan parks a call in our context, having named the operator's fallback on the channel and scheduled the first lease. What we send
to another park loop (`inline`) stays in that context, and keeps the number that was called (switch_ivr.c, mod_dptools.c).
"""

import re
from enum import Enum, auto
from typing import Final

from bridge.pbx.freeswitch.messages import Event

CONTEXT: Final = "roomline"
"""The dialplan's context for calls that are ours: `transfer` with `${destination_number} XML roomline`."""

FALLBACK: Final = "roomline_fallback"
"""Channel variable: `extension dialplan context`, where callers go whom nobody takes. Without it they hear that the network is busy."""

TRUNK: Final = "trunk_id"
"""Variable that our directory gives an authenticated user: the trunk as which they are known."""

NOTE: Final = "roomline_note"
"""Channel variable: what an earlier controller remembered on the call."""

HEARTBEAT: Final = "roomline_heartbeat"
"""Global variable: `epoch:controller:count`."""

PARKED_FOR: Final = 3
"""Seconds that the dialplan gives a controller to take a call that it has just parked."""

_EXTENSION: Final = re.compile(r"(?!-)[^\s'\"\\$&|;]{1,128}( [A-Za-z]{1,16}( [^\s'\"\\$&|;]{1,128})?)?")
"""An extension, its dialplan and its context; nothing that a scheduled command could read as more."""


UNIQUE_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
"""What FreeSWITCH makes of its own accord; nothing else goes into a command of ours."""

_LEASE: Final = re.compile(f"roomline-({UNIQUE_ID.pattern})")


class Place(Enum):
    """Whose a channel is."""

    OURS = auto()
    FALLBACK = auto()
    TAKEN = auto()


def lease_group(unique_id: str) -> str:
    """The group of scheduled commands in which a call's leases are: the dialplan's `sched_api` and ours."""
    return f"roomline-{unique_id}"


def leased(group: str) -> str:
    """The call that has a lease in this group; empty for a group of somebody else's."""
    found = _LEASE.fullmatch(group)
    return found[1] if found is not None else ""


def to_fallback(unique_id: str, fallback: str) -> str:
    """The command that hands a call to the operator's fallback."""
    if _EXTENSION.fullmatch(fallback) is None:
        return f"uuid_kill {unique_id} SWITCH_CONGESTION"
    return f"uuid_transfer {unique_id} {fallback}"


def place(channel: Event) -> Place:
    """`channel`: what `uuid_dump` says of it. Somebody's bridge leaves our context on it, and takes it out of its extension."""
    if channel["Caller-Context"] == CONTEXT and not channel["variable_signal_bond"] and channel["Channel-State"] in _STILL_HERE:
        return Place.OURS
    _, _, context = channel[f"variable_{FALLBACK}"].rpartition(" ")
    return Place.FALLBACK if context and channel["Caller-Context"] == context else Place.TAKEN


_STILL_HERE: Final = frozenset({"CS_EXECUTE", "CS_ROUTING"})
