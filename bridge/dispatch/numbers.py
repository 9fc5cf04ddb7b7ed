"""Telephone numbers as trunks compare them (livekit-sip-semantics.md §2.1, §2.2). Rules compare to the letter, in `rules.py`."""

from collections.abc import Sequence

from bridge.model.numbers import normalize_number

__all__ = ["normalize_number", "number_in"]


def number_in(number: str, numbers: Sequence[str]) -> bool:
    """To the letter or normalised, which comes to the same: equal texts are equal when normalised."""
    wanted = normalize_number(number)
    return any(wanted == normalize_number(entry) for entry in numbers)
