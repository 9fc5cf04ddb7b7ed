"""Callers whom Asterisk turns away at the door: they never make a channel, and are read from the manager's security events.

Who gives a wrong user or password is told of at once. Who gives none is challenged, and not heard of again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from bridge.model.credentials import Refusal
from bridge.pbx.asterisk.credentials import trunk_of
from bridge.pbx.asterisk.wire import Event

ANSWER_WITHIN: Final = 5.0
"""Seconds until a caller who was challenged has given no credentials."""

MOST_WAITING: Final = 1000
"""Challenges, and refusals that nobody has read: an attacker makes any number."""


class Refusals:
    """`heard` is told of each security event of an endpoint of ours; `run` has those counted out who say nothing."""

    def __init__(self) -> None:
        self._challenged: OrderedDict[str, tuple[float, Refusal]] = OrderedDict()
        self._refused: asyncio.Queue[Refusal] = asyncio.Queue(MOST_WAITING)

    def heard(self, event: Event) -> None:
        call_id = event["SessionID"]
        match event.name:
            case "ChallengeSent":
                self._challenged.setdefault(
                    call_id, (asyncio.get_running_loop().time() + ANSWER_WITHIN, _refusal(event, "the caller gave no credentials"))
                )
                if len(self._challenged) > MOST_WAITING:
                    self._challenged.popitem(last=False)
            case "SuccessfulAuth":
                self._challenged.pop(call_id, None)
            case "ChallengeResponseFailed" | "InvalidPassword" | "InvalidAccountID":
                self._challenged.pop(call_id, None)
                self._tell(_refusal(event, "the user or the password is another one"))

    async def run(self) -> None:
        """Returns only when cancelled."""
        while True:
            await asyncio.sleep(1.0)
            now = asyncio.get_running_loop().time()
            while self._challenged and next(iter(self._challenged.values()))[0] <= now:
                self._tell(self._challenged.popitem(last=False)[1][1])

    async def read(self) -> AsyncIterator[Refusal]:
        while True:
            yield await self._refused.get()

    def _tell(self, refusal: Refusal) -> None:
        if not self._refused.full():
            self._refused.put_nowait(refusal)


def _refusal(event: Event, why: str) -> Refusal:
    return Refusal(trunk_of(event["AccountID"]), _address(event["RemoteAddress"]), event["SessionID"], why)


def _address(text: str) -> str:
    """Of `IPV4/UDP/192.0.2.1/5060`."""
    parts = text.split("/")
    return parts[2] if len(parts) == 4 else ""
