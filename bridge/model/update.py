"""Changing stored objects field by field, or replacing them whole (livekit-sip-semantics.md §1.9)."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field

from bridge.model.base import NAME, LiveKitModel, enum_by_name
from bridge.model.list_update import ListUpdate
from bridge.model.media import Encryption, MediaConfig, MediaEncryption, upgraded
from bridge.model.rule import DispatchRule, Rule
from bridge.model.trunk import InboundTrunk, OutboundTrunk, Transport

_Object = TypeVar("_Object", InboundTrunk, OutboundTrunk, DispatchRule)


class InboundTrunkUpdate(LiveKitModel):
    """SIPInboundTrunkUpdate. What is None stays."""

    numbers: ListUpdate | None = None
    allowed_addresses: ListUpdate | None = None
    allowed_numbers: ListUpdate | None = None
    auth_username: str | None = None
    auth_password: str | None = Field(default=None, repr=False)
    auth_realm: str | None = None
    name: str | None = None
    metadata: str | None = None
    media_encryption: Encryption | None = None
    media: MediaConfig | None = None

    def apply(self, trunk: InboundTrunk) -> InboundTrunk:
        return _apply(trunk, self, ("numbers", "allowed_addresses", "allowed_numbers"))


class OutboundTrunkUpdate(LiveKitModel):
    """SIPOutboundTrunkUpdate."""

    address: str | None = None
    transport: Annotated[Transport, enum_by_name(Transport), NAME] | None = None
    destination_country: str | None = None
    numbers: ListUpdate | None = None
    auth_username: str | None = None
    auth_password: str | None = Field(default=None, repr=False)
    name: str | None = None
    metadata: str | None = None
    media_encryption: Encryption | None = None
    media: MediaConfig | None = None
    from_host: str | None = None

    def apply(self, trunk: OutboundTrunk) -> OutboundTrunk:
        return _apply(trunk, self, ("numbers",))


class RuleUpdate(LiveKitModel):
    """SIPDispatchRuleUpdate. `rule` replaces the whole kind, `attributes` are merged (an empty value deletes)."""

    trunk_ids: ListUpdate | None = None
    rule: Rule | None = None
    name: str | None = None
    metadata: str | None = None
    attributes: Mapping[str, str] = Field(default_factory=dict)
    media_encryption: Encryption | None = None
    media: MediaConfig | None = None

    def apply(self, rule: DispatchRule) -> DispatchRule:
        merged = {**rule.attributes, **self.attributes}
        attributes = {name: value for name, value in merged.items() if value or name not in self.attributes}
        return _apply(rule, self, ("trunk_ids",)).model_copy(update={"attributes": attributes})


def _apply(stored: _Object, update: LiveKitModel, lists: tuple[str, ...]) -> _Object:
    changes: dict[str, Any] = {}
    for field in type(update).model_fields:
        value = getattr(update, field)
        if value is None or field in ("media", "media_encryption", "attributes"):
            continue
        changes[field] = value.apply(getattr(stored, field)) if field in lists else value
    new_media: MediaConfig | None = getattr(update, "media", None)
    new_encryption: MediaEncryption | None = getattr(update, "media_encryption", None)
    # Each field is replaced by itself; then the legacy one fills `media` where that says nothing, and follows it (§1.6).
    media = upgraded(
        new_media if new_media is not None else stored.media,
        new_encryption if new_encryption is not None else stored.media_encryption,
    )
    legacy = media.encryption if media.encryption is not None else MediaEncryption.SIP_MEDIA_ENCRYPT_DISABLE
    return stored.model_copy(update={**changes, "media": media, "media_encryption": legacy})
