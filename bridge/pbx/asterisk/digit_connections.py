"""The manager connections by which digits go to phones, apart from the one that commands.

Asterisk's manager plays a digit itself: for as long as its tone sounds it reads nothing else of that connection (PlayDTMF, manager.c;
measured on 22.10: a key in a room with nine other phones held up whatever was said behind it for 2.25 s, leases and the heart's beats with
it). So each digit that sounds has a connection of its own.
"""

import asyncio
from typing import Final

import structlog

from bridge.errors import Unavailable
from bridge.pbx.asterisk.options import AsteriskOptions
from bridge.pbx.asterisk.wire import Answer, GuardedProtocol, Headers, Wire, ask, connect

log = structlog.get_logger(__name__)

MOST: Final = 32
"""Digits that sound at a time; one more waits for the end of one of them."""

KEPT: Final = 3.0
"""Seconds that a connection is kept for a next digit: who presses one key presses more."""


class DigitConnections:
    """Made as they are needed, and closed by `close`."""

    def __init__(self, options: AsteriskOptions, wire: Wire) -> None:
        """`wire`: by which digits go where the manager lets a user in only once."""
        self._name = options.name
        self._options = options.wire()
        self._wire = wire
        self._room = asyncio.Semaphore(MOST)
        self._idle: dict[GuardedProtocol, asyncio.TimerHandle] = {}
        self._said_only_once = False

    async def play(self, channel: str, digit: str, seconds: float) -> Answer:
        """Returns when the digit has sounded. Raises Unavailable."""
        headers: Headers = {"Channel": channel, "Digit": digit, "Duration": round(seconds * 1000)}
        async with self._room:
            protocol = self._take() or await self._connect()
            if protocol is None:
                return await self._wire.action("PlayDTMF", headers)
            try:
                answer = await ask(protocol, "PlayDTMF", headers, self._options.action_timeout)
            except BaseException:
                protocol.close()
                raise
            self._idle[protocol] = asyncio.get_running_loop().call_later(KEPT, self._let_go, protocol)
            return answer

    async def _connect(self) -> GuardedProtocol | None:
        """None where there is no further one beside the wire's."""
        try:
            return await connect(self._options, events=False)
        except Unavailable as error:
            if not self._wire.connected:
                raise
            if not self._said_only_once:
                self._said_only_once = True
                log.warning("digits to phones hold up what else is said to the PBX: no second connection", pbx=self._name, error=str(error))
            return None

    def close(self) -> None:
        for protocol in list(self._idle):
            self._let_go(protocol)

    def _take(self) -> GuardedProtocol | None:
        while self._idle:
            protocol, ending = self._idle.popitem()
            ending.cancel()
            if not protocol.closed:
                return protocol
        return None

    def _let_go(self, protocol: GuardedProtocol) -> None:
        self._idle.pop(protocol).cancel()
        protocol.close()
