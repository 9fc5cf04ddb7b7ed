"""The PBX's end of audio as datagrams, for tests: says what it is told to, keeps what it hears."""

import asyncio
import socket
from typing import Self

from bridge.model.media_address import MediaAddress


class DatagramPbx:
    """A UDP socket that sends a call's audio to `address`."""

    def __init__(self, address: MediaAddress, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, 0))
        self.to = (address.host, address.port)

    def say(self, datagram: bytes) -> None:
        self._socket.sendto(datagram, self.to)

    def heard(self) -> list[bytes]:
        """What has come by now, and not been asked for yet."""
        heard = []
        while True:
            try:
                heard.append(self._socket.recv(10_000))
            except BlockingIOError:
                return heard

    async def talk(self, datagram: bytes, times: int, every: float = 0.02) -> list[bytes]:
        """Say this again and again, as a PBX does; what was heard meanwhile."""
        heard = self.heard()
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in range(times):
            self.say(datagram)
            await asyncio.sleep(max(0.0, started + (number + 1) * every - loop.time()))
            heard += self.heard()
        return heard

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
