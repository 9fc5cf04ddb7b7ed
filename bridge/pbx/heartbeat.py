"""Who commands a PBX: a word kept in it, `epoch:controller:count`, that the one in command writes anew each second.

Whoever takes a PBX over raises the epoch; who sees a higher one than its own stops commanding. How the word is kept is the adapter's.
"""

import re
import secrets
from typing import Final

_EPOCH: Final = re.compile(r"[0-9]{1,9}")


class Heartbeat:
    """One controller's."""

    def __init__(self) -> None:
        self._epoch = 0
        self._controller = secrets.token_hex(4)
        self._count = 0

    def after(self, there: str) -> str | None:
        """What to write now, where `there` is what the PBX has: at the first time it takes the PBX over. None: somebody newer has."""
        epoch, controller = _read(there)
        if self._epoch == 0:
            self._epoch = epoch + 1
        elif (epoch, controller) > (self._epoch, self._controller):
            return None
        self._count += 1
        return f"{self._epoch}:{self._controller}:{self._count}"


def _read(there: str) -> tuple[int, str]:
    epoch, _, rest = there.partition(":")
    return (int(epoch) if _EPOCH.fullmatch(epoch) else 0), rest.partition(":")[0]
