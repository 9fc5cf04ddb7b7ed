"""Protobuf-JSON's habits."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from bridge.model.media import MediaConfig, MediaEncryption
from bridge.model.trunk import InboundTrunk


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("10s", timedelta(seconds=10)),
        ("0.5s", timedelta(seconds=0.5)),
        ("-1.25s", timedelta(seconds=-1.25)),
        ("1.000000001s", timedelta(seconds=1, microseconds=1)),
        ("-0.000000001s", timedelta(microseconds=-1)),
        (90, timedelta(seconds=90)),
        ("PT1M", timedelta(minutes=1)),
    ],
)
def test_given_a_duration_when_it_is_read_then_no_part_of_it_is_lost_towards_zero(text: str | int, length: timedelta) -> None:
    assert MediaConfig.model_validate({"media_timeout": text}).media_timeout == length


@pytest.mark.parametrize("text", ["999999999s", 315_576_000_000, -315_576_000_000])
def test_given_the_longest_duration_there_is_then_it_is_one(text: str | int) -> None:
    assert MediaConfig.model_validate({"media_timeout": text}).media_timeout is not None


@pytest.mark.parametrize("text", [315_576_000_001, -315_576_000_001, 1e300, "P99999999999D"])
def test_given_a_duration_that_protobuf_has_no_place_for_then_it_is_refused(text: str | float) -> None:
    with pytest.raises(ValidationError):
        MediaConfig.model_validate({"media_timeout": text})


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(hours=24, milliseconds=250), "86400.250s"),
        (timedelta(days=400), "34560000s"),
        (timedelta(microseconds=1), "0.000001s"),
        (timedelta(seconds=-1, microseconds=-500_000), "-1.500s"),
    ],
)
def test_given_a_duration_when_it_is_written_then_it_has_protobuf_s_form_and_reads_back(length: timedelta, text: str) -> None:
    written = MediaConfig(media_timeout=length).model_dump(mode="json")["media_timeout"]
    assert written == text
    assert MediaConfig.model_validate({"media_timeout": written}).media_timeout == length


@pytest.mark.parametrize("text", ["s", "10", "1,5s", "ten seconds", "1e3s", "١s", "1s\n", "9" * 64_000 + "s"])
def test_given_no_duration_when_it_is_read_then_it_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        MediaConfig.model_validate({"media_timeout": text})


def test_given_camel_case_and_enum_numbers_when_read_then_they_mean_the_same_as_names() -> None:
    one = InboundTrunk.model_validate(
        {"sipTrunkId": "ST_a", "allowedNumbers": ["1"], "includeHeaders": "SIP_X_HEADERS", "media": {"encryption": 1}}
    )
    other = InboundTrunk.model_validate(
        {"sip_trunk_id": "ST_a", "allowed_numbers": ["1"], "include_headers": 1, "media": {"encryption": "SIP_MEDIA_ENCRYPT_ALLOW"}}
    )
    assert one == other
    assert one.media is not None
    assert one.media.encryption is MediaEncryption.SIP_MEDIA_ENCRYPT_ALLOW


@pytest.mark.parametrize("wrong", [{"numbres": ["1"]}, {"include_headers": "SIP_NO_SUCH"}, {"include_headers": 7}, {"numbers": "1"}])
def test_given_a_typing_mistake_when_read_then_it_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InboundTrunk.model_validate(wrong)
