"""What each function of the vectors is here: from a case's input to what it gives, in the vectors' own form."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel

from bridge.dispatch import addresses, conflicts, numbers
from bridge.dispatch import rules as rule_match
from bridge.dispatch import trunks as trunk_match
from bridge.dispatch.evaluate import MAX_CALL_DURATION, RINGING_TIMEOUT, decide
from bridge.dispatch.outcome import Accept, AskPin, Refuse
from bridge.dispatch.rules import Ask
from bridge.dispatch.trace import Trace
from bridge.model import change, headers, validation
from bridge.model.caller import Caller
from bridge.model.list_filter import filter_inbound, filter_outbound, filter_rules
from bridge.model.list_update import ListUpdate
from bridge.model.media import Codec, MediaConfig, MediaEncryption
from bridge.model.participant import Destination, NewParticipant, OutboundConfig, outbound_media
from bridge.model.rule import DispatchRule, NewDispatchRule
from bridge.model.trunk import HeaderOptions, InboundTrunk, LegacyTrunk, OutboundTrunk
from bridge.model.update import InboundTrunkUpdate, OutboundTrunkUpdate, RuleUpdate

Json = dict[str, Any]
_Model = TypeVar("_Model", bound=BaseModel)
Function = Callable[[Json], Any]

LEFT_OUT = {
    "outbound_headers": "From, To and Request-URI are the PBX's: its endpoint writes them",
    "refer_notify": "REFER is the PBX's: Asterisk reads the NOTIFYs",
    "reason_header": "BYE is the PBX's: Asterisk reads the Reason header",
    "provider_label": "a metric's label of LiveKit's cloud providers",
    "sip_status_to_grpc": "no case of it among the public vectors says how it is asked; tests/api/test_sip_status.py has the whole table",
}
"""Functions about something Roomline does not do (yet), and why."""

LEFT_OUT_TYPES: dict[str, str] = {}
"""Message types of `validate` that are left out, and why."""


def to_message(model: Any) -> Json:
    """A model as the vectors write a message: defaults omitted."""
    message: Json = model.model_dump(mode="json", exclude_defaults=True)
    return message


def _trunks(items: list[Json] | None) -> list[InboundTrunk]:
    return [InboundTrunk.model_validate(item) for item in items or []]


def _rules(items: list[Json] | None) -> list[DispatchRule]:
    return [DispatchRule.model_validate(item) for item in items or []]


def _user(call: Json, side: str, part: str = "user") -> str:
    text: str = (call.get(side) or {}).get(part, "")
    return text


def _caller(call: Json) -> Caller:
    return Caller(
        number=_user(call, "from"),
        called=_user(call, "to"),
        host=_user(call, "from", "host"),
        source_address=call.get("source_ip", ""),
    )


def _call(request: Json) -> Json:
    """The call of a request, which gives it whole or (the older way) in fields of its own."""
    call: Json | None = request.get("call")
    return call or {
        "lk_call_id": request.get("sip_call_id", ""),
        "source_ip": request.get("src_address", "").rpartition(":")[0],
        "from": {"user": request.get("calling_number", ""), "host": request.get("calling_host", "")},
        "to": {"user": request.get("called_number", "")},
    }


def _match_trunk(given: Json) -> Json:
    trunk = trunk_match.match_trunk(_trunks(given.get("trunks")), _caller(given.get("call") or {})).trunk
    return {"match_id": trunk.sip_trunk_id if trunk else None}


def _match_trunk_detailed(given: Json) -> Json:
    match = trunk_match.match_trunk(_trunks(given.get("trunks")), _caller(given.get("call") or {}))
    trunk = to_message(match.trunk) if match.trunk else None
    return {"trunk": trunk, "match_type": match.type.value, "default_trunk_count": match.default_count}


def _match_dispatch_rule(given: Json) -> Json:
    request, trunk = given.get("request") or {}, given.get("trunk") or {}
    ask = Ask(
        # Matching reads the request's own fields, whatever its call says.
        caller=request.get("calling_number", ""),
        called=request.get("called_number", ""),
        trunk_id=trunk.get("sip_trunk_id", ""),
        pin=request.get("pin"),
        no_pin=request.get("no_pin", False),
    )
    return {"match_id": rule_match.match_rule(_rules(given.get("rules")), ask).sip_dispatch_rule_id}


def _evaluate(given: Json) -> Json:
    request = given.get("request") or {}
    trunk = InboundTrunk.model_validate(given["trunk"]) if given.get("trunk") is not None else None
    if given.get("rule") is None:
        raise ValueError("there is no rule")
    rule = DispatchRule.model_validate(given["rule"])
    call = _call(request)
    caller = _caller(call)
    decision = decide(
        trunk,
        rule,
        caller,
        Ask(caller.number, caller.called, request.get("sip_trunk_id", ""), request.get("pin"), request.get("no_pin", False)),
        call.get("lk_call_id", ""),
        lambda: "abcdefghijkm",
        Trace(""),
        request.get("extra_attributes"),
    )
    if isinstance(decision, Refuse):
        raise PermissionError(decision.reason)
    encryption = decision.media.encryption
    found: Json = {
        "project_id": given.get("project_id", ""),
        "sip_trunk_id": decision.trunk_id,
        "sip_dispatch_rule_id": decision.rule_id,
        "media": to_message(decision.media),
        **({"media_encryption": encryption.name} if encryption else {}),
    }
    if isinstance(decision, AskPin):
        return {**found, "result": "REQUEST_PIN", "request_pin": True}
    return {**found, **_accepted(decision, trunk)}


def _duration(resolved: timedelta, default: timedelta, configured: timedelta | None) -> str | None:
    """LiveKit's answer passes on what the trunk says and leaves the default to the call; ours is resolved already."""
    if configured is None or configured <= timedelta() or configured > default > RINGING_TIMEOUT:
        assert resolved == default
        resolved = configured if configured is not None else timedelta()
    return to_message(InboundTrunk(ringing_timeout=resolved))["ringing_timeout"] if configured is not None else None


