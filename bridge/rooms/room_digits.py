"""Which digits that a room asks for reach a phone: those that a phone has, and no more than it can take.

What comes of them, and the packets they come in, is `livekit_session.py`'s.
"""

from typing import Final

from bridge.media.sparse_log import SparseLog

MOST_AT_ONCE: Final = 64
"""Digits of one packet, or of several that come together: what a phone can take in half a minute."""

EACH_SECOND: Final = 2
"""Digits after that: a phone is given each for 250 ms, with as much of a pause. Who sends faster floods us, and dials nothing."""

_DIGITS: Final = frozenset("0123456789*#abcdABCDw")


class RoomDigits:
    """Of one session. Time is passed in: seconds of a clock that only goes forward."""

    __slots__ = ("_at", "_left", "_log", "_room")

    def __init__(self, room: str, log: SparseLog | None = None) -> None:
        self._room = room
        self._left = float(MOST_AT_ONCE)
        self._at = float("-inf")
        self._log = log if log is not None else SparseLog()

    def accept(self, digits: str, now: float) -> bool:
        """All of a packet's digits, or none."""
        if not 0 < len(digits) <= MOST_AT_ONCE or not _DIGITS.issuperset(digits):
            self._log.warning("the room asks for digits that no phone has", room=self._room, length=len(digits))
            return False
        self._left = min(MOST_AT_ONCE, self._left + (now - self._at) * EACH_SECOND)
        self._at = now
        if len(digits) > self._left:
            self._log.warning("the room asks for more digits than a phone can take; some are dropped", room=self._room)
            return False
        self._left -= len(digits)
        return True
