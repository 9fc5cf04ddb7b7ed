"""How a call's media shall be (livekit-sip-semantics.md §1.6)."""

from enum import IntEnum
from typing import Annotated

from bridge.model.base import NAME, Duration, LiveKitModel, enum_by_name

MEDIA_TIMEOUT_LIMIT = 600.0
"""Seconds."""


class MediaEncryption(IntEnum):
    """SIPMediaEncryption, §1.15. In the legacy field DISABLE means "unset"."""

    SIP_MEDIA_ENCRYPT_DISABLE = 0
    SIP_MEDIA_ENCRYPT_ALLOW = 1
    SIP_MEDIA_ENCRYPT_REQUIRE = 2


Encryption = Annotated[MediaEncryption, enum_by_name(MediaEncryption), NAME]


class Codec(LiveKitModel):
    """SIPCodec."""

    name: str = ""
    rate: int = 0


class MediaConfig(LiveKitModel):
    """SIPMediaConfig."""

    only_listed_codecs: bool = False
    codecs: tuple[Codec, ...] = ()
    encryption: Encryption | None = None
    media_timeout: Duration | None = None

    def merged_with(self, second: "MediaConfig") -> "MediaConfig":
        """Merge(self, second), §1.6: encryption is the second's unless unset, or DISABLE while the first says something; the timeout the
        second's if set, the codecs the second's if it lists any."""
        if second is UNSET:
            return self
        encryption = second.encryption
        if self.encryption is not None and encryption in (None, MediaEncryption.SIP_MEDIA_ENCRYPT_DISABLE):
            encryption = self.encryption
        codecs = second if second.codecs else self
        return MediaConfig(
            only_listed_codecs=codecs.only_listed_codecs,
            codecs=codecs.codecs,
            encryption=encryption,
            media_timeout=second.media_timeout if second.media_timeout is not None else self.media_timeout,
        )


UNSET = MediaConfig()
"""What a trunk or a rule says that has no opinion."""


def upgraded(media: MediaConfig | None, legacy: MediaEncryption) -> MediaConfig:
    """A missing `media` becomes an empty one; the legacy encryption fills one that is unset (§1.6)."""
    media = media if media is not None else UNSET
    if media.encryption is None and legacy is not MediaEncryption.SIP_MEDIA_ENCRYPT_DISABLE:
        media = media.model_copy(update={"encryption": legacy})
    return media
