"""What two hundred calls leave behind in the one worker that carried them: LiveKit's SDK keeps something of each; here is its bound."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.testing.get_asterisk import Asterisk
from bridge.testing.human import RATE, Human
from bridge.testing.listening import tone
from bridge.testing.livekit_server import LiveKitServer
from bridge.testing.stack import Stack
from tests.real.livekit_scenario import OPEN, configuration

CALLS, WARM = 200, 40

MEMORY_PER_CALL = 750_000
"""Bytes. LiveKit's SDK loses 0.55 MB with each room it has joined (docs/performance.md); `media.recycle_after` is what ends that."""

THREADS, FILES = 16, 16
"""More than after the first calls: what ends late, not what grows. Each call has a thread in the SDK for its own sound."""

SETTLED, SETTLED_AT_LAST = 12.0, 60.0
"""Seconds: a session that is left within moments of its join lives on in the SDK for ten, and for more on a busy machine."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a process holds: proc(5)."""

    threads: int
    memory: int
    files: int


def holding(pid: int) -> Holding:
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return Holding(int(status["Threads"]), int(status["VmRSS"].split()[0]) * 1024, sum(1 for _ in (proc / "fd").iterdir()))


@pytest.mark.slow
@pytest.mark.timeout(480)
async def test_given_two_hundred_calls_through_one_worker_then_its_threads_and_memory_stay_within_bounds(
    asterisk: Asterisk, livekit: LiveKitServer, tmp_path: Path
) -> None:
    async with Stack(configuration(livekit), asterisk=asterisk, keep=tmp_path / "kept") as stack, Human(livekit.access, "open") as human:
        human.hum(tone(RATE, 1.0, [600.0]))
        (worker,) = stack.server.workers()
        warm: Holding | None = None
        for number in range(CALLS):
            if number == WARM:
                warm = await settled(worker)
            call = await stack.carrier.call(OPEN)
            await call.answered()
            await human.until("published", f"sip_{call.caller}")
            await call.hang_up()
            await human.until("left", f"sip_{call.caller}")
        assert warm is not None
        after = await settled(worker, warm)
        assert stack.server.workers() == [worker]
        assert after.memory - warm.memory <= MEMORY_PER_CALL * (CALLS - WARM)
        assert after.threads - warm.threads <= THREADS
        assert after.files - warm.files <= FILES


async def settled(pid: int, before: Holding | None = None) -> Holding:
    """What it holds when the sessions of its last calls have ended; of threads and files, no more than the bounds beyond `before`, if they
    come down to that."""
    ended_at = time.monotonic()
    await asyncio.sleep(SETTLED)
    while True:
        now = await asyncio.to_thread(holding, pid)
        late = before is not None and (now.threads - before.threads > THREADS or now.files - before.files > FILES)
        if not late or time.monotonic() - ended_at > SETTLED_AT_LAST:
            return now
        await asyncio.sleep(1.0)
