"""What an Asterisk is reached by. Data alone, so that whoever reads the configuration loads nothing that talks to one."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WireOptions:
    """Where the AMI is and who we are. Seconds."""

    host: str
    port: int
    user: str
    secret: str = field(repr=False)
    connect_timeout: float = 5.0
    action_timeout: float = 5.0
    ping_interval: float = 2.0
    ping_timeout: float = 3.0
    shortest_wait: float = 0.1
    longest_wait: float = 5.0
    events_kept: int = 20_000


@dataclass(frozen=True, slots=True)
class AriOptions:
    """Where ARI is and who we are; `endpoint` are attributes of the endpoints that are made, over our own."""

    url: str
    user: str
    secret: str = field(repr=False)
    endpoint: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AsteriskOptions:
    """One Asterisk. `media_lease` in seconds is how long a call whose sound nobody renews stays with the node, where its story says
    nothing else; `trusted_endpoints` says which PJSIP endpoint stands for which trunk."""

    name: str
    host: str = "127.0.0.1"
    port: int = 5038
    user: str = "roomline"
    secret: str = field(default="", repr=False)
    trusted_endpoints: Mapping[str, str] = field(default_factory=dict)
    outbound_endpoints: Mapping[str, str] = field(default_factory=dict)
    """By trunk: the PJSIP endpoint by which its calls go out."""
    ari: AriOptions | None = None
    """Without it no trunk's credentials are asked for."""
    media_lease: int = 10
    action_timeout: float = 5.0
    ping_interval: float = 2.0
    ping_timeout: float = 3.0

    def wire(self) -> WireOptions:
        return WireOptions(
            host=self.host,
            port=self.port,
            user=self.user,
            secret=self.secret,
            action_timeout=self.action_timeout,
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
        )
