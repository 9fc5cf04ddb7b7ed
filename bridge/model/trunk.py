"""Trunks: whom we take calls from, and whom we would call through (livekit-sip-semantics.md §1.1, §1.2, §1.5)."""

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum
from typing import Annotated

from pydantic import Field

from bridge.model.base import NAME, Duration, LiveKitModel, enum_by_name
from bridge.model.media import Encryption, MediaConfig, MediaEncryption


class HeaderOptions(IntEnum):
    """SIPHeaderOptions, §1.15."""

    SIP_NO_HEADERS = 0
    SIP_X_HEADERS = 1
    SIP_ALL_HEADERS = 2


class Transport(IntEnum):
    """SIPTransport, §1.15."""

    SIP_TRANSPORT_AUTO = 0
    SIP_TRANSPORT_UDP = 1
    SIP_TRANSPORT_TCP = 2
    SIP_TRANSPORT_TLS = 3


IncludeHeaders = Annotated[HeaderOptions, enum_by_name(HeaderOptions), NAME]


class InboundTrunk(LiveKitModel):
    """SIPInboundTrunkInfo. Entries of the lists are taken as they are; `bridge.model.validation` says what LiveKit refuses."""

    sip_trunk_id: str = ""
    name: str = ""
    metadata: str = ""
    numbers: tuple[str, ...] = ()
    allowed_addresses: tuple[str, ...] = ()
    allowed_numbers: tuple[str, ...] = ()
    auth_username: str = ""
    auth_password: str = Field(default="", repr=False)
    auth_realm: str = ""
    headers: Mapping[str, str] = Field(default_factory=dict)
    headers_to_attributes: Mapping[str, str] = Field(default_factory=dict)
    attributes_to_headers: Mapping[str, str] = Field(default_factory=dict)
    include_headers: IncludeHeaders = HeaderOptions.SIP_NO_HEADERS
    ringing_timeout: Duration | None = None
    ringing_timeout_status: int = 0
    max_call_duration: Duration | None = None
    krisp_enabled: bool = False
    media_encryption: Encryption = MediaEncryption.SIP_MEDIA_ENCRYPT_DISABLE
    media: MediaConfig | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def asks_for_credentials(self) -> bool:
        """Only with both a user and a password is a caller challenged (§1.1)."""
        return bool(self.auth_username and self.auth_password)


class OutboundTrunk(LiveKitModel):
    """SIPOutboundTrunkInfo."""

    sip_trunk_id: str = ""
    name: str = ""
    metadata: str = ""
    address: str = ""
    destination_country: str = ""
    transport: Annotated[Transport, enum_by_name(Transport), NAME] = Transport.SIP_TRANSPORT_AUTO
    numbers: tuple[str, ...] = ()
    auth_username: str = ""
    auth_password: str = Field(default="", repr=False)
    headers: Mapping[str, str] = Field(default_factory=dict)
    headers_to_attributes: Mapping[str, str] = Field(default_factory=dict)
    attributes_to_headers: Mapping[str, str] = Field(default_factory=dict)
    include_headers: IncludeHeaders = HeaderOptions.SIP_NO_HEADERS
    media_encryption: Encryption = MediaEncryption.SIP_MEDIA_ENCRYPT_DISABLE
    media: MediaConfig | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    from_host: str = ""


class LegacyKind(IntEnum):
    """SIPTrunkInfo.TrunkKind, §1.5."""

    TRUNK_LEGACY = 0
    TRUNK_INBOUND = 1
    TRUNK_OUTBOUND = 2


class LegacyTrunk(LiveKitModel):
    """SIPTrunkInfo, as old deployments still store it."""

    sip_trunk_id: str = ""
    kind: Annotated[LegacyKind, enum_by_name(LegacyKind), NAME] = LegacyKind.TRUNK_LEGACY
    inbound_addresses: tuple[str, ...] = ()
    outbound_address: str = ""
    outbound_number: str = ""
    transport: Annotated[Transport, enum_by_name(Transport), NAME] = Transport.SIP_TRANSPORT_AUTO
    inbound_numbers_regex: tuple[str, ...] = ()
    inbound_numbers: tuple[str, ...] = ()
    inbound_username: str = ""
    inbound_password: str = Field(default="", repr=False)
    outbound_username: str = ""
    outbound_password: str = Field(default="", repr=False)
    name: str = ""
    metadata: str = ""

    @classmethod
    def from_inbound(cls, trunk: InboundTrunk) -> "LegacyTrunk":
        """Keeps only the first number (§1.5)."""
        return cls(
            sip_trunk_id=trunk.sip_trunk_id,
            kind=LegacyKind.TRUNK_INBOUND,
            outbound_number=trunk.numbers[0] if trunk.numbers else "",
            inbound_addresses=trunk.allowed_addresses,
            inbound_numbers=trunk.allowed_numbers,
            inbound_username=trunk.auth_username,
            inbound_password=trunk.auth_password,
            name=trunk.name,
            metadata=trunk.metadata,
        )

    @classmethod
    def from_outbound(cls, trunk: OutboundTrunk) -> "LegacyTrunk":
        """Keeps only the first number (§1.5)."""
        return cls(
            sip_trunk_id=trunk.sip_trunk_id,
            kind=LegacyKind.TRUNK_OUTBOUND,
            outbound_number=trunk.numbers[0] if trunk.numbers else "",
            outbound_address=trunk.address,
            transport=trunk.transport,
            outbound_username=trunk.auth_username,
            outbound_password=trunk.auth_password,
            name=trunk.name,
            metadata=trunk.metadata,
        )

    def as_inbound(self) -> InboundTrunk | None:
        """None for one that is for outbound calls only."""
        if self.kind is LegacyKind.TRUNK_OUTBOUND:
            return None
        return InboundTrunk(
            sip_trunk_id=self.sip_trunk_id,
            name=self.name,
            metadata=self.metadata,
            numbers=(self.outbound_number,) if self.outbound_number else (),
            allowed_addresses=self.inbound_addresses,
            allowed_numbers=self.inbound_numbers,
            auth_username=self.inbound_username,
            auth_password=self.inbound_password,
        )

    def as_outbound(self) -> OutboundTrunk | None:
        """None for one that is for inbound calls only."""
        if self.kind is LegacyKind.TRUNK_INBOUND:
            return None
        return OutboundTrunk(
            sip_trunk_id=self.sip_trunk_id,
            name=self.name,
            metadata=self.metadata,
            address=self.outbound_address,
            transport=self.transport,
            numbers=(self.outbound_number,) if self.outbound_number else (),
            auth_username=self.outbound_username,
            auth_password=self.outbound_password,
        )
