"""A call's note in a channel variable: one command sets it whole, in letters that no parser of FreeSWITCH's reads as more (base64url).

FreeSWITCH takes commands of any length (mod_event_socket.c), so a note is never in pieces, and the one before stays until the new one is
there.
"""

import base64
import binascii
from typing import Final

NOTE_LIMIT: Final = 64_000
"""Bytes; all of a channel's variables are in each of its events."""


def kept_note(note: str) -> str:
    """As it is kept. Raises ValueError for a note that is not ASCII or too long."""
    if not note.isascii():
        raise ValueError("a note is ASCII")
    if len(note) > NOTE_LIMIT:
        raise ValueError(f"a note of {len(note)} bytes is too long")
    return base64.urlsafe_b64encode(note.encode()).decode()


def read_note(kept: str) -> str | None:
    """None when there is none, or none that can be read."""
    try:
        return base64.b64decode(kept.encode("ascii"), b"-_", validate=True).decode("ascii") if kept else None
    except (ValueError, binascii.Error):
        return None
