"""The folder where fetched parts (a PBX, a LiveKit server) are kept between runs, and the lock under which they are fetched."""

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Progress = Callable[[str], None]
"""Called with one line for a person: which step, how many MB."""


def cache_folder(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home()) / ".cache"
    return Path(base) / "roomline"


@contextmanager
def lock(path: Path, what: str, progress: Progress) -> Iterator[None]:
    """One process fetches, the others wait and then find it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"another process is fetching {what}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
