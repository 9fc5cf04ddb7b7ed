"""Processes of our own end when they shall, and only they."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest

from bridge.testing.child import Child


async def test_given_a_process_when_it_is_stopped_then_it_may_end_by_itself(tmp_path: Path) -> None:
    script = "import signal,sys,time\nsignal.signal(15, lambda *a: sys.exit(7))\nprint('up', flush=True)\ntime.sleep(60)"
    async with Child([sys.executable, "-c", script], log=tmp_path / "log") as child:
        await until_it_says(child, "up")
        await child.stop()
        assert child.returncode == 7
        await child.stop()


async def test_given_a_frozen_process_that_ignores_us_then_it_is_killed(tmp_path: Path) -> None:
    script = "import signal,time\nsignal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
    child = Child([sys.executable, "-c", script], log=tmp_path / "log")
    await child.start()
    await until_it_says(child, "up")
    child.send(signal.SIGSTOP)
    assert child.running
    await child.stop(patience=0.2)
    assert child.returncode == -signal.SIGKILL


async def test_given_its_parent_is_killed_then_it_does_not_live_on(tmp_path: Path) -> None:
    script = (
        "import asyncio,sys\nfrom pathlib import Path\nfrom bridge.testing.child import Child\n"
        "async def main():\n"
        "    child = Child(['sleep', '60'], log=Path(sys.argv[1]))\n    await child.start()\n    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\nasyncio.run(main())"
    )
    parent = Child([sys.executable, "-c", script, str(tmp_path / "inner")], log=tmp_path / "log")
    await parent.start()
    await until_it_says(parent, "\n")
    inner = int(parent.output())
    await parent.kill()
    deadline = time.monotonic() + 5
    while _runs(inner):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_what_was_never_started_cannot_be_waited_for(tmp_path: Path) -> None:
    child = Child(["sleep", "1"], log=tmp_path / "log")
    assert (child.running, child.returncode) == (False, None)
    await child.stop()
    with pytest.raises(RuntimeError, match="has not been started"):
        await child.wait()


async def until_it_says(child: Child, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in child.output():  # noqa: ASYNC110  (another process's file: there is no event)
            await asyncio.sleep(0.02)


def _runs(pid: int) -> bool:
    """Not gone, and not a zombie that waits for an init that collects none (in some containers)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
