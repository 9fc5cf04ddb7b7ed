"""What starts stands back behind what carries sound already: the seconds of computing that a start takes are no calls' gaps.

A process can come forward again only by root's will (or where RLIMIT_NICE allows it); for others every process is where it is.
"""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

BEHIND = 10
"""How much nicer what starts is: it gets a tenth of the time of those beside it, and all of it where there is nobody."""

_starting: ContextVar[list[int] | None] = ContextVar("starting", default=None)


@contextlib.contextmanager
def behind_others() -> Iterator[None]:
    """Each process that this task starts meanwhile (`child.py`) stands back with all that come of it, until the end of the block."""
    started: list[int] = []
    token = _starting.set(started if os.geteuid() == 0 else None)
    try:
        yield
    finally:
        _starting.reset(token)
        for pid in started:
            _come_forward(pid)


def starting() -> list[int] | None:
    """Where to put the process id of what stands back (`os.nice(BEHIND)`); None where nothing does."""
    return _starting.get()


def _come_forward(pid: int) -> None:
    """The process, each of its threads (to Linux each has a value of its own, setpriority(2)), and all that it has started. Who has ended
    meanwhile is passed over."""
    value = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), value)
                for child in (thread / "children").read_text().split():
                    _come_forward(int(child))