def _accepted(accept: Accept, trunk: InboundTrunk | None) -> Json:
    timeout, limit = (trunk.ringing_timeout, trunk.max_call_duration) if trunk else (None, None)
    sent = {
        "result": "ACCEPT",
        "room_name": accept.room_name,
        "participant_identity": accept.identity,
        "participant_name": accept.name,
        "participant_metadata": accept.metadata,
        "participant_attributes": dict(accept.attributes),
        "room_preset": accept.room_preset,
        "room_config": dict(accept.room_config),
        "headers": dict(accept.headers),
        "headers_to_attributes": dict(accept.headers_to_attributes),
        "attributes_to_headers": dict(accept.attributes_to_headers),
        "include_headers": HeaderOptions(accept.include_headers).name if accept.include_headers else "",
        "enabled_features": ["KRISP_ENABLED"] if accept.krisp_enabled else [],
        "ringing_timeout": _duration(accept.ringing_timeout, RINGING_TIMEOUT, timeout),
        "max_call_duration": _duration(accept.max_call_duration, MAX_CALL_DURATION, limit),
    }
    return {name: value for name, value in sent.items() if value}


def _list_filter(given: Json) -> Json:
    """Which list it is shows in the fields (rules have ids of their own, outbound trunks an address) or else in the case's name."""
    request, items = given.get("request") or {}, given.get("items") or []
    names = {name for item in items for name in item or ()} | set(request)
    trunk_ids, numbers = request.get("trunk_ids") or (), request.get("numbers") or ()
    found: Sequence[DispatchRule | InboundTrunk | OutboundTrunk | None]
    if names & {"sip_dispatch_rule_id", "dispatch_rule_ids"}:
        found = filter_rules(_each(DispatchRule, items), request.get("dispatch_rule_ids") or (), trunk_ids)
        return {"ids": [rule.sip_dispatch_rule_id if rule else None for rule in found]}
    if "Outbound" in given["case_id"] or "address" in names:
        found = filter_outbound(_each(OutboundTrunk, items), trunk_ids, numbers)
    else:
        found = filter_inbound(_each(InboundTrunk, items), trunk_ids, numbers)
    return {"ids": [trunk.sip_trunk_id if trunk else None for trunk in found]}


