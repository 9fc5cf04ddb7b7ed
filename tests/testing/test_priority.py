"""Who starts stands back, and comes forward with all that they have started."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.testing import priority
from bridge.testing.child import Child
from bridge.testing.priority import BEHIND, ahead_of_others, behind_others, group_of, nice_of

PARENT = "import subprocess,time\nchild = subprocess.Popen(['sleep', '60'])\nprint(child.pid, flush=True)\ntime.sleep(60)"

ROOT = Path(__file__).parents[2]

GROUPS = group_of(os.getpid()).exists()


async def family(child: Child) -> tuple[int | None, int | None]:
    """Those of the process and of its child, once both are there."""
    while not (said := child.output()).endswith("\n"):
        assert child.running
        await asyncio.sleep(0.02)
    return nice_of(child.pid), nice_of(int(said))


@pytest.mark.skipif(os.geteuid() != 0 or not GROUPS, reason="only root's sessions may come forward, where Linux has groups of them")
async def test_given_a_start_then_all_of_it_stands_back_until_it_is_over(tmp_path: Path) -> None:
    command, ours = [sys.executable, "-c", PARENT], nice_of(os.getpid())
    async with Child(command, log=tmp_path / "before") as before, Child(command, log=tmp_path / "child") as child:
        await child.kill()
        child.log.unlink()
        with behind_others():
            await asyncio.create_task(child.start())  # as in a group of tasks
            assert await family(child) == (BEHIND, BEHIND)
        assert await family(child) == (0, 0)
        assert (await family(before), nice_of(os.getpid())) == ((0, 0), ours), "who was there before is where they were"


@pytest.mark.skipif(os.geteuid() != 0 or not GROUPS, reason="as above")
def test_given_the_tests_own_session_then_it_is_ahead_and_back_afterwards(tmp_path: Path) -> None:
    inner = tmp_path / "test_it.py"
    inner.write_text("from pathlib import Path\ndef test_it():\n    assert Path('/proc/self/autogroup').read_text().endswith(' -5\\n')\n")
    asked = f"{sys.executable} -m pytest -q -c {ROOT}/pyproject.toml -p tests.conftest {inner}"
    command = f"echo 3 > /proc/self/autogroup; {asked} && cat /proc/self/autogroup"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, start_new_session=True, check=True)
    assert done.stdout.endswith(" nice 3\n")


@pytest.mark.parametrize("content", ["", None], ids=["empty", "missing"])
def test_given_a_session_in_no_group_then_it_is_left_where_it_is(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = tmp_path / "autogroup"
    if content is not None:
        group.write_text(content)
    monkeypatch.setattr(priority, "group_of", lambda pid: group)
    with ahead_of_others():
        assert (group.read_text() if group.exists() else None) == content
    assert (group.read_text() if group.exists() else None) == content


async def test_given_one_that_ends_while_it_starts_then_nobody_minds(tmp_path: Path) -> None:
    child = Child([sys.executable, "-c", ""], log=tmp_path / "log")
    with behind_others():
        await child.start()
        await child.wait()
    assert child.returncode == 0
