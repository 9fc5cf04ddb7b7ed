"""What each function of the vectors is here: from a case's input to what it gives, in the vectors' own form."""

from collections.abc import Callable, Mapping
from typing import Any

from bridge.dispatch import addresses, conflicts, numbers
from bridge.dispatch import rules as rule_match
from bridge.dispatch import trunks as trunk_match
from bridge.dispatch.evaluate import decide
from bridge.dispatch.outcome import Accept, AskPin, Refuse
from bridge.dispatch.rules import Ask
from bridge.dispatch.trace import Trace
from bridge.model import headers, validation
from bridge.model.caller import Caller
from bridge.model.list_filter import filter_inbound, filter_outbound, filter_rules
from bridge.model.list_update import ListUpdate
from bridge.model.media import MediaConfig
from bridge.model.rule import DispatchRule
from bridge.model.trunk import HeaderOptions, InboundTrunk, LegacyTrunk, OutboundTrunk
from bridge.model.update import InboundTrunkUpdate, OutboundTrunkUpdate, RuleUpdate

Json = dict[str, Any]
Function = Callable[[Json], Any]

LEFT_OUT = {
    "new_create_sip_participant": "outbound calls are not placed yet",
    "outbound_headers": "outbound calls are not placed yet",
    "refer_notify": "REFER is the PBX's: Asterisk reads the NOTIFYs",
    "reason_header": "BYE is the PBX's: Asterisk reads the Reason header",
    "provider_label": "a metric's label of LiveKit's cloud providers",
    "sip_status_to_grpc": "errors of CreateSIPParticipant and TransferSIPParticipant, which are not served yet",
}
"""Functions about something Roomline does not do (yet), and why."""

LEFT_OUT_TYPES = {
    "CreateSIPParticipantRequest": "outbound calls are not placed yet",
    "TransferSIPParticipantRequest": "the transfer API is not served yet",
    "Destination": "part of CreateSIPParticipant",
}
"""Message types of `validate` that are left out, and why."""


def to_message(model: Any) -> Json:
    """A model as the vectors write a message: defaults omitted."""
    message: Json = model.model_dump(mode="json", exclude_defaults=True)
    return message


def _trunks(items: list[Json] | None) -> list[InboundTrunk]:
    return [InboundTrunk.model_validate(item) for item in items or []]


def _rules(items: list[Json] | None) -> list[DispatchRule]:
    return [DispatchRule.model_validate(item) for item in items or []]


def _caller(call: Json) -> Caller:
    return Caller(
        number=call.get("from", {}).get("user", ""),
        called=call.get("to", {}).get("user", ""),
        host=call.get("from", {}).get("host", ""),
        source_address=call.get("source_ip", ""),
    )


def _match_trunk(given: Json) -> Json:
    trunk = trunk_match.match_trunk(_trunks(given["trunks"]), _caller(given["call"])).trunk
    return {"match_id": trunk.sip_trunk_id if trunk else None}


def _match_trunk_detailed(given: Json) -> Json:
    match = trunk_match.match_trunk(_trunks(given["trunks"]), _caller(given["call"]))
    trunk = to_message(match.trunk) if match.trunk else None
    return {"trunk": trunk, "match_type": match.type.value, "default_trunk_count": match.default_count}


def _ask(given: Json) -> Ask:
    request, trunk = given["request"], given.get("trunk") or {}
    return Ask(
        caller=request.get("calling_number", ""),
        called=request.get("called_number", ""),
        trunk_id=trunk.get("sip_trunk_id", "") or request.get("sip_trunk_id", ""),
        pin=request.get("pin"),
        no_pin=request.get("no_pin", False),
    )


def _match_dispatch_rule(given: Json) -> Json:
    return {"match_id": rule_match.match_rule(_rules(given["rules"]), _ask(given)).sip_dispatch_rule_id}


def _evaluate(given: Json) -> Json:
    request = given["request"]
    trunk = InboundTrunk.model_validate(given["trunk"]) if given.get("trunk") else None
    rule = DispatchRule.model_validate(given["rule"])
    caller = Caller(request.get("calling_number", ""), request.get("called_number", ""), host=request.get("calling_host", ""))
    decision = decide(
        trunk,
        rule,
        caller,
        _ask(given),
        request.get("sip_call_id", ""),
        lambda: "abcdefghijkm",
        Trace(""),
        request.get("extra_attributes"),
    )
    if isinstance(decision, Refuse):
        raise PermissionError(decision.reason)
    found: Json = {
        "project_id": given.get("project_id", ""),
        "sip_trunk_id": decision.trunk_id,
        "sip_dispatch_rule_id": decision.rule_id,
        "media": to_message(decision.media),
        "media_encryption": decision.media.encryption.name if decision.media.encryption else "SIP_MEDIA_ENCRYPT_DISABLE",
    }
    if isinstance(decision, AskPin):
        return {**found, "result": "REQUEST_PIN", "request_pin": True}
    return {**found, **_accepted(decision, trunk)}