def _each(model: type[_Model], items: Sequence[Json | None]) -> list[_Model | None]:
    return [model.model_validate(item) if item is not None else None for item in items]


def _list_update(given: Json) -> list[str]:
    current = given.get("list") or []
    if given.get("update") is None:
        return list(current)
    return list(ListUpdate.model_validate(given["update"]).apply(current))


def _select_inbound_trunks(given: Json) -> Json:
    legacy = [LegacyTrunk.model_validate(item).as_inbound() for item in given.get("legacy_trunks") or []]
    everything = _trunks(given.get("inbound_trunks")) + [trunk for trunk in legacy if trunk is not None]
    return {"ids": [trunk.sip_trunk_id for trunk in trunk_match.candidates(everything, given.get("called_number", ""))]}


def _select_dispatch_rules(given: Json) -> Json:
    return {"ids": [rule.sip_dispatch_rule_id for rule in rule_match.candidates(_rules(given.get("rules")), given.get("trunk_id", ""))]}


def _apply_update(given: Json) -> Any:
    changes: dict[str, tuple[type[Any], type[Any], Callable[..., Any], Callable[..., Any]]] = {
        "UpdateSIPInboundTrunkRequest": (
            InboundTrunk,
            InboundTrunkUpdate,
            change.replaced_inbound_trunk,
            change.updated_inbound_trunk,
        ),
        "UpdateSIPOutboundTrunkRequest": (
            OutboundTrunk,
            OutboundTrunkUpdate,
            change.replaced_outbound_trunk,
            change.updated_outbound_trunk,
        ),
        "UpdateSIPDispatchRuleRequest": (DispatchRule, RuleUpdate, change.replaced_rule, change.updated_rule),
    }
    model, update, replaced, updated = changes[given["type"]]
    action, current = given.get("action") or {}, model.model_validate(given.get("current") or {})
    if action.get("replace") is not None:
        return replaced(current, model.model_validate(action["replace"]))
    if action.get("update") is not None:
        return updated(current, update.model_validate(action["update"]))
    raise validation.InvalidObject("an update replaces or updates")


def _legacy_roundtrip(given: Json) -> Any:
    if given["type"] == "SIPInboundTrunkInfo":
        return LegacyTrunk.from_inbound(InboundTrunk.model_validate(given["message"])).as_inbound()
    return LegacyTrunk.from_outbound(OutboundTrunk.model_validate(given["message"])).as_outbound()


def _optional(model: type[Any], message: Json, field: str) -> Any:
    return model.model_validate(message[field]) if message.get(field) is not None else None


