"""Phone numbers of our own: a call to one needs no trunk (livekit-sip-semantics.md §8.2)."""

from datetime import datetime
from enum import IntEnum
from typing import Annotated

from bridge.model.base import NAME, LiveKitModel, enum_by_name


class PhoneNumberStatus(IntEnum):
    """PhoneNumberStatus, §8.2. OFFLINE has no dispatch rule of its own."""

    PHONE_NUMBER_STATUS_UNSPECIFIED = 0
    PHONE_NUMBER_STATUS_ACTIVE = 1
    PHONE_NUMBER_STATUS_PENDING = 2
    PHONE_NUMBER_STATUS_RELEASED = 3
    PHONE_NUMBER_STATUS_OFFLINE = 4


class PhoneNumberType(IntEnum):
    """PhoneNumberType, §8.2."""

    PHONE_NUMBER_TYPE_UNKNOWN = 0
    PHONE_NUMBER_TYPE_MOBILE = 1
    PHONE_NUMBER_TYPE_LOCAL = 2
    PHONE_NUMBER_TYPE_TOLL_FREE = 3


class PhoneNumber(LiveKitModel):
    """One number of the inventory. With a rule of its own, only that rule is asked; without, every rule may match."""

    id: str = ""
    e164_format: str
    country_code: str = ""
    area_code: str = ""
    number_type: Annotated[PhoneNumberType, enum_by_name(PhoneNumberType), NAME] = PhoneNumberType.PHONE_NUMBER_TYPE_UNKNOWN
    locality: str = ""
    region: str = ""
    capabilities: tuple[str, ...] = ()
    status: Annotated[PhoneNumberStatus, enum_by_name(PhoneNumberStatus), NAME] = PhoneNumberStatus.PHONE_NUMBER_STATUS_ACTIVE
    sip_dispatch_rule_id: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    assigned_at: datetime | None = None
    released_at: datetime | None = None

    @property
    def takes_calls(self) -> bool:
        """Released and pending numbers are not ours to answer."""
        return self.status not in (
            PhoneNumberStatus.PHONE_NUMBER_STATUS_RELEASED,
            PhoneNumberStatus.PHONE_NUMBER_STATUS_PENDING,
        )
