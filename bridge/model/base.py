"""What the models of LiveKit's objects share: protobuf-JSON's habits (camelCase accepted, durations such as "10s") and strictness."""

import re
from datetime import timedelta
from enum import IntEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

_SECONDS = re.compile(r"^(-?\d{1,12}(?:\.\d{1,9})?)s$")


class LiveKitModel(BaseModel):
    """A LiveKit message with its snake_case field names. Unknown keys are errors, so that a typing mistake is found; camelCase, as
    LiveKit's own JSON files have it, is accepted too."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, loc_by_alias=False)


def _read_duration(value: Any) -> Any:
    if isinstance(value, str) and (match := _SECONDS.match(value)):
        return timedelta(seconds=float(match[1]))
    return value


def _write_duration(value: timedelta) -> str:
    return f"{value.total_seconds():g}s"


Duration = Annotated[timedelta, BeforeValidator(_read_duration), PlainSerializer(_write_duration, when_used="json")]
"""Protobuf's Duration: "10s", "0.5s", a number of seconds, or ISO 8601."""


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
