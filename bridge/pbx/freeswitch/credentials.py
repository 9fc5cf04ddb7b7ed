"""Trunks with a user and a password: what FreeSWITCH is told when it asks who a caller is (mod_xml_curl), and whom it turned away.

FreeSWITCH keeps nothing of it: it asks for each caller who gives credentials. What is answered over HTTP is the directory's; here stands
what there is to answer. A wrong user or password is told of by an event; who gives no credentials is challenged, and not heard of again.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from bridge.model.credentials import Refusal, TrunkCredentials
from bridge.model.numbers import normalize_number
from bridge.pbx.freeswitch.messages import Event

MOST_WAITING: Final = 1000
"""Refusals that nobody has read: an attacker makes any number."""

FORBIDDEN: Final = 403
"""What FreeSWITCH answers to credentials that are wrong (freeswitch.md)."""


class Credentials:
    """Of one FreeSWITCH."""

    def __init__(self) -> None:
        self._kept: Sequence[TrunkCredentials] = ()
        self._refused: asyncio.Queue[Refusal] = asyncio.Queue(MOST_WAITING)

    def keep(self, trunks: Sequence[TrunkCredentials]) -> None:
        """These from now on."""
        self._kept = tuple(trunks)

    def heard(self, event: Event) -> None:
        """Of somebody whose credentials were wrong. Whoever names no user of ours is another door's affair."""
        # FreeSWITCH has the two names swapped (sofia_reg.c): this is the user of the To header, who was called.
        trunk = self._find(event["username"], event["from-user"])
        if trunk is not None and event["auth-result"] == "FORBIDDEN" and not self._refused.full():
            why = "the user or the password is another one"
            self._refused.put_nowait(Refusal(trunk.trunk_id, event["network-ip"], event["call-id"], why, FORBIDDEN))

    def _find(self, user: str, called: str) -> TrunkCredentials | None:
        """Of several trunks with one user, that whose number was called, or else one without numbers, as the directory has it; or else the
        first."""
        found = [trunk for trunk in self._kept if trunk.username == user]
        number = normalize_number(called)
        for fits in (lambda trunk: number in map(normalize_number, trunk.numbers), lambda trunk: not trunk.numbers, lambda _trunk: True):
            if chosen := next(filter(fits, found), None):
                return chosen
        return None

    async def refusals(self) -> AsyncIterator[Refusal]:
        while True:
            yield await self._refused.get()
