"""Audio as FreeSWITCH's `unicast` carries it: raw 16-bit samples over UDP, every datagram exactly one frame, no header and no end.

FreeSWITCH sends one every frame, always, also while the caller is silent, and plays what it gets at that pace with no way to take
anything back. So the node's beat goes on moving the samples, and a datagram that came is what allows one to go out: never is anything
sent ahead, however the two clocks differ. Who sent a datagram is all that can be known of it; hence no public address, one socket to a
call, and one peer. The adapter asks for 20 ms at the call's rate; what comes instead is converted (`packing.py`).
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from bridge.errors import ConfigurationError, Unavailable
from bridge.media.figures import QUEUE_FRAMES, Figures
from bridge.media.frames import FRAME_SECONDS, bytes_per_frame
from bridge.media.line import LineEnded
from bridge.media.packing import SIZES, Packing, likely_rate, nearest_rate
from bridge.media.sparse_log import SparseLog
from bridge.media.waiting_frames import WaitingFrames
from bridge.model.media_address import Datagrams, MediaAddress, is_private

MOST_OWED: Final = QUEUE_FRAMES
"""Datagrams that came and were not yet answered by one of ours. Above that they are forgotten: no burst makes up for them."""

IN_HAND: Final = 2
"""Datagrams that come before a line is there, and that are owed an answer from then on: 40 ms by which one may be late for its beat and
takes no frame out of what the caller hears. Without them each call lost 20 ms in the middle of its prompt (measured on a busy machine)."""

SILENT_BEATS: Final = 100
"""Beats without a datagram after which the connection is taken for broken: 2 s. Beats and not time, so that a stall of ours is no loss."""

PROVEN_QUIET: Final = 0.065
"""Seconds that a fresh socket has to be silent before its address is told: a call whose node has died is still sent somewhere, one
datagram every 60 ms at least, and the kernel may give that very port to another call."""

TIMED_FOR: Final = 0.3
"""Seconds over which the first datagrams are timed, until two times in a row say the same: 640 bytes are 20 ms of wideband or 40 of a
narrow one."""

_LARGEST = max(SIZES) + 1
_MOST_PER_BEAT = 64
_MOST_QUEUED = 4096  # datagrams that a socket's buffer can hold


class UnicastLine:
    """Audio to and from one call, with the face of `Line`. After any error it is of no more use, but for `hang_up`."""

    __slots__ = (
        "_direct_size",
        "_figures",
        "_filler",
        "_now",
        "_owed",
        "_packing",
        "_rate",
        "_silent_beats",
        "_size",
        "_socket",
        "_timed_bytes",
        "_timed_rate",
        "_timed_since",
        "_waiting",
    )

    def __init__(self, connected: socket.socket, first: bytes, rate: int, figures: Figures, now: Callable[[], float]) -> None:
        """`connected` is non-blocking and becomes ours; only the peer's datagrams may still come to it. `first` is the first that counts:
        `IN_HAND` others came before it."""
        self._socket = connected
        self._rate = rate
        self._figures = figures
        self._now = now
        self._direct_size = bytes_per_frame(rate)
        self._size = 0
        self._filler = b""
        self._packing: Packing | None = None
        self._waiting = WaitingFrames(figures)
        self._owed = IN_HAND
        self._silent_beats = 0
        self._timed_since: float | None = None
        self._timed_bytes = 0
        self._timed_rate = 0
        self._came(first)

    def receive(self) -> bytes | None:
        """The caller's next 20 ms, None when there is nothing. Raises `LineEnded`."""
        came = False
        try:
            for _ in range(_MOST_PER_BEAT):
                came |= self._came(self._socket.recv(_LARGEST))
        except BlockingIOError:
            pass
        except OSError as error:
            raise LineEnded(f"the PBX takes no audio any more: {error.strerror}") from error
        if came:
            self._silent_beats = 0
            if self._timed_since is not None:
                self._time(self._timed_since)
        else:
            self._silent_beats += 1
            if self._silent_beats >= SILENT_BEATS:
                raise LineEnded(f"no audio from the PBX for {SILENT_BEATS * FRAME_SECONDS:g} s")
        return self._waiting.take()

    def send(self, frame: bytes) -> None:
        """Give the PBX 20 ms if it has given us as much, else it is left out and counted. Raises `LineEnded`."""
        if self._packing is None:
            if self._owed:
                self._give(frame)
            else:
                self._figures.frames_unsent += 1
            return
        if not self._packing.pack(frame):
            self._figures.frames_unsent += 1
        while self._owed and (piece := self._packing.next_piece()) is not None:
            self._give(piece)

    def hang_up(self) -> None:
        """Close. Idempotent. There is no word for an end here; an empty datagram would be taken for one, and for good."""
        self._socket.close()

    def _give(self, datagram: bytes) -> None:
        self._owed -= 1
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            self._figures.frames_unsent += 1
        except OSError as error:
            raise LineEnded(f"the PBX takes no audio any more: {error.strerror}") from error

    def _came(self, datagram: bytes) -> bool:
        """Whether it is audio, or what FreeSWITCH sends while the caller sends none."""
        if len(datagram) != self._size:
            if len(datagram) not in SIZES:
                self._figures.refusals["size"] += 1
                return False
            self._begin(len(datagram))
        self._owed = min(self._owed + 1, MOST_OWED)
        if self._timed_since is not None:
            self._timed_bytes += len(datagram)
        if datagram == self._filler:
            return True
        if self._packing is None:
            self._waiting.put(datagram)
        else:
            for frame in self._packing.unpack(datagram):
                self._waiting.put(frame)
        return True

    def _begin(self, size: int) -> None:
        self._size = size
        self._filler = b"\xff" * size
        self._timed_since, self._timed_bytes, self._timed_rate = self._now(), -size, 0
        self._runs_at(likely_rate(size, self._rate))

    def _runs_at(self, pieces_rate: int) -> None:
        if (self._size, pieces_rate) == (self._direct_size, self._rate):
            self._packing = None
        else:
            self._packing = Packing(self._size, pieces_rate, self._rate)
        spare = self._packing.frames_per_piece - 1 if self._packing is not None else 0
        self._waiting.room = QUEUE_FRAMES + spare

    def _time(self, since: float) -> None:
        """By the pace of what comes, the first datagram aside."""
        took = self._now() - since
        if took < TIMED_FOR:
            return
        before, self._timed_rate = self._timed_rate, nearest_rate(self._timed_bytes / took, self._size)
        self._timed_since, self._timed_bytes = self._now(), 0
        if self._timed_rate == before:
            self._timed_since = None
            if before != likely_rate(self._size, self._rate):
                self._runs_at(before)


