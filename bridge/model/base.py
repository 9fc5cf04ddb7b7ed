"""What the models of LiveKit's objects share: protobuf-JSON's habits (camelCase accepted, durations such as "10s") and strictness."""

import re
from datetime import timedelta
from enum import IntEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

LONGEST_DURATION: Final = timedelta(seconds=315_576_000_000)
"""Protobuf's, some 10,000 years."""

_SECONDS = re.compile(r"(-?)([0-9]{1,9})(?:\.([0-9]{1,9}))?s")


class LiveKitModel(BaseModel):
    """A LiveKit message with its snake_case field names. Unknown keys are errors, so that a typing mistake is found; camelCase, as
    LiveKit's own JSON files have it, is accepted too."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, loc_by_alias=False)


def _read_duration(value: Any) -> Any:
    if not isinstance(value, str) or (match := _SECONDS.fullmatch(value)) is None:
        return value
    nanoseconds = int(match[2]) * 1_000_000_000 + int((match[3] or "").ljust(9, "0"))
    # A timedelta ends at microseconds. Finer is rounded away from zero: what is over a limit by a nanosecond, or negative, stays so.
    length = timedelta(microseconds=-(-nanoseconds // 1000))
    return -length if match[1] else length


def _write_duration(value: timedelta) -> str:
    microseconds = value // timedelta(microseconds=1)
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    digits = f"{fraction:06}".removesuffix("000") if fraction else ""
    return f"{'-' if microseconds < 0 else ''}{seconds}{'.' if digits else ''}{digits}s"


def _check_length(value: timedelta) -> timedelta:
    if abs(value) > LONGEST_DURATION:
        raise ValueError(f"is longer than {LONGEST_DURATION.days} days")
    return value


Duration = Annotated[
    timedelta, BeforeValidator(_read_duration), AfterValidator(_check_length), PlainSerializer(_write_duration, when_used="json")
]
"""Protobuf's Duration: "10s", "0.5s", a number of seconds, or ISO 8601. Written with 0, 3 or 6 digits after the point, as protobuf does."""


def enum_by_name(kind: type[IntEnum]) -> BeforeValidator:
    """Protobuf-JSON's enums: by name or by number."""

    def read(value: Any) -> Any:
        if isinstance(value, str):
            try:
                return kind[value]
            except KeyError:
                raise ValueError(f"must be one of {', '.join(kind.__members__)}") from None
        return value

    return BeforeValidator(read)


NAME = PlainSerializer(lambda value: value.name, when_used="json-unless-none")
"""Enums are written by name."""
