"""An event loop whose time jumps: three minutes of ringing pass in no time, in the same order as they would have.

For stories told with fakes, or with both ends of a loopback connection on this loop (`PATIENCE`): nothing else that is real (threads,
other processes) happens in a jump. A program that waits for something that can never happen is an error here, not a test that hangs.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")

EPOCH = 1_700_000_000.0
"""What the clock shows when a loop begins."""

PATIENCE = 0.003
"""Real seconds: what was written to a loopback socket is there at once, unless the kernel has put it off."""


class _Jumping(selectors.DefaultSelector):
    """Instead of sleeping until the next timer, moves the loop's time there."""

    loop: "TimeTravelLoop"
    patience = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0 and self.patience:
            ready = super().select(self.patience)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("every task waits for something that will never happen")
        self.loop.jump(timeout)
        return []


class TimeTravelLoop(asyncio.SelectorEventLoop):
    """An event loop with its own time, which starts at 0 and only moves when nothing is left to do."""

    def __init__(self, patience: float = 0.0) -> None:
        """`patience`: real seconds that sockets are given to become ready before a jump."""
        self._now = 0.0
        selector = _Jumping()
        selector.loop, selector.patience = self, patience
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        # A nanosecond more: the sum of two floats must not fall short of the timer it was made for.
        self._now += seconds + 1e-9


class LoopClock:
    """`call.clock.Clock` on the running loop's time."""

    def now(self) -> float:
        return EPOCH + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def travel(story: Coroutine[Any, Any, _Result], patience: float = 0.0) -> _Result:
    """Run to the end in no time. Raises AssertionError when tasks are left over."""
    loop = TimeTravelLoop(patience)
    try:
        result = loop.run_until_complete(story)
        left = sorted(str(task.get_coro()) for task in asyncio.all_tasks(loop))
        assert not left, f"tasks left over: {left}"  # noqa: S101  (what this helper is for)
        return result
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
