"""A SIP status as the error of a method of LiveKit's: its code, and what clients read out of it (livekit-sip-semantics.md §0.3)."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf import any_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from livekit.protocol import sip

from bridge.api.twirp import Code, TwirpError

_CODES: Final[Mapping[Code, tuple[int, ...]]] = {
    Code.NOT_FOUND: (301, 302, 404, 410, 481, 604),
    Code.PERMISSION_DENIED: (401, 402, 403, 433, 470, 603, 607, 608),
    Code.UNAUTHENTICATED: (407, 428, 436, 437, 438, 494),
    Code.DEADLINE_EXCEEDED: (408, 504),
    Code.FAILED_PRECONDITION: (409, 412, 482, 483, 500, 501, 502, 503),
    Code.OUT_OF_RANGE: (416,),
    Code.RESOURCE_EXHAUSTED: (440, 480, 486, 600),
    Code.ABORTED: (487, 491),
    Code.INVALID_ARGUMENT: (505, 513, 606),
}

_CODE_OF: Final[Mapping[int, Code]] = {status: code for code, statuses in _CODES.items() for status in statuses}

_GRPC: Final[Mapping[Code, int]] = {
    Code.CANCELED: 1,
    Code.UNKNOWN: 2,
    Code.INVALID_ARGUMENT: 3,
    Code.DEADLINE_EXCEEDED: 4,
    Code.NOT_FOUND: 5,
    Code.PERMISSION_DENIED: 7,
    Code.RESOURCE_EXHAUSTED: 8,
    Code.FAILED_PRECONDITION: 9,
    Code.ABORTED: 10,
    Code.OUT_OF_RANGE: 11,
    Code.UNAVAILABLE: 14,
    Code.UNAUTHENTICATED: 16,
}
"""The numbers of google.rpc.Code."""


def code_of(status: int) -> Code:
    """Of a final answer that is no success. One that LiveKit has no name for goes by its first digit."""
    if status in _CODE_OF:
        return _CODE_OF[status]
    if 300 <= status < 500 or 600 <= status < 700:
        return Code.INVALID_ARGUMENT
    return Code.FAILED_PRECONDITION if 500 <= status < 600 else Code.UNKNOWN


def _name(status: int) -> str:
    """LiveKit's name of a status, its number where it has none."""
    named = sip.SIPStatusCode.DESCRIPTOR.values_by_number.get(status)
    return named.name if named is not None else str(status)


def sip_error(
    what: str, status: int, phrase: str = "", *, meta: Mapping[str, str] | None = None, details: Sequence[Message] = ()
) -> TwirpError:
    """`what` failed with this status; `details` stand in the error beside it."""
    shown = f"{status}: {phrase}" if phrase else f"{status} ({_name(status).removeprefix('SIP_STATUS_')})"
    said = {"sip_status_code": str(status), "sip_status": phrase or _name(status), **(meta or {})}
    detail = sip.SIPStatus(code=status, status=phrase)  # type: ignore[arg-type]  # an open enum: any status
    return detailed(code_of(status), f"{what}: sip status: {shown}", said, (detail, *details))


def detailed(code: Code, message: str, meta: Mapping[str, str], details: Sequence[Message]) -> TwirpError:
    """An error that carries messages, as gRPC's do: base64 of a google.rpc.Status among what Twirp says of it."""
    status = _RPC_STATUS(code=_GRPC[code], message=message)
    for each in details:
        status.details.add().Pack(each)
    return TwirpError(code, message, {**meta, "error_details": base64.b64encode(status.SerializeToString()).decode()})


def _rpc_status() -> Any:
    """google.rpc.Status, in a pool of its own: the package that brings it is not one of ours, and must not meet a second definition."""
    field = FieldDescriptorProto
    file = FileDescriptorProto(
        name="roomline/rpc_status.proto", package="google.rpc", syntax="proto3", dependency=[any_pb2.DESCRIPTOR.name]
    )
    message = file.message_type.add(name="Status")
    message.field.add(name="code", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_INT32)
    message.field.add(name="message", number=2, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    message.field.add(name="details", number=3, label=field.LABEL_REPEATED, type=field.TYPE_MESSAGE, type_name=".google.protobuf.Any")
    pool = DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("google.rpc.Status"))


_RPC_STATUS: Final = _rpc_status()
