"""What `roomline check` has looked at and found, whoever looked."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `ok` None: could not be seen. `todo` is what the operator does about it."""

    ok: bool | None
    text: str
    todo: str = ""
