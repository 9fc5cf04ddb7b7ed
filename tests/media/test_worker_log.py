"""A worker's log: its own user's, and never longer than it may be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.media import worker_log
from bridge.media.worker_log import begin_anew_when_full, log_beside, open_log

WRITER = """
import os, sys
from pathlib import Path
from bridge.media import worker_log
worker_log.MOST_BYTES = 100
path = Path(sys.argv[1])
for line in range(9):
    print(f"{line} " + 28 * "o", flush=True)
    os.write(2, b"%d " % line + 28 * b"e" + b"\\n")
    worker_log.begin_anew_when_full(path)
"""
"""Lines of 31 bytes, by Python and past it."""


def test_given_a_socket_then_the_log_lies_beside_it(tmp_path: Path) -> None:
    assert log_beside(tmp_path / "node-3.sock") == tmp_path / "node-3.log"


def test_given_a_worker_that_writes_a_lot_then_its_log_and_the_one_before_are_short_and_no_line_is_lost_between(tmp_path: Path) -> None:
    path = tmp_path / "node-0.log"
    with os.fdopen(open_log(path), "wb") as output:
        subprocess.run([sys.executable, "-c", WRITER, str(path)], stdout=output, stderr=output, check=True, timeout=60)
    lines = path.with_suffix(".log.1").read_text() + path.read_text()
    assert [line[:3] for line in lines.splitlines()] == [f"{number} {letter}" for number in range(6, 9) for letter in "oe"]
    assert path.stat().st_size < 100 <= path.with_suffix(".log.1").stat().st_size < 100 + 2 * 31
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}


def test_given_workers_that_end_at_once_then_their_log_is_short_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_log, "MOST_BYTES", 10)
    path = tmp_path / "node-0.log"
    for number in range(3):
        with os.fdopen(open_log(path), "w") as output:
            output.write(f"last words {number}")
    assert (path.read_text(), path.with_suffix(".log.1").read_text()) == ("last words 2", "last words 1")


def test_given_a_log_that_others_could_read_then_they_cannot_any_more(tmp_path: Path) -> None:
    path = tmp_path / "node-0.log"
    path.touch(0o666)
    with os.fdopen(open_log(path), "wb"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_given_a_link_in_the_place_of_the_log_then_nothing_is_written_through_it(tmp_path: Path) -> None:
    path = tmp_path / "node-0.log"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        open_log(path)
    assert not (tmp_path / "elsewhere").exists()


def test_given_output_that_goes_elsewhere_then_no_log_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service's goes to the journal."""
    monkeypatch.setattr(worker_log, "MOST_BYTES", 1)
    path = tmp_path / "node-0.log"
    begin_anew_when_full(path)
    assert not path.exists()
    path.write_text("of an earlier worker")
    begin_anew_when_full(path)
    assert [each.name for each in tmp_path.iterdir()] == ["node-0.log"]
