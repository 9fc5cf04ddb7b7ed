"""Number normalisation beyond the conformance vectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.numbers import normalize_number


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("", ""),
        ("+", "+"),
        (" ", "+"),
        ("-", "+"),
        ("0049 30", "+004930"),
        ("+1 (555) 01-00", "+15550100"),
        ("1+2", "1+2"),
        ("++1", "++1"),
        ("+1 (555)x", "+1 (555)x"),
        ("555\n", "555\n"),
        ("555\r\nX-Forged: 1", "555\r\nX-Forged: 1"),
        ("5\x0055", "5\x0055"),
        ("٥٥٥", "٥٥٥"),
        ("📞", "📞"),
        ("\ud800", "\ud800"),
        ("1\u00a02", "1\u00a02"),
    ],
)
def test_given_a_number_when_normalised_then_only_ascii_writing_is_tidied(written: str, normal: str) -> None:
    assert normalize_number(written) == normal


def test_given_64_kb_when_normalised_then_it_is_done_like_any_other() -> None:
    assert normalize_number("1" * 65_536) == "+" + "1" * 65_536
    assert normalize_number("1" * 65_535 + "x") == "1" * 65_535 + "x"


@given(st.text(st.sampled_from("+0123456789-() ax")))
def test_given_any_text_when_normalised_twice_then_nothing_changes(text: str) -> None:
    assert normalize_number(normalize_number(text)) == normalize_number(text)