def _validate(given: Json) -> Json:
    kind, message = given["type"], given.get("message") or {}
    checks: Mapping[str, Callable[[], tuple[str, ...] | None]] = {
        "SIPInboundTrunkInfo": lambda: validation.check_inbound_trunk(InboundTrunk.model_validate(message)),
        "SIPOutboundTrunkInfo": lambda: validation.check_outbound_trunk(OutboundTrunk.model_validate(message)),
        "SIPTrunkInfo": lambda: validation.check_legacy_trunk(LegacyTrunk.model_validate(message)),
        "SIPInboundTrunkUpdate": lambda: validation.check_inbound_update(InboundTrunkUpdate.model_validate(message)),
        "SIPOutboundTrunkUpdate": lambda: validation.check_outbound_update(OutboundTrunkUpdate.model_validate(message)),
        "SIPDispatchRuleUpdate": lambda: validation.check_rule_update(RuleUpdate.model_validate(message)),
        "ListUpdate": lambda: ListUpdate.model_validate(message).check(),
        "SIPCodec": lambda: validation.check_media(MediaConfig(codecs=(Codec.model_validate(message),))),
        "SIPDispatchRuleInfo": lambda: validation.check_rule(DispatchRule.model_validate(message)),
        "SIPMediaConfig": lambda: validation.check_media(MediaConfig.model_validate(message)),
        "CreateSIPInboundTrunkRequest": lambda: validation.check_new_inbound_trunk(_optional(InboundTrunk, message, "trunk")),
        "CreateSIPOutboundTrunkRequest": lambda: validation.check_new_outbound_trunk(_optional(OutboundTrunk, message, "trunk")),
        "CreateSIPDispatchRuleRequest": lambda: validation.check_new_rule(NewDispatchRule.model_validate(message)),
        "CreateSIPParticipantRequest": lambda: validation.check_new_participant(NewParticipant.model_validate(message)),
        "SIPOutboundConfig": lambda: validation.check_outbound_config(OutboundConfig.model_validate(message)),
        "Destination": lambda: validation.check_destination(Destination.model_validate(message)),
        "UpdateSIPInboundTrunkRequest": lambda: validation.check_inbound_change(
            message.get("sip_trunk_id", ""),
            _optional(InboundTrunk, message, "replace"),
            _optional(InboundTrunkUpdate, message, "update"),
        ),
        "UpdateSIPOutboundTrunkRequest": lambda: validation.check_outbound_change(
            message.get("sip_trunk_id", ""),
            _optional(OutboundTrunk, message, "replace"),
            _optional(OutboundTrunkUpdate, message, "update"),
        ),
        "UpdateSIPDispatchRuleRequest": lambda: validation.check_rule_change(
            message.get("sip_dispatch_rule_id", ""),
            _optional(DispatchRule, message, "replace"),
            _optional(RuleUpdate, message, "update"),
        ),
    }
    if kind == "TransferSIPParticipantRequest":
        return _validate_transfer(message)
    return _soft(checks[kind]() or ())


def _new_participant(given: Json) -> Json:
    media = outbound_media(NewParticipant.model_validate(given["request"]), OutboundTrunk.model_validate(given["trunk"]))
    encryption = media.encryption or MediaEncryption.SIP_MEDIA_ENCRYPT_DISABLE
    return {"media": to_message(media), "media_encryption": encryption.name}


def _validate_transfer(message: Json) -> Json:
    validation.check_participant(message.get("room_name", ""), message.get("participant_identity", ""))
    transfer_to, soft = validation.check_transfer(message.get("transfer_to", ""), message.get("headers") or {})
    return {**_soft(soft), "after": {"transfer_to": transfer_to}}


def _soft(soft: tuple[str, ...]) -> Json:
    return {"soft_errors": list(soft), "soft_errors.count": len(soft)}


FUNCTIONS: dict[str, Function] = {
    "normalize_number": lambda given: numbers.normalize_number(given["number"]),
    "is_valid_mask": lambda given: addresses.is_valid_mask(given["mask"]),
    "match_addr_mask": lambda given: addresses.match_mask(given["addr"], given["mask"]),
    "match_addr_masks": lambda given: addresses.match_masks(given.get("addr", ""), given.get("host", ""), given.get("masks") or ()),
    "match_trunk": _match_trunk,
    "match_trunk_detailed": _match_trunk_detailed,
    "validate_trunks": lambda given: conflicts.check_trunks(_trunks(given.get("trunks"))),
    "match_dispatch_rule": _match_dispatch_rule,
    "validate_dispatch_rules": lambda given: conflicts.check_rules(_rules(given.get("rules"))),
    "evaluate_dispatch_rule": _evaluate,
    "select_inbound_trunks": _select_inbound_trunks,
    "select_dispatch_rules": _select_dispatch_rules,
    "list_filter": _list_filter,
    "list_update": _list_update,
    "apply_update": _apply_update,
    "legacy_trunk_roundtrip": _legacy_roundtrip,
    "validate": _validate,
    "new_create_sip_participant": _new_participant,
    "validate_header_name": lambda given: _soft(headers.check_name(given["header"], restrict=given.get("restrict_names", False))),
    "validate_header_value": lambda given: _soft(headers.check_value(given["header"], given["value"])),
    "validate_headers": lambda given: _soft(headers.check_headers(given.get("headers") or {})),
    "validate_name_addr": lambda given: headers.check_name_address(given["value"]),
}
