"""Who is at the other end of a Unix socket, as the kernel says."""

import asyncio
import socket
import struct
from dataclasses import dataclass

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, or that listened for us, and its user."""

    pid: int
    user: int


def peer_of(writer: asyncio.StreamWriter) -> Peer | None:
    """None elsewhere than on Linux."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    peer = writer.get_extra_info("socket")
    pid, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, user)
