"""What LiveKit refuses to create or change, and what it only warns of (livekit-sip-semantics.md §1.1–1.13).

A check raises InvalidObject, or returns soft failures: sentences that refuse nothing.
"""

from collections.abc import Mapping

from bridge.model.countries import COUNTRIES
from bridge.model.headers import InvalidHeader, check_header_names, check_headers
from bridge.model.list_update import InvalidUpdate, ListUpdate
from bridge.model.media import MEDIA_TIMEOUT_LIMIT, MediaConfig
from bridge.model.participant import Destination, NewParticipant, OutboundConfig
from bridge.model.rule import DispatchRule, NewDispatchRule
from bridge.model.trunk import InboundTrunk, LegacyTrunk, OutboundTrunk
from bridge.model.update import InboundTrunkUpdate, OutboundTrunkUpdate, RuleUpdate

Soft = tuple[str, ...]

SHOWN_LIMIT = 128
"""Bytes of the name that is shown to who is called."""

NAME_LIMIT, ATTRIBUTES_LIMIT, METADATA_LIMIT = 256, 64 * 1024, 512 * 1024
"""Bytes that a LiveKit server takes of a room's or a participant's name, of a participant's attributes, of the metadata."""

_TOKEN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.!%*_+`'~")
"""RFC 3261's token."""

_CODEC_FORBIDDEN = frozenset(" \t\n\r/")


class InvalidObject(ValueError):  # noqa: N818  (says what it is)
    """LiveKit answers invalid_argument to this."""


def check_media(media: MediaConfig | None) -> None:
    """§1.6. Whether a codec exists is not asked here."""
    if media is None:
        return
    for codec in media.codecs:
        if not codec.name or not _CODEC_FORBIDDEN.isdisjoint(codec.name):
            raise InvalidObject("a codec's name is not empty and holds neither white space nor a slash")
    if media.media_timeout is not None and not 0 <= media.media_timeout.total_seconds() <= MEDIA_TIMEOUT_LIMIT:
        raise InvalidObject("media_timeout is between 0 and 10 minutes")


def check_inbound_trunk(trunk: InboundTrunk) -> Soft:
    """§1.1."""
    if not (trunk.auth_username or trunk.auth_password or trunk.allowed_addresses or trunk.numbers):
        raise InvalidObject("for security, one of auth_username and auth_password, allowed_addresses or numbers must be set")
    check_media(trunk.media)
    return _check_header_maps(trunk.headers, trunk.attributes_to_headers, trunk.headers_to_attributes)


def check_outbound_trunk(trunk: OutboundTrunk) -> Soft:
    """§1.2, in its order."""
    if not trunk.numbers:
        raise InvalidObject("an outbound trunk has at least one number")
    if not trunk.address:
        raise InvalidObject("an outbound trunk has an address")
    check_host("address", trunk.address)
    check_host("from_host", trunk.from_host)
    soft = _check_header_maps(trunk.headers, trunk.attributes_to_headers, trunk.headers_to_attributes)
    check_media(trunk.media)
    return soft


def check_host(field: str, host: str) -> None:
    """A host name or address with an optional port, not a URI (§1.2)."""
    if "transport=" in host or "@" in host or ";" in host or host.startswith(("sip:", "sips:")):
        raise InvalidObject(f"{field} is a host name or an IP address, not a SIP URI")


def check_rule(rule: DispatchRule) -> Soft:
    """§1.4. A rule without a kind passes here and fails as a conflict (§2.5)."""
    if rule.rule is None:
        raise InvalidObject("a dispatch rule has a rule")
    check_media(rule.media)
    return ()


def check_new_inbound_trunk(trunk: InboundTrunk | None) -> Soft:
    """CreateSIPInboundTrunkRequest, §1.8."""
    if trunk is None:
        raise InvalidObject("the trunk is missing")
    if trunk.sip_trunk_id:
        raise InvalidObject("the id of a new trunk must be empty")
    return check_inbound_trunk(trunk)


def check_new_outbound_trunk(trunk: OutboundTrunk | None) -> Soft:
    """CreateSIPOutboundTrunkRequest, §1.8."""
    if trunk is None:
        raise InvalidObject("the trunk is missing")
    if trunk.sip_trunk_id:
        raise InvalidObject("the id of a new trunk must be empty")
    return check_outbound_trunk(trunk)


def check_legacy_trunk(trunk: LegacyTrunk) -> Soft:
    """SIPTrunkInfo, §1.5."""
    if trunk.inbound_numbers_regex:
        raise InvalidObject("inbound_numbers_regex is not supported any more")
    return ()


def check_new_rule(request: NewDispatchRule) -> Soft:
    """CreateSIPDispatchRuleRequest in either form, §1.8."""
    if request.dispatch_rule is not None and request.dispatch_rule.sip_dispatch_rule_id:
        raise InvalidObject("the id of a new rule must be empty")
    return check_rule(request.as_rule())


def check_inbound_change(trunk_id: str, replace: InboundTrunk | None, update: InboundTrunkUpdate | None) -> Soft:
    """UpdateSIPInboundTrunkRequest, §1.9."""
    _check_action(trunk_id, replace.sip_trunk_id if replace else "", replace is not None or update is not None)
    if replace is not None:
        return check_inbound_trunk(replace)
    if update is not None:
        check_inbound_update(update)
    return ()


def check_outbound_change(trunk_id: str, replace: OutboundTrunk | None, update: OutboundTrunkUpdate | None) -> Soft:
    """UpdateSIPOutboundTrunkRequest, §1.9."""
    _check_action(trunk_id, replace.sip_trunk_id if replace else "", replace is not None or update is not None)
    if replace is not None:
        return check_outbound_trunk(replace)
    if update is not None:
        check_outbound_update(update)
    return ()


def check_rule_change(rule_id: str, replace: DispatchRule | None, update: RuleUpdate | None) -> Soft:
    """UpdateSIPDispatchRuleRequest, §1.9."""
    _check_action(rule_id, replace.sip_dispatch_rule_id if replace else "", replace is not None or update is not None)
    if replace is not None:
        return check_rule(replace)
    if update is not None:
        check_rule_update(update)
    return ()


def check_inbound_update(update: InboundTrunkUpdate) -> None:
    """SIPInboundTrunkUpdate by itself. What the changed trunk then is, `bridge.model.change` checks (§1.9)."""
    _check_lists(update.numbers, update.allowed_addresses, update.allowed_numbers)
    check_media(update.media)


def check_outbound_update(update: OutboundTrunkUpdate) -> None:
    """SIPOutboundTrunkUpdate by itself: its hosts are checked only in the changed trunk (§1.9)."""
    _check_lists(update.numbers)
    check_media(update.media)


def check_rule_update(update: RuleUpdate) -> None:
    """SIPDispatchRuleUpdate by itself."""
    _check_lists(update.trunk_ids)
    check_media(update.media)


def _check_action(object_id: str, replace_id: str, has_action: bool) -> None:
    if not object_id:
        raise InvalidObject("the id is missing")
    if not has_action:
        raise InvalidObject("an update replaces or updates")
    if replace_id and replace_id != object_id:
        raise InvalidObject("the id of the replacement is another one")


def _check_lists(*updates: ListUpdate | None) -> None:
    for update in updates:
        if update is not None:
            try:
                update.check()
            except InvalidUpdate as error:
                raise InvalidObject(str(error)) from None


def check_new_participant(new: NewParticipant) -> Soft:
    """§1.11, in its order."""
    if not (new.sip_trunk_id or new.trunk is not None or new.sip_number):
        raise InvalidObject("a trunk is missing: its id, or one in the request, or a number to call from")
    if new.trunk is not None:
        check_outbound_config(new.trunk)
    if not new.sip_call_to or "@" in new.sip_call_to:
        raise InvalidObject("sip_call_to is a number or a user, without an @")
    if "@" in new.to_user_override or not _TOKEN.issuperset(new.to_user_override):
        raise InvalidObject("to_user_override is a user, without an @ and without what ends one in a header")
    if not new.room_name:
        raise InvalidObject("the room's name is missing")
    if new.display_name is not None and (
        len(new.display_name.encode(errors="replace")) > SHOWN_LIMIT or not _is_quotable(new.display_name)
    ):
        raise InvalidObject(f"the display name has at most {SHOWN_LIMIT} bytes, and none that a quoted text cannot have")
    if new.destination is not None:
        check_destination(new.destination)
    soft = _check_header_maps(new.headers, {}, {})
    check_media(new.media)
    _check_lengths(new)
    return soft


def _check_lengths(new: NewParticipant) -> None:
    """What a LiveKit server refuses when they join, which would be after their phone has rung."""
    for field in ("room_name", "participant_identity", "participant_name"):
        if _bytes(getattr(new, field)) > NAME_LIMIT:
            raise InvalidObject(f"{field} has more than {NAME_LIMIT} bytes")
    if _bytes(*new.participant_attributes.keys(), *new.participant_attributes.values()) > ATTRIBUTES_LIMIT:
        raise InvalidObject(f"participant_attributes have more than {ATTRIBUTES_LIMIT} bytes")
    if _bytes(new.participant_metadata) > METADATA_LIMIT:
        raise InvalidObject(f"participant_metadata has more than {METADATA_LIMIT} bytes")


def _bytes(*texts: str) -> int:
    return sum(len(text.encode(errors="replace")) for text in texts)


def check_outbound_config(trunk: OutboundConfig) -> Soft:
    """A trunk within a request, §1.11."""
    if not trunk.hostname:
        raise InvalidObject("the trunk's hostname is missing")
    check_host("hostname", trunk.hostname)
    check_host("from_host", trunk.from_host)
    return _check_header_maps({}, trunk.attributes_to_headers, trunk.headers_to_attributes)


def check_destination(found: Destination) -> None:
    """§1.11."""
    if found.city and not (found.country or found.region):
        raise InvalidObject("a city alone is no destination: say its country or region")
    if found.country and found.country not in COUNTRIES:
        raise InvalidObject("a destination's country must be a valid ISO 3166-1 alpha-2 code")


def _is_quotable(text: str) -> bool:
    return text.isprintable() and '"' not in text and "\\" not in text


def check_participant(room_name: str, identity: str) -> None:
    """Of whom a request speaks, §1.12; asked before anything else of it."""
    if not room_name:
        raise InvalidObject("the room's name is missing")
    if not identity:
        raise InvalidObject("the participant's identity is missing")


def check_transfer(transfer_to: str, headers: Mapping[str, str]) -> tuple[str, Soft]:
    """Where a caller is to be handed on to, as LiveKit writes it into a header, §1.12. What of it is believed here is narrower
    (`model/target.py`)."""
    if not transfer_to:
        raise InvalidObject("transfer_to is missing")
    uri = transfer_to[1:-1] if transfer_to.startswith("<") and transfer_to.endswith(">") else transfer_to
    if not uri.startswith(("sip:", "sips:", "tel:")):
        raise InvalidObject("transfer_to must be a SIP or tel URI: it begins with sip:, sips: or tel:")
    try:
        soft = check_headers(headers)
    except InvalidHeader as error:
        raise InvalidObject(str(error)) from None
    return uri if uri.startswith("tel:") else f"<{uri}>", soft


def _check_header_maps(headers: Mapping[str, str], to_headers: Mapping[str, str], from_headers: Mapping[str, str]) -> Soft:
    try:
        soft = check_headers(headers)
        check_header_names(to_headers.values())
        check_header_names(from_headers.keys())
    except InvalidHeader as error:
        raise InvalidObject(str(error)) from None
    return soft
