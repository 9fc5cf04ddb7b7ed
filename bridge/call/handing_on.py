"""A transfer under way: one for all who ask for the same, and longer-lived than the node that carries the call's sound."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.errors import LegGone, RoomlineError, Superseded
from bridge.pbx.port import Leg, TransferFailure, TransferResult

CALL_ENDED = "the call has ended"


@dataclass(frozen=True, slots=True)
class Transfer:
    """Somebody asked for the caller to be handed on to `to` within `limit` seconds; `result` is for them."""

    to: str
    headers: Mapping[str, str]
    limit: float
    dial_tone: bool
    result: "asyncio.Future[TransferResult]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def answer(self, result: TransferResult) -> None:
        """Who asked may have gone."""
        if not self.result.done():
            self.result.set_result(result)

    def refuse(self, failure: TransferFailure, reason: str) -> None:
        self.answer(TransferResult(ok=False, reason=reason, failure=failure))


class HandingOn:
    """What the leg is asked to do, until it has told the result or the limit is over. `close` ends it; its owner is the call's story.

    Whoever asked may be gone by then: a transfer is the caller's, and goes on (livekit-sip-semantics.md §3.9).
    """

    def __init__(self, leg: Leg, first: Transfer) -> None:
        self.to = first.to
        self.reached_the_pbx = False
        """The PBX may have taken the call's audio away for it."""
        self._askers = [first]
        self._task = asyncio.create_task(self._hand_on(leg, first))
        self._task.add_done_callback(self._tell)

    def join(self, other: Transfer) -> None:
        """Somebody asks for the same: they share the result. For another target they are refused."""
        if other.to != self.to:
            other.refuse(TransferFailure.ELSEWHERE, "the call is being transferred elsewhere")
        else:
            self._askers.append(other)
            if self._task.done():
                self._tell(self._task)

    async def result(self) -> TransferResult:
        """Raises LegGone, Superseded. A cancelled asker does not end it."""
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """The call is over: nobody is handed on any more. Idempotent."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _hand_on(self, leg: Leg, order: Transfer) -> TransferResult:
        try:
            async with asyncio.timeout(order.limit):
                result = await leg.transfer(order.to, order.headers, dial_tone=order.dial_tone)
        except TimeoutError:
            self.reached_the_pbx = True
            reason = f"nobody took the caller within {order.limit:g} s"
            return TransferResult(ok=False, reason=reason, failure=TransferFailure.TIMED_OUT)
        except (LegGone, Superseded):
            raise
        except RoomlineError as error:
            return TransferResult(ok=False, reason=str(error), failure=TransferFailure.NOT_SENT)
        self.reached_the_pbx = True
        return result

    def _tell(self, task: "asyncio.Task[TransferResult]") -> None:
        """The one place that answers: whatever becomes of the task, its askers hear of it."""
        result = TransferResult(ok=False, reason=CALL_ENDED, failure=TransferFailure.CALL_ENDED)
        if not task.cancelled() and task.exception() is None:
            result = task.result()
        for asker in self._askers:
            asker.answer(result)