def _accepted(accept: Accept, trunk: InboundTrunk | None) -> Json:
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
        "ringing_timeout": to_message(trunk).get("ringing_timeout") if trunk else None,
        "max_call_duration": to_message(trunk).get("max_call_duration") if trunk else None,
    }
    return {name: value for name, value in sent.items() if value}


def _list_filter(given: Json) -> Json:
    request, items = given["request"], given["items"]
    ids: list[str | None]
    if any("sip_dispatch_rule_id" in item for item in items if item) or "dispatch_rule_ids" in request:
        rules = filter_rules(_rules(items), request.get("dispatch_rule_ids", ()), request.get("trunk_ids", ()))
        ids = [rule.sip_dispatch_rule_id if rule else None for rule in rules]
    elif given.get("type", "").startswith("ListSIPOutbound") or any("address" in item for item in items if item):
        outbound = [OutboundTrunk.model_validate(item) for item in items]
        found = filter_outbound(outbound, request.get("trunk_ids", ()), request.get("numbers", ()))
        ids = [trunk.sip_trunk_id if trunk else None for trunk in found]
    else:
        inbound = filter_inbound(_trunks(items), request.get("trunk_ids", ()), request.get("numbers", ()))
        ids = [trunk.sip_trunk_id if trunk else None for trunk in inbound]
    return {"ids": ids}


def _select_inbound_trunks(given: Json) -> Json:
    legacy = [LegacyTrunk.model_validate(item).as_inbound() for item in given.get("legacy_trunks") or []]
    everything = _trunks(given.get("inbound_trunks")) + [trunk for trunk in legacy if trunk is not None]
    return {"ids": [trunk.sip_trunk_id for trunk in trunk_match.candidates(everything, given.get("called_number", ""))]}


def _select_dispatch_rules(given: Json) -> Json:
    return {"ids": [rule.sip_dispatch_rule_id for rule in rule_match.candidates(_rules(given["rules"]), given.get("trunk_id", ""))]}


def _apply_update(given: Json) -> Any:
    models: dict[str, tuple[type[Any], type[Any]]] = {
        "UpdateSIPInboundTrunkRequest": (InboundTrunk, InboundTrunkUpdate),
        "UpdateSIPOutboundTrunkRequest": (OutboundTrunk, OutboundTrunkUpdate),
        "UpdateSIPDispatchRuleRequest": (DispatchRule, RuleUpdate),
    }
    model, update = models[given["type"]]
    action = given["action"]
    if "replace" in action:
        return model.model_validate(action["replace"])
    return update.model_validate(action["update"]).apply(model.model_validate(given["current"]))


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
        "SIPDispatchRuleInfo": lambda: validation.check_rule(DispatchRule.model_validate(message)),
        "SIPMediaConfig": lambda: validation.check_media(MediaConfig.model_validate(message)),
        "CreateSIPInboundTrunkRequest": lambda: validation.check_new_inbound_trunk(_optional(InboundTrunk, message, "trunk")),
        "CreateSIPOutboundTrunkRequest": lambda: validation.check_new_outbound_trunk(_optional(OutboundTrunk, message, "trunk")),
        "CreateSIPDispatchRuleRequest": lambda: validation.check_new_rule(_optional(DispatchRule, message, "dispatch_rule")),
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
    return {"soft_errors": list(checks[kind]() or ())}


def _soft(soft: tuple[str, ...]) -> Json:
    return {"soft_errors": list(soft), "soft_errors.count": len(soft)}


FUNCTIONS: dict[str, Function] = {
    "normalize_number": lambda given: numbers.normalize_number(given["number"]),
    "is_valid_mask": lambda given: addresses.is_valid_mask(given["mask"]),
    "match_addr_mask": lambda given: addresses.match_mask(given["addr"], given["mask"]),
    "match_addr_masks": lambda given: addresses.match_masks(given["addr"], given["host"], given["masks"] or ()),
    "match_trunk": _match_trunk,
    "match_trunk_detailed": _match_trunk_detailed,
    "validate_trunks": lambda given: conflicts.check_trunks(_trunks(given["trunks"])),
    "match_dispatch_rule": _match_dispatch_rule,
    "validate_dispatch_rules": lambda given: conflicts.check_rules(_rules(given["rules"])),
    "evaluate_dispatch_rule": _evaluate,
    "select_inbound_trunks": _select_inbound_trunks,
    "select_dispatch_rules": _select_dispatch_rules,
    "list_filter": _list_filter,
    "list_update": lambda given: list(ListUpdate.model_validate(given["update"]).apply(given["list"] or [])),
    "apply_update": _apply_update,
    "legacy_trunk_roundtrip": _legacy_roundtrip,
    "validate": _validate,
    "validate_header_name": lambda given: _soft(headers.check_name(given["header"], restrict=given.get("restrict_names", False))),
    "validate_header_value": lambda given: _soft(headers.check_value(given["header"], given["value"])),
    "validate_headers": lambda given: _soft(headers.check_headers(given["headers"])),
    "validate_name_addr": lambda given: headers.check_name_address(given["value"]),
}
