"""Who starts stands back, and comes forward with all that they have started."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from bridge.testing.child import Child
from bridge.testing.priority import BEHIND, behind_others

PARENT = (
    "import subprocess,threading,time\n"
    "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    "child = subprocess.Popen(['sleep', '60'])\nprint('up', flush=True)\ntime.sleep(60)"
)

USUAL = os.getpriority(os.PRIO_PROCESS, 0)


def nices_of(pid: int) -> list[int]:
    return [os.getpriority(os.PRIO_PROCESS, int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()]


async def family(child: Child) -> tuple[list[int], list[int]]:
    """Those of the process and of its child, once both are there."""
    while child.output() != "up\n":
        assert child.running
        await asyncio.sleep(0.02)
    (grandchild,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()  # noqa: ASYNC240  (no disk's)
    return nices_of(child.pid), nices_of(int(grandchild))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's processes may come forward")
async def test_given_a_start_then_all_of_it_stands_back_until_it_is_over(tmp_path: Path) -> None:
    command, behind = [sys.executable, "-c", PARENT], USUAL + BEHIND
    async with Child(command, log=tmp_path / "before") as before, Child(command, log=tmp_path / "log") as beside:
        child = Child(command, log=tmp_path / "child")
        try:
            with behind_others():
                await asyncio.create_task(child.start())  # as in a group of tasks
                assert await family(child) == ([behind, behind], [behind])
                assert nices_of(os.getpid())[0] == USUAL
            assert await family(child) == ([USUAL, USUAL], [USUAL])
            assert await family(before) == await family(beside) == ([USUAL, USUAL], [USUAL])
        finally:
            await child.kill()


async def test_given_one_that_ends_while_it_starts_then_nobody_minds(tmp_path: Path) -> None:
    child = Child([sys.executable, "-c", ""], log=tmp_path / "log")
    with behind_others():
        await child.start()
        await child.wait()
    assert child.returncode == 0
