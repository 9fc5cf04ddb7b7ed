"""Trunks with a user and a password: what FreeSWITCH is told when it asks who a caller is (mod_xml_curl), and whom it turned away.

FreeSWITCH keeps nothing of it: it asks for each caller who gives credentials. What is answered over HTTP is the directory's; here stands
what there is to answer. A wrong user or password is told of by an event; who gives no credentials is challenged, and not heard of again.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from bridge.model.credentials import Refusal, TrunkCredentials
from bridge.pbx.freeswitch.messages import Event

MOST_WAITING: Final = 1000
"""Refusals that nobody has read: an attacker makes any number."""


class Credentials:
    """Of one FreeSWITCH."""

    def __init__(self) -> None:
        self._by_user: dict[str, TrunkCredentials] = {}
        self._refused: asyncio.Queue[Refusal] = asyncio.Queue(MOST_WAITING)

    def keep(self, trunks: Sequence[TrunkCredentials]) -> None:
        """These from now on. Of two trunks with the same user the first counts: FreeSWITCH asks by user alone."""
        self._by_user = {trunk.username: trunk for trunk in reversed(trunks)}

    def find(self, user: str) -> TrunkCredentials | None:
        return self._by_user.get(user)

    def heard(self, event: Event) -> None:
        """Of somebody whose credentials were wrong. Whoever names no user of ours is another door's affair."""
        trunk = self._by_user.get(event["username"])
        if trunk is not None and event["auth-result"] == "FORBIDDEN" and not self._refused.full():
            why = "the user or the password is another one"
            self._refused.put_nowait(Refusal(trunk.trunk_id, event["network-ip"], event["call-id"], why))

    async def refusals(self) -> AsyncIterator[Refusal]:
        while True:
            yield await self._refused.get()
