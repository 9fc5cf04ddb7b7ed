"""Telephone numbers, written in many ways (livekit-sip-semantics.md §2.1)."""

import re

_NUMBER = re.compile(r"\+?[0-9\- ()]+")
_NOISE = str.maketrans("", "", " -()")


def normalize_number(number: str) -> str:
    """`(123) 456 7890` → `+1234567890`. What is no number (a user such as `alice`) stays as it is; no country logic."""
    if number.isascii() and number.removeprefix("+").isdigit():  # most are, and need no more
        return number if number[0] == "+" else "+" + number
    if _NUMBER.fullmatch(number) is None:
        return number
    digits = number.translate(_NOISE)
    return digits if digits.startswith("+") else "+" + digits
