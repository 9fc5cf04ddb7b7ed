"""LiveKit's objects as the binary protobuf that its server stores (semantics §8.1), made from the descriptors of `livekit-protocol`.

What a newer LiveKit wrote and we do not know survives our update: it is carried over from the stored bytes.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import Error as JsonError
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from livekit.protocol import sip
from pydantic import ValidationError

from bridge.errors import RoomlineError
from bridge.model.base import LiveKitModel
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, LegacyTrunk, OutboundTrunk

_Model = TypeVar("_Model", bound=LiveKitModel)

MESSAGES: Mapping[type[LiveKitModel], type[Message]] = {
    InboundTrunk: sip.SIPInboundTrunkInfo,
    OutboundTrunk: sip.SIPOutboundTrunkInfo,
    LegacyTrunk: sip.SIPTrunkInfo,
    DispatchRule: sip.SIPDispatchRuleInfo,
}


_KEPT_AS_JSON = frozenset({"room_config"})


class NotUnderstood(RoomlineError):  # noqa: N818  (says what it is)
    """These bytes are no such object, or a newer LiveKit's that we cannot take for one of ours. Its text holds nothing of them."""


class NotWritable(RoomlineError):  # noqa: N818  (says what it is)
    """LiveKit's message has no place for what this object says."""


def decoded(model: type[_Model], stored: bytes) -> _Model:
    """Raises NotUnderstood."""
    try:
        return of_message(model, MESSAGES[model].FromString(stored))
    except (DecodeError, UnicodeDecodeError):
        raise NotUnderstood(f"it is no {MESSAGES[model].DESCRIPTOR.name}") from None


def of_message(model: type[_Model], message: Message) -> _Model:
    """Fields that only a newer LiveKit has are left out. Raises NotUnderstood."""
    try:
        # Numbers for enums: a model reads both, and one field of LiveKit's is a number with us (a SIP status).
        fields = MessageToDict(message, preserving_proto_field_name=True, use_integers_for_enums=True)
    except (JsonError, ValueError, TypeError):
        # The wire has room for lengths and times that protobuf itself does not take for any. The error's words would show them.
        raise NotUnderstood(f"a {message.DESCRIPTOR.name} in which a length, a time or a text is none") from None
    try:
        return model.model_validate({name: value for name, value in fields.items() if name in model.model_fields})
    except ValidationError as error:
        # Its own words would show the object, which may hold a password.
        places = ", ".join(sorted({".".join(map(str, detail["loc"])) for detail in error.errors(include_input=False)}))
        raise NotUnderstood(f"a {message.DESCRIPTOR.name} whose {places} we do not understand") from None


def encoded(found: LiveKitModel, stored: bytes | None = None) -> bytes:
    """`stored`: what it replaces, whose unknown fields are kept. Raises NotWritable."""
    message = to_message(found)
    if stored is not None:
        # Garbage has nothing to keep.
        with contextlib.suppress(DecodeError, UnicodeDecodeError):
            _keep_unknown(type(message).FromString(stored), message, type(found).model_fields)
    # In one order, so that the same object gives the same bytes.
    return message.SerializeToString(deterministic=True)


def to_message(found: LiveKitModel) -> Message:
    """Raises NotWritable."""
    fields = found.model_dump(exclude_defaults=True)
    # Made by its constructor, in a seventh of the time of the JSON way, which is for what a model keeps as JSON.
    as_json = {name: fields.pop(name) for name in _KEPT_AS_JSON & fields.keys()}
    try:
        message = MESSAGES[type(found)](**fields)
        return ParseDict(as_json, message) if as_json else message
    except (ParseError, TypeError, ValueError) as error:
        raise NotWritable(f"this object cannot be stored as LiveKit does: {error}") from None


def _keep_unknown(old: Message, new: Message, known: Mapping[str, Any] | None = None) -> None:
    """Add to `new` what `old` has and we do not know, at every level. `known`: the fields that our model has; None: all of them."""
    bare = type(old)()
    bare.CopyFrom(old)
    for field in old.DESCRIPTOR.fields:
        if known is None or field.name in known:
            bare.ClearField(field.name)
    new.MergeFromString(bare.SerializeToString())
    for field, before in old.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry or (known is not None and field.name not in known):
            continue
        if _is_repeated(field):
            for one, other in zip(before, getattr(new, field.name), strict=False):
                if _without_unknown(one) == other:
                    _keep_unknown(one, other)
        elif new.HasField(field.name):
            _keep_unknown(before, getattr(new, field.name))


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _without_unknown(message: Message) -> Message:
    bare = type(message)()
    bare.CopyFrom(message)
    bare.DiscardUnknownFields()
    return bare
