"""What can be set in a node. Read with every configuration: nothing that works is loaded here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Where and how much. Times in seconds."""

    host: str = "127.0.0.1"
    port: int = 9092
    """0: any free one."""
    public_host: str = ""
    """What the PBX is told to connect to, where that is not `host` (listening on 0.0.0.0, say)."""
    max_calls: int = 200
    connect_timeout: float = 5.0
    """How long an invitation stands, and how long a connection may stay silent about who it is."""
    recycle_after: int | None = None
    """Calls after which it is worn (`NodeLoad`). None: never."""
    seat_grace: float | None = None
    """After this long without the PBX a sound gives up its seat, while nobody decides for it (`InProcessNode.unattended`). None: never."""