Arrived = Callable[[UnicastLine], None]


@dataclass(eq=False, slots=True)
class _Announcement:
    socket: socket.socket
    believed: frozenset[str]
    rate: int
    until: float
    arrived: Arrived
    peer: tuple[str, int] | None = None
    """Who has begun to send."""
    in_hand: int = 0


class UnicastReception:
    """Sockets that wait for a call's first datagrams, one to a call. `sweep` is called from the beat, `close` at the end."""

    def __init__(self, host: str, *, connect_timeout: float = 5.0, figures: Figures, now: Callable[[], float] = time.monotonic) -> None:
        """`host`: what PBXs are told, and what is bound."""
        self._host = host
        self._connect_timeout = connect_timeout
        self._figures = figures
        self._now = now
        self._announced: dict[int, _Announcement] = {}
        self._closed = False
        self._log = SparseLog(now=now)

    async def announce(self, rate: int, carriage: Datagrams, arrived: Arrived) -> MediaAddress:
        """A fresh address, good for one peer and as long as the connect timeout. `arrived` is given the line. Raises
        `ConfigurationError` for a host of ours that strangers could reach, `Unavailable` where there is no socket to be had."""
        host = await private_address(self._host)
        believed = frozenset(await _addresses(carriage.peer))
        waiting = await self._quiet_socket(host)
        announcement = _Announcement(waiting, believed, rate, self._now() + self._connect_timeout, arrived)
        self._announced[waiting.fileno()] = announcement
        asyncio.get_running_loop().add_reader(waiting.fileno(), self._listen_to, announcement)
        return MediaAddress(host, waiting.getsockname()[1], str(uuid4()), rate, carriage)

    def withdraw(self, arrived: Arrived) -> None:
        """Whatever was announced for this one is void."""
        for announcement in [each for each in self._announced.values() if each.arrived == arrived]:
            self._forget(announcement).close()

    def sweep(self) -> None:
        """Forget what is out of date."""
        now = self._now()
        for announcement in [each for each in self._announced.values() if each.until <= now]:
            self._forget(announcement).close()

    def close(self) -> None:
        """Nothing is waited for any more. Idempotent."""
        self._closed = True
        for announcement in list(self._announced.values()):
            self._forget(announcement).close()

    async def _quiet_socket(self, host: str) -> socket.socket:
        """Several tries: strays are few, and the ports many."""
        for _ in range(3):
            fresh = _bound(host)
            try:
                await asyncio.sleep(PROVEN_QUIET)
                if self._closed:
                    raise Unavailable("the media node stops")
                if _is_quiet(fresh):
                    return fresh
            except BaseException:
                fresh.close()
                raise
            fresh.close()
            self._figures.refusals["stray"] += 1
            self._log.warning("audio of another call came to a fresh port; another one is taken")
        raise Unavailable("stray audio comes to every port that is tried")

    def _listen_to(self, announcement: _Announcement) -> None:
        for _ in range(_MOST_PER_BEAT):
            try:
                datagram, sender = announcement.socket.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                self._log.warning("a socket that waited for audio broke", why=error.strerror)
                self._forget(announcement).close()
                return
            if sender[0] not in announcement.believed:
                self._turn_away("stranger", sender[0])
            elif len(datagram) not in SIZES:
                self._turn_away("size", sender[0])
            elif announcement.peer not in (None, sender):
                self._turn_away("stranger", sender[0])
            elif announcement.in_hand < IN_HAND:
                announcement.peer = sender
                announcement.in_hand += 1
            else:
                self._let_in(announcement, datagram, sender)
                return

    def _let_in(self, announcement: _Announcement, first: bytes, sender: tuple[str, int]) -> None:
        connected = self._forget(announcement)
        try:
            connected.connect(sender)
            _drain(connected)
        except OSError as error:
            self._log.warning("audio came from where none can be sent to", peer=sender[0], why=error.strerror)
            connected.close()
            return
        self._figures.connections += 1
        announcement.arrived(UnicastLine(connected, first, announcement.rate, self._figures, self._now))

    def _turn_away(self, why: str, peer: str) -> None:
        self._figures.refusals[why] += 1
        self._log.warning("a datagram was turned away", why=why, peer=peer)

    def _forget(self, announcement: _Announcement) -> socket.socket:
        del self._announced[announcement.socket.fileno()]
        asyncio.get_running_loop().remove_reader(announcement.socket.fileno())
        return announcement.socket


async def private_address(host: str) -> str:
    """The IP address of a host of ours to which no stranger can send. Raises `ConfigurationError` for another, `Unavailable` where the name
    is not known now."""
    address = (await _addresses(host))[0]
    if not is_private(ipaddress.ip_address(address)):
        raise ConfigurationError(
            f"media.listen: audio as datagrams is anybody's who can reach {address}: give a loopback or a private address here, "
            "or in media.public_host"
        )
    return address


async def _addresses(host: str) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise Unavailable(f"{host} has no address: {error.strerror}") from error
    return [str(each[4][0]) for each in found]


def _bound(host: str) -> socket.socket:
    fresh = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        fresh.setblocking(False)
        fresh.bind((host, 0))
    except OSError as error:
        fresh.close()
        raise Unavailable(f"media.listen: no socket for audio can be had on {host}: {error.strerror}") from error
    return fresh


def _is_quiet(fresh: socket.socket) -> bool:
    try:
        fresh.recvfrom(_LARGEST)
    except BlockingIOError:
        return True
    return False


def _drain(connected: socket.socket) -> None:
    """What others sent before the kernel kept them out."""
    for _ in range(_MOST_QUEUED):
        try:
            connected.recv(_LARGEST)
        except BlockingIOError:
            return
