"""What the dialplan tells of a caller, decoded once. Everything in it may be shaped by the caller; any text gives a Caller."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from bridge.model.caller import Caller
from bridge.pbx.asterisk.credentials import trunk_of

_WIDEBAND = re.compile(r"g722|g719|opus|slin(16|24|32|44|48)|silk(12|16|24)|speex(16|32)|siren|amrwb", re.IGNORECASE)
_HOST = re.compile(r"@(\[[0-9A-Fa-f:.]+\]|[^>;:\s]+)")
_ADDRESS = re.compile(r"^(?:\[(?P<six>[^\]]+)\]|(?P<four>[^:]+))(?::\d+)?$")


def read_caller(facts: str, headers: str, trusted_endpoints: Mapping[str, str]) -> Caller:
    """`facts` and `headers` as dialplan/asterisk/roomline.conf writes them: `name=value` joined by `&`, both URI-encoded.
    Of a header that stands there more than once, the last counts (livekit-sip-semantics.md §3.8); the dialplan reads the first."""
    known = dict(_pairs(facts))
    endpoint = known.get("endpoint", "")
    return Caller(
        number=known.get("number", ""),
        called=known.get("called", ""),
        display_name=known.get("name", ""),
        host=_host(known.get("from", "")),
        source_address=_address(known.get("address", "")),
        sip_call_id=known.get("call_id", ""),
        sip_tag=known.get("tag", ""),
        endpoint=endpoint,
        trunk_id=trusted_endpoints.get(endpoint, "") or trunk_of(endpoint) if endpoint else "",
        headers=dict(_pairs(headers)),
        wideband=_WIDEBAND.search(known.get("formats", "").split("|")[0]) is not None,
    )


def is_sip(facts: str) -> bool:
    """Whether the call came by PJSIP, so that it has SIP statuses."""
    return dict(_pairs(facts)).get("technology") == "PJSIP"


def is_outgoing(facts: str) -> bool:
    """Whether Roomline has called them (`dialing.py`)."""
    return dict(_pairs(facts)).get("outbound") == "1"


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split("&"):
        name, _, value = pair.partition("=")
        if name:
            yield unquote(name, errors="replace"), unquote(value, errors="replace")


def _host(uri: str) -> str:
    # The last one: a display name may hold an @ too.
    found = _HOST.findall(uri)
    return found[-1].strip("[]") if found else ""


def _address(text: str) -> str:
    match = _ADDRESS.match(text)
    return (match["six"] or match["four"]) if match else ""
