"""The messages of LiveKit's phone number service as they are on the wire (livekit-sip-semantics.md §8.2), which no Python package ships.

They live in a pool of their own, so that a package that brings them one day meets no second definition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE: Final = "livekit"
_FILE: Final = "roomline/phone_number.proto"

_Field = FieldDescriptorProto


@dataclass(frozen=True, slots=True)
class _Is:
    """A field: its number, and the name of its type."""

    number: int
    type: str
    repeated: bool = False
    optional: bool = False


_TEXT, _COUNT, _TIME = "string", "int32", "google.protobuf.Timestamp"

_SCALARS: Final = {_TEXT: _Field.TYPE_STRING, _COUNT: _Field.TYPE_INT32, "double": _Field.TYPE_DOUBLE}

_ENUMS: Final[Mapping[str, Sequence[str]]] = {
    "PhoneNumberStatus": tuple(f"PHONE_NUMBER_STATUS_{name}" for name in ("UNSPECIFIED", "ACTIVE", "PENDING", "RELEASED", "OFFLINE")),
    "PhoneNumberType": tuple(f"PHONE_NUMBER_TYPE_{name}" for name in ("UNKNOWN", "MOBILE", "LOCAL", "TOLL_FREE")),
}

_MESSAGES: Final[Mapping[str, Mapping[str, _Is]]] = {
    "PhoneNumber": {
        "id": _Is(1, _TEXT),
        "e164_format": _Is(2, _TEXT),
        "country_code": _Is(3, _TEXT),
        "area_code": _Is(4, _TEXT),
        "number_type": _Is(5, "PhoneNumberType"),
        "locality": _Is(6, _TEXT),
        "region": _Is(7, _TEXT),
        "spam_score": _Is(8, "double"),
        "created_at": _Is(9, _TIME),
        "updated_at": _Is(10, _TIME),
        "capabilities": _Is(11, _TEXT, repeated=True),
        "status": _Is(12, "PhoneNumberStatus"),
        "assigned_at": _Is(13, _TIME),
        "released_at": _Is(14, _TIME),
        "sip_dispatch_rule_id": _Is(15, _TEXT),
        "sip_dispatch_rule_ids": _Is(16, _TEXT, repeated=True),
    },
    "TokenPagination": {"token": _Is(1, _TEXT)},
    "SearchPhoneNumbersRequest": {
        "country_code": _Is(1, _TEXT),
        "area_code": _Is(2, _TEXT, optional=True),
        "limit": _Is(3, _COUNT, optional=True),
        "page_token": _Is(4, "TokenPagination", optional=True),
    },
    "SearchPhoneNumbersResponse": {
        "items": _Is(1, "PhoneNumber", repeated=True),
        "next_page_token": _Is(2, "TokenPagination"),
    },
    "PurchasePhoneNumberRequest": {
        "phone_numbers": _Is(1, _TEXT, repeated=True),
        "sip_dispatch_rule_id": _Is(2, _TEXT, optional=True),
    },
    "PurchasePhoneNumberResponse": {"phone_numbers": _Is(1, "PhoneNumber", repeated=True)},
    "ListPhoneNumbersRequest": {
        "limit": _Is(1, _COUNT, optional=True),
        "statuses": _Is(2, "PhoneNumberStatus", repeated=True),
        "page_token": _Is(3, "TokenPagination", optional=True),
        "sip_dispatch_rule_id": _Is(4, _TEXT, optional=True),
    },
    "ListPhoneNumbersResponse": {
        "items": _Is(1, "PhoneNumber", repeated=True),
        "next_page_token": _Is(2, "TokenPagination"),
        "total_count": _Is(3, _COUNT),
        "offline_count": _Is(4, _COUNT),
    },
    "GetPhoneNumberRequest": {"id": _Is(1, _TEXT, optional=True), "phone_number": _Is(2, _TEXT, optional=True)},
    "GetPhoneNumberResponse": {"phone_number": _Is(1, "PhoneNumber")},
    "UpdatePhoneNumberRequest": {
        "id": _Is(1, _TEXT, optional=True),
        "phone_number": _Is(2, _TEXT, optional=True),
        "sip_dispatch_rule_id": _Is(3, _TEXT, optional=True),
    },
    "UpdatePhoneNumberResponse": {"phone_number": _Is(1, "PhoneNumber")},
    "ReleasePhoneNumbersRequest": {"ids": _Is(1, _TEXT, repeated=True), "phone_numbers": _Is(2, _TEXT, repeated=True)},
    "ReleasePhoneNumbersResponse": {},
}

METHODS: Final = (
    "SearchPhoneNumbers",
    "PurchasePhoneNumber",
    "ListPhoneNumbers",
    "GetPhoneNumber",
    "UpdatePhoneNumber",
    "ReleasePhoneNumbers",
)


def _message(name: str, fields: Mapping[str, _Is]) -> DescriptorProto:
    message = DescriptorProto(name=name)
    for field_name, field in fields.items():
        written = message.field.add(name=field_name, number=field.number)
        written.label = _Field.LABEL_REPEATED if field.repeated else _Field.LABEL_OPTIONAL
        if field.type in _SCALARS:
            written.type = _SCALARS[field.type]
        else:
            written.type = _Field.TYPE_ENUM if field.type in _ENUMS else _Field.TYPE_MESSAGE
            written.type_name = f".{field.type}" if "." in field.type else f".{_PACKAGE}.{field.type}"
        if field.optional and written.type != _Field.TYPE_MESSAGE:
            # How descriptors say `optional` of a scalar: a oneof of its own.
            written.proto3_optional, written.oneof_index = True, len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field_name}")
    return message


def _service() -> ServiceDescriptor:
    file = FileDescriptorProto(name=_FILE, package=_PACKAGE, syntax="proto3", dependency=[timestamp_pb2.DESCRIPTOR.name])
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    file.message_type.extend(_message(name, fields) for name, fields in _MESSAGES.items())
    service = file.service.add(name="PhoneNumberService")
    for method in METHODS:
        service.method.add(name=method, input_type=f".{_PACKAGE}.{method}Request", output_type=f".{_PACKAGE}.{method}Response")
    pool = DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(f"{_PACKAGE}.PhoneNumberService")


SERVICE: Final = _service()


def message_class(name: str) -> Any:
    """Of a message of the service, `PhoneNumber` for one."""
    return GetMessageClass(SERVICE.file.message_types_by_name[name])
