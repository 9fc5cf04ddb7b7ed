"""What a LiveKit participant can ask of the phone by RPC (livekit-sip-semantics.md §3.5): the INVITE's headers. Pure functions.

The other method, `lk.sip.EndCall`, needs none: it is an event of the seat.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

GET_REMOTE_HEADERS: Final = "lk.sip.GetRemoteHeaders"
END_CALL: Final = "lk.sip.EndCall"

_OF_THE_TRANSPORT: Final = frozenset(
    (
        *("route", "record-route", "via", "supported", "accept", "allow", "allow-events", "cseq", "event", "expires"),
        *("session-expires", "min-se", "max-forwards"),
    )
)
"""Headers that tell of the signalling, not of the caller; and those that begin with `content-`."""


def remote_headers(headers: Mapping[str, str], payload: str) -> str:
    """The answer as JSON. `payload`: JSON with `include` and `exclude`, lists of names in any case; anything else counts as empty."""
    asked = _object(payload)
    include, exclude = _names(asked.get("include")), _names(asked.get("exclude"))
    chosen = {
        name: value
        for name, value in headers.items()
        if not _is_of_the_transport(name.lower()) and (not include or name.lower() in include) and name.lower() not in exclude
    }
    return json.dumps({"headers": chosen})


def _is_of_the_transport(name: str) -> bool:
    return name in _OF_THE_TRANSPORT or name.startswith("content-")


def _object(payload: str) -> dict[str, Any]:
    try:
        asked = json.loads(payload) if payload else {}
    except (ValueError, RecursionError):
        return {}
    return asked if isinstance(asked, dict) else {}


def _names(value: Any) -> frozenset[str]:
    return frozenset(name.lower() for name in value if isinstance(name, str)) if isinstance(value, list) else frozenset()
