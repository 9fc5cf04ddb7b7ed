"""The log of a worker that a server has started: a file beside its socket, readable by its own user, that is begun anew when it is full.

A worker outlives its server, so it may hold no pipe of the server's: one that nobody empties would stop the beat in the middle of a line.
A file takes what it is given. Whatever writes to standard output and error is kept, the last words of native code among it.
"""

import os
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 2 * 1024 * 1024
"""Of one file. The one before it is kept too."""

_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2


def log_beside(socket: Path) -> Path:
    """Where the worker with this socket writes."""
    return socket.with_suffix(".log")


def open_log(path: Path) -> int:
    """A file descriptor to append to `path`; the caller closes it. A full file is put aside as `….log.1` first. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size >= MOST_BYTES:
        path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def begin_anew_when_full(path: Path) -> None:
    """Called by the worker now and then. Where its output does not go to `path` (a service's goes to the journal), nothing happens. What
    cannot be begun anew goes on in the old file. Raises nothing."""
    try:
        if _writes_to(path) and path.stat().st_size >= MOST_BYTES:
            descriptor = open_log(path)
            try:
                os.dup2(descriptor, _STANDARD_OUTPUT)
                os.dup2(descriptor, _STANDARD_ERROR)
            finally:
                os.close(descriptor)
    except OSError:
        return


def _writes_to(path: Path) -> bool:
    return os.path.samestat(path.stat(), os.fstat(_STANDARD_ERROR))
