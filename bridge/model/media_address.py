"""Where a PBX shall send a call's audio, and how it travels."""

import ipaddress
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Stream:
    """The PBX makes one connection, presents the address's token, and frames follow one another."""

    kind: Literal["stream"] = "stream"


@dataclass(frozen=True, slots=True)
class Datagrams:
    """Every frame is a datagram of its own, without a word of whose it is: only those of `peer` (an IP address, or a name of it) are
    believed, and from the first one on only that one's port."""

    peer: str
    kind: Literal["datagrams"] = "datagrams"


Carriage = Stream | Datagrams
"""How a call's audio travels between its PBX and a node."""


@dataclass(frozen=True, slots=True)
class MediaAddress:
    """Good once, within seconds; `token` (a UUID) is its own. `rate` is 8000 or 16000 Hz, 16-bit little-endian mono both ways."""

    host: str
    port: int
    token: str
    rate: int
    carriage: Carriage = Stream()


def is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Loopback counts; every address at once (0.0.0.0) does not."""
    return not address.is_unspecified and (address.is_private or address.is_loopback)
