"""Telephone numbers, written in many ways (livekit-sip-semantics.md §2.1)."""

import re
from functools import lru_cache

_NUMBER = re.compile(r"\+?[0-9\- ()]+")
_NOISE = str.maketrans("", "", " -()")


@lru_cache(maxsize=1 << 16)
def normalize_number(number: str) -> str:
    """`(123) 456 7890` → `+1234567890`. What is no number (a user such as `alice`) stays as it is; no country logic."""
    if not number or _NUMBER.fullmatch(number) is None:
        return number
    digits = number.translate(_NOISE)
    return digits if digits.startswith("+") else "+" + digits
