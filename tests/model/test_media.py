"""Merging and upgrading media settings (livekit-sip-semantics.md §1.6)."""

from datetime import timedelta

import pytest

from bridge.model.media import Codec, MediaConfig, MediaEncryption, upgraded

DISABLE, ALLOW, REQUIRE = MediaEncryption
PCMU, G722 = Codec(name="PCMU"), Codec(name="G722", rate=8000)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        (None, None, None),
        (ALLOW, None, ALLOW),
        (None, REQUIRE, REQUIRE),
        (ALLOW, REQUIRE, REQUIRE),
        (REQUIRE, ALLOW, ALLOW),
        (REQUIRE, DISABLE, REQUIRE),
        (DISABLE, REQUIRE, REQUIRE),
        (None, DISABLE, DISABLE),
        (DISABLE, None, DISABLE),
    ],
)
def test_given_two_encryptions_when_merged_then_the_second_counts_unless_it_says_nothing(
    first: MediaEncryption | None, second: MediaEncryption | None, merged: MediaEncryption | None
) -> None:
    assert MediaConfig(encryption=first).merged_with(MediaConfig(encryption=second)).encryption is merged


def test_given_a_second_without_codecs_when_merged_then_the_list_and_its_switch_stay_the_first_s() -> None:
    first = MediaConfig(only_listed_codecs=True, codecs=(PCMU,))
    assert first.merged_with(MediaConfig()) == first
    assert MediaConfig().merged_with(first) == first
    only_switch = MediaConfig(only_listed_codecs=True)
    assert MediaConfig(codecs=(PCMU,)).merged_with(only_switch) == MediaConfig(codecs=(PCMU,))
    assert first.merged_with(MediaConfig(codecs=(G722,))) == MediaConfig(codecs=(G722,))


def test_given_a_second_timeout_of_zero_when_merged_then_it_is_set_and_counts() -> None:
    first, zero = MediaConfig(media_timeout=timedelta(seconds=5)), MediaConfig(media_timeout=timedelta())
    assert first.merged_with(zero).media_timeout == timedelta()
    assert zero.merged_with(MediaConfig()).media_timeout == timedelta()


@pytest.mark.parametrize(
    ("media", "legacy", "result"),
    [
        (None, DISABLE, MediaConfig()),
        (None, REQUIRE, MediaConfig(encryption=REQUIRE)),
        (MediaConfig(encryption=ALLOW), REQUIRE, MediaConfig(encryption=ALLOW)),
        (MediaConfig(encryption=DISABLE), REQUIRE, MediaConfig(encryption=DISABLE)),
        (MediaConfig(codecs=(PCMU,)), ALLOW, MediaConfig(codecs=(PCMU,), encryption=ALLOW)),
    ],
)
def test_given_a_legacy_encryption_when_upgraded_then_it_fills_what_is_unset(
    media: MediaConfig | None, legacy: MediaEncryption, result: MediaConfig
) -> None:
    assert upgraded(media, legacy) == result
