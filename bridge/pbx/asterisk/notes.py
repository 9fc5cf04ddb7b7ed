"""A call's note in channel variables: cut into lines that AMI carries, switched over at once.

A note is written beside the one before (two generations take turns), and only the last Setvar, of ROOMLINE_NOTE itself, makes it
count: a reader never sees half of one. Each piece stands between bars, since AMI trims blanks at both ends of a value.
"""

import re
from collections.abc import Awaitable, Callable, Iterator

PIECE = 900
"""Characters (ASCII) in a piece: an AMI line is cut at 1024 bytes (measured)."""

PIECES = 64
"""More than this is not a note."""

NOTE = "ROOMLINE_NOTE"

_MARK = re.compile(r"(?P<side>[01]):(?P<count>[0-9]{1,4})")


def note_variables(note: str, generation: int) -> Iterator[tuple[str, str]]:
    """The variables to set, in this order. Raises ValueError for a note that is not ASCII or too long."""
    if not note.isascii():
        raise ValueError("a note is ASCII")
    pieces = [note[start : start + PIECE] for start in range(0, len(note), PIECE)]
    if len(pieces) > PIECES:
        raise ValueError(f"a note of {len(note)} bytes is too long")
    side = generation % 2
    for number, piece in enumerate(pieces):
        yield f"{NOTE}_{side}_{number}", f"|{piece}|"
    yield NOTE, f"{side}:{len(pieces)}"


async def read_note(note: str, get: Callable[[str], Awaitable[str]]) -> str | None:
    """`note`: the value of ROOMLINE_NOTE; `get` reads another variable. None when there is none, or none that can be read."""
    mark = _MARK.fullmatch(note)
    if mark is None or int(mark["count"]) > PIECES:
        return None
    side, count = mark["side"], mark["count"]
    pieces = [await get(f"{NOTE}_{side}_{number}") for number in range(int(count))]
    if not all(len(piece) >= 2 and piece[0] == piece[-1] == "|" for piece in pieces):
        return None
    return "".join(piece[1:-1] for piece in pieces)
