"""The `sip.*` attributes that come from the call itself, laid over those of the decision (livekit-sip-semantics.md §2.6, §3.8)."""

from collections.abc import Mapping

from bridge.dispatch.outcome import Accept
from bridge.model.caller import Caller
from bridge.model.ending import EndReason

RINGING, ACTIVE, HANGUP = "ringing", "active", "hangup"
DIALING, AUTOMATION = "dialing", "automation"
CALL_STATUS = "sip.callStatus"

STATUS_STAYS = frozenset(
    {EndReason.ROOM_CLOSED, EndReason.REMOVED, EndReason.DUPLICATE_IDENTITY, EndReason.RINGING_TIMEOUT, EndReason.SHUTDOWN}
)
"""Ends after which LiveKit leaves `sip.callStatus` as it was (§3.6)."""

TOTAL_LIMIT = 65536
"""Bytes of all names and values together: LiveKit's limit (§4)."""

_X_HEADERS, _ALL_HEADERS = 1, 2
"""SIPHeaderOptions, §1.15."""

_PROVIDER_HEADERS = {
    "x-twilio-accountsid": "sip.twilio.accountSid",
    "x-twilio-callsid": "sip.twilio.callSid",
    "x-call_leg_id": "sip.telnyx.callLegID",
    "x-call_session_id": "sip.telnyx.callSessionID",
    "x-amzn-connectcontactid": "sip.amazon.contactId",
    "x-amzn-connectinitialcontactid": "sip.amazon.initialContactId",
    "x-amzn-sourceaccount": "sip.amazon.sourceAccount",
    "x-amzn-sourcearn": "sip.amazon.sourceArn",
    "x-amzn-targetarn": "sip.amazon.targetArn",
    "x-lk-test-id": "lktest.id",
}


def participant_attributes(accept: Accept, caller: Caller, status: str) -> dict[str, str]:
    """Every attribute of the participant, in LiveKit's order: later ones win. An empty value is none, the trunk's id of a call without a
    trunk among them (docs/differences.md). What a caller sends beyond LiveKit's limit is dropped, longest first: a join must not fail of
    it."""
    attributes = {
        **accept.attributes,
        **_included_headers(caller, accept.include_headers),
        **_mapped_headers(caller, accept.headers_to_attributes),
        **_mapped_headers(caller, _PROVIDER_HEADERS),
        "sip.callTag": caller.sip_tag,
        "sip.callIDFull": caller.sip_call_id,
        CALL_STATUS: status,
    }
    return _bounded({name: value for name, value in attributes.items() if value})


def _included_headers(caller: Caller, include: int) -> dict[str, str]:
    """The last of several headers of one name wins."""
    headers = {name.lower(): value for name, value in caller.headers.items()}
    if include == _ALL_HEADERS:
        return {f"sip.h.{name}": value for name, value in headers.items()}
    if include == _X_HEADERS:
        return {f"sip.h.{name}": value for name, value in headers.items() if name.startswith("x-")}
    return {}


def _mapped_headers(caller: Caller, mapping: Mapping[str, str]) -> dict[str, str]:
    """The first of several headers of one name wins."""
    headers: dict[str, str] = {}
    for name, value in caller.headers.items():
        headers.setdefault(name.lower(), value)
    return {attribute: headers[name.lower()] for name, attribute in mapping.items() if name.lower() in headers}


def _bounded(attributes: dict[str, str]) -> dict[str, str]:
    # Half a surrogate pair is no UTF-8; what a caller sends must not raise here.
    sizes = {name: len(name.encode(errors="replace")) + len(value.encode(errors="replace")) for name, value in attributes.items()}
    total = sum(sizes.values())
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if total <= TOTAL_LIMIT:
            break
        total -= sizes[name]
        del attributes[name]
    return attributes
