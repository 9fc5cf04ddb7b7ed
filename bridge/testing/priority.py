"""Who is first where the processors do not suffice: what hears and speaks for all callers, then what carries their sound, and last what
only starts, whose seconds of computing are no calls' gaps.

Linux shares the processors among sessions first (sched(7), autogroups), and each `Child` is one: so it is the session's value that is
changed. Only root may do so as often as it takes; for others every session is where it is. So it is for a session in no group, such as a
container's first one can be (the file is empty then): each of its processes counts as much as a whole group, which is well enough.
"""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

BEHIND = 10
"""How much nicer what starts is: it gets a tenth of the time of those beside it, and all of it where there is nobody."""

AHEAD = -5
"""How much less nice the tests' own session is: three times the share of one of the others."""

_starting: ContextVar[list[int] | None] = ContextVar("starting", default=None)


@contextlib.contextmanager
def behind_others() -> Iterator[None]:
    """Each session that this task starts meanwhile stands back until the end of the block."""
    started: list[int] = []
    token = _starting.set(started if os.geteuid() == 0 else None)
    try:
        yield
    finally:
        _starting.reset(token)
        for pid in started:
            _put(pid, 0)


@contextlib.contextmanager
def ahead_of_others() -> Iterator[None]:
    """This process's session, in which every caller of every stack hears and speaks, until the end of the block."""
    usual = nice_of(os.getpid())
    if os.geteuid() != 0 or usual is None:
        yield
        return
    _put(os.getpid(), AHEAD)
    try:
        yield
    finally:
        _put(os.getpid(), usual)


def nice_of(pid: int) -> int | None:
    """The value of this process's session; None where it is in no group."""
    try:
        said = group_of(pid).read_text().split()  # "/autogroup-5705 nice 0"
    except OSError:
        return None
    return int(said[-1]) if said else None


def group_of(pid: int) -> Path:
    """Where Linux says which group of sessions a process is in, and takes another value for it."""
    return Path(f"/proc/{pid}/autogroup")


def has_started(pid: int) -> None:
    """Said by `child.py` of each process with a session of its own."""
    started = _starting.get()
    if started is not None:
        started.append(pid)
        _put(pid, BEHIND)


def _put(pid: int, nice: int) -> None:
    with contextlib.suppress(OSError):  # it has ended meanwhile, or this kernel knows no such groups
        group_of(pid).write_text(str(nice))
