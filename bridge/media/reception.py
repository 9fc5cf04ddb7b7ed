"""Where the PBX connects: lets in who was announced, once and in time, and nobody else.

A guest has to present the UUID of an announcement. Until then their socket is watched by the event loop; afterwards it is a `Line`
that the beat serves. Deadlines are looked at by `sweep`, so that no connection needs a timer.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from bridge.errors import ConfigurationError, RemoteProtocolError
from bridge.media.audiosocket import Decoder, HungUp, Identified, token_text
from bridge.media.figures import Figures
from bridge.media.line import Line
from bridge.media.sparse_log import SparseLog
from bridge.model.media_address import MediaAddress

MOST_GUESTS: Final = 64
"""Connections that have not said who they are. When there are more, the oldest goes: a PBX says it within a millisecond."""

_MOST_ACCEPTED_AT_ONCE = 32
_QUEUED_BY_THE_KERNEL = 128
_SEND_BUFFER = 8 * 1024  # a dozen frames: a peer that stops reading is noticed, and hears nothing stale when it reads on
_GONE_AFTER = 10.0  # seconds without a word from the peer's kernel: a host that vanished

Arrived = Callable[[Line], None]


@dataclass(frozen=True, slots=True)
class _Announcement:
    rate: int
    until: float
    arrived: Arrived


@dataclass(frozen=True, slots=True)
class _Guest:
    connection: socket.socket
    decoder: Decoder
    until: float


class Reception:
    """A listening socket and who is expected there. `open` and `close` frame its life; `sweep` is called from the beat."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        public_host: str = "",
        connect_timeout: float = 5.0,
        figures: Figures,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._public_host = public_host or host
        self._connect_timeout = connect_timeout
        self._figures = figures
        self._now = now
        self._announced: dict[bytes, _Announcement] = {}
        self._guests: dict[int, _Guest] = {}
        self._listener: socket.socket | None = None
        self._listening = False
        self._log = SparseLog(now=now)

    @property
    def port(self) -> int:
        """The port it listens on, once open."""
        return self._port

    async def open(self) -> None:
        """Listen. Raises `ConfigurationError` when the address cannot be had."""
        listener: socket.socket | None = None
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, address = found[0]
            listener = socket.socket(family, kind, protocol)
            _prepare(listener)
            listener.bind(address)
            listener.listen(_QUEUED_BY_THE_KERNEL)
        except OSError as error:
            if listener is not None:
                listener.close()
            raise ConfigurationError(f"media.listen: cannot listen on {self._host}:{self._port}: {error.strerror}.") from error
        self._listener = listener
        self._port = listener.getsockname()[1]
        self._listen()

    def close(self) -> None:
        """Nobody is let in any more, guests are shown out. Idempotent."""
        self._announced.clear()
        for guest in list(self._guests.values()):
            self._show_out(guest)
        self._deafen()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def announce(self, rate: int, arrived: Arrived) -> MediaAddress:
        """A fresh address, good for one connection and as long as the connect timeout. `arrived` is given the line."""
        token = uuid4().bytes
        self._announced[token] = _Announcement(rate, self._now() + self._connect_timeout, arrived)
        return MediaAddress(self._public_host, self._port, token_text(token), rate)

    def withdraw(self, arrived: Arrived) -> None:
        """Whatever was announced for this one is void."""
        for token in [token for token, announcement in self._announced.items() if announcement.arrived == arrived]:
            del self._announced[token]

    def sweep(self) -> None:
        """Forget what is out of date, show out who did not say who they are."""
        now = self._now()
        for token in [token for token, announcement in self._announced.items() if announcement.until <= now]:
            del self._announced[token]
        for guest in [guest for guest in self._guests.values() if guest.until <= now]:
            self._turn_away(guest, "silent")
        self._listen()

    def _listen(self) -> None:
        if self._listener is not None and not self._listening:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)
            self._listening = True

    def _deafen(self) -> None:
        if self._listener is not None and self._listening:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listening = False

    def _accept(self) -> None:
        if self._listener is None:
            return
        for _ in range(_MOST_ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # no file descriptors, say: the next sweep tries again, a loop would spin
                self._log.warning("no audio connection can be accepted", why=error.strerror)
                self._deafen()
                return
            self._take_in(connection)

    def _take_in(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
        except OSError:
            connection.close()
            return
        if len(self._guests) >= MOST_GUESTS:
            self._turn_away(next(iter(self._guests.values())), "crowd")
        guest = _Guest(connection, Decoder(), self._now() + self._connect_timeout)
        self._guests[connection.fileno()] = guest
        asyncio.get_running_loop().add_reader(connection.fileno(), self._listen_to, guest)

    def _listen_to(self, guest: _Guest) -> None:
        try:
            data = guest.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._turn_away(guest, "left")
            return
        guest.decoder.receive(data)
        try:
            event = guest.decoder.next_event()
        except RemoteProtocolError as error:
            self._turn_away(guest, "protocol", detail=str(error))
            return
        if isinstance(event, Identified):
            self._identified(guest, event.token)
        elif isinstance(event, HungUp):
            self._turn_away(guest, "left")

    def _identified(self, guest: _Guest, token: bytes) -> None:
        announcement = self._announced.pop(token, None)
        if announcement is None or announcement.until <= self._now():
            self._turn_away(guest, "unannounced")
            return
        self._forget(guest)
        self._figures.connections += 1
        announcement.arrived(Line(guest.connection, guest.decoder, announcement.rate, self._figures))

    def _turn_away(self, guest: _Guest, why: str, **facts: str) -> None:
        self._figures.refusals[why] += 1
        try:
            peer = str(guest.connection.getpeername()[0])
        except OSError:
            peer = ""
        self._log.warning("an audio connection was turned away", why=why, peer=peer, **facts)
        self._show_out(guest)

    def _show_out(self, guest: _Guest) -> None:
        self._forget(guest)
        guest.connection.close()

    def _forget(self, guest: _Guest) -> None:
        asyncio.get_running_loop().remove_reader(guest.connection.fileno())
        del self._guests[guest.connection.fileno()]


def _prepare(listener: socket.socket) -> None:
    """What connections inherit from their listener: frames leave at once, little is buffered, a host that vanished is noticed."""
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(_GONE_AFTER * 1000))
