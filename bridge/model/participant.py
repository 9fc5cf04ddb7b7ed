"""Somebody who is to be called and seated (livekit-sip-semantics.md §1.11)."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from bridge.model.base import NAME, Duration, LiveKitModel, enum_by_name
from bridge.model.media import Encryption, MediaConfig, MediaEncryption, upgraded
from bridge.model.trunk import HeaderOptions, IncludeHeaders, OutboundTrunk, Transport


class OutboundConfig(LiveKitModel):
    """SIPOutboundConfig: a trunk within the request."""

    hostname: str = ""
    destination_country: str = ""
    transport: Annotated[Transport, enum_by_name(Transport), NAME] = Transport.SIP_TRANSPORT_AUTO
    auth_username: str = ""
    auth_password: str = Field(default="", repr=False)
    headers_to_attributes: Mapping[str, str] = Field(default_factory=dict)
    attributes_to_headers: Mapping[str, str] = Field(default_factory=dict)
    from_host: str = ""


class Destination(LiveKitModel):
    """Where who is called lives."""

    city: str = ""
    country: str = ""
    region: str = ""


class SipUri(LiveKitModel):
    """SIPUri."""

    user: str = ""
    host: str = ""
    ip: str = ""
    port: int = 0
    transport: Annotated[Transport, enum_by_name(Transport), NAME] = Transport.SIP_TRANSPORT_AUTO


class RequestDestination(LiveKitModel):
    """SIPRequestDest."""

    raw: str = ""
    values: SipUri | None = None


class NamedDestination(RequestDestination):
    """SIPNamedDest."""

    display_name: str = ""


class NewParticipant(LiveKitModel):
    """CreateSIPParticipantRequest."""

    sip_trunk_id: str = ""
    trunk: OutboundConfig | None = None
    sip_request_uri: RequestDestination | None = None
    sip_to_header: NamedDestination | None = None
    sip_from_header: NamedDestination | None = None
    sip_call_to: str = ""
    to_user_override: str = ""
    sip_number: str = ""
    room_name: str = ""
    participant_identity: str = ""
    participant_name: str = ""
    participant_metadata: str = ""
    participant_attributes: Mapping[str, str] = Field(default_factory=dict)
    dtmf: str = ""
    play_ringtone: bool = False
    play_dialtone: bool = False
    hide_phone_number: bool = False
    headers: Mapping[str, str] = Field(default_factory=dict)
    include_headers: IncludeHeaders = HeaderOptions.SIP_NO_HEADERS
    ringing_timeout: Duration | None = None
    max_call_duration: Duration | None = None
    krisp_enabled: bool = False
    media_encryption: Encryption = MediaEncryption.SIP_MEDIA_ENCRYPT_DISABLE
    media: MediaConfig | None = None
    wait_until_answered: bool = False
    display_name: str | None = None
    destination: Destination | None = None


def outbound_media(new: NewParticipant, trunk: OutboundTrunk) -> MediaConfig:
    """Merge(trunk, request), §1.6."""
    return upgraded(trunk.media, trunk.media_encryption).merged_with(upgraded(new.media, new.media_encryption))
