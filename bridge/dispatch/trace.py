"""Why: what was looked at on the way to an answer, and the field that failed with both values (DESIGN §11).

A trace never holds a PIN or a password: of a PIN it says only whether one was asked for or given.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

SHOWN = 5
"""Entries of a long list that a trace shows."""

SHOWN_CHARACTERS = 80
"""Of a text that a caller sent: numbers are shorter, attacks are not."""


def shown(text: str) -> str:
    """A caller's text as a trace or a reason shows it: short, and in one line."""
    cut = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
    return cut if cut.isprintable() else "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)


# Tuples, not dataclasses: a live call's trace makes ten of them within its few microseconds.
class Mismatch(NamedTuple):
    """The field of a trunk or rule that did not fit: what the call has, what was wanted."""

    field: str
    given: str
    wanted: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        return {"field": self.field, "given": shown(self.given), "wanted": list(self.wanted[:SHOWN])}

    def __str__(self) -> str:
        wanted = ", ".join(self.wanted[:SHOWN]) + (f" … ({len(self.wanted)})" if len(self.wanted) > SHOWN else "")
        return f"{self.field}: {shown(self.given) or '(none)'} is not {'one of ' if len(self.wanted) > 1 else ''}{wanted}"


class Candidate(NamedTuple):
    """One trunk or rule that was looked at. `outcome` is "chosen", "matched" (but another one was better) or "failed"."""

    kind: str
    id: str
    name: str
    outcome: str
    mismatch: Mismatch | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": self.kind, "id": self.id, "outcome": self.outcome}
        if self.name:
            found["name"] = self.name
        if self.mismatch is not None:
            found["mismatch"] = self.mismatch.to_json()
        if self.note:
            found["note"] = self.note
        return found

    def __str__(self) -> str:
        why = str(self.mismatch) if self.mismatch is not None else self.note
        label = f"{self.id} ({self.name})" if self.name else self.id
        return f"{self.kind} {label}: {self.outcome}" + (f", {why}" if why else "")


class Trace(NamedTuple):
    """One answer's reasons: the sentence that sums it up, and the candidates in the order looked at."""

    summary: str
    candidates: tuple[Candidate, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"summary": self.summary, "candidates": [candidate.to_json() for candidate in self.candidates]}

    def to_text(self) -> str:
        return "\n".join([self.summary, *(f"  {candidate}" for candidate in self.candidates)])

    def __str__(self) -> str:
        return self.summary
