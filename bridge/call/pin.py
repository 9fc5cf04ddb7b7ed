"""The PIN dialogue as a state machine: keys and the time go in, what to do next comes out.

No clock, no sound, no room here: `session.py` plays and listens, the dispatch step judges the PIN.
Rules: livekit-sip-semantics.md §3.3, with the time limits and attempts that docs/differences.md names.

    ASKING ──key──▶ ENTERING ──#──▶ entry complete (judged by the caller of this module)
       └──────────────┴──too slow, too long──▶ entry failed
"""

from dataclasses import dataclass, field
from enum import Enum

from bridge.call.options import PinOptions

MAX_LENGTH = 16
"""Characters before `#`; the next one fails the entry (§3.3 step 3)."""

_KEYS = {key: key.lower() for key in "0123456789*abcdABCD"}


class Failure(Enum):
    """Why an entry ended without a PIN to judge."""

    TOO_LONG = "too long"
    TOO_SLOW = "too slow"


@dataclass(frozen=True, slots=True)
class Entered:
    """The caller pressed `#`. `pin` is empty when nothing stood before it. Never shown by repr."""

    pin: str = field(repr=False)


class PinEntry:
    """One attempt. Feed it keys; it says when the entry is complete. Holds the digits in memory and shows them to nobody."""

    __slots__ = ("_deadline", "_keys", "_options")

    def __init__(self, options: PinOptions) -> None:
        self._options = options
        self._keys: list[str] = []
        self._deadline: float | None = None

    def __repr__(self) -> str:
        return "PinEntry(…)"

    @property
    def deadline(self) -> float | None:
        """When the entry fails as too slow, on the clock that `key` and `prompt_ended` were given; None while the prompt plays."""
        return self._deadline

    @property
    def started(self) -> bool:
        """A key was pressed: the prompt has nothing left to say."""
        return bool(self._keys)

    def prompt_ended(self, now: float) -> None:
        """The prompt is over, or was stopped: time starts to run."""
        if self._deadline is None:
            self._deadline = now + self._options.first_digit_timeout

    def key(self, key: str, now: float) -> Entered | Failure | None:
        """One key press. Keys a telephone does not have are ignored (§3.3 step 3)."""
        if key == "#":
            return Entered("".join(self._keys))
        character = _KEYS.get(key)
        if character is None:
            return None
        if len(self._keys) >= MAX_LENGTH:
            return Failure.TOO_LONG
        self._keys.append(character)
        self._deadline = now + self._options.digit_timeout
        return None

    def time(self, now: float) -> Failure | None:
        """The time has moved on."""
        return Failure.TOO_SLOW if self._deadline is not None and now >= self._deadline else None
