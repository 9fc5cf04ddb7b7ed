"""What a FreeSWITCH is reached by. Data alone, so that whoever reads the configuration loads nothing that talks to one."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WireOptions:
    """Where the event socket is and what lets us in. Seconds."""

    host: str
    port: int
    password: str = field(repr=False)
    connect_timeout: float = 5.0
    command_timeout: float = 5.0
    ping_interval: float = 2.0
    ping_timeout: float = 3.0
    shortest_wait: float = 0.1
    longest_wait: float = 5.0
    events_kept: int = 20_000


@dataclass(frozen=True, slots=True)
class FreeSwitchOptions:
    """One FreeSWITCH. `media_lease` in seconds is how long a call whose sound nobody renews stays with the node, where its story says
    nothing else; `media_host` is the PBX's own address for audio; `trusted_users` says which user of its directory stands for which
    trunk."""

    name: str
    host: str = "127.0.0.1"
    port: int = 8021
    password: str = field(default="", repr=False)
    media_host: str = "127.0.0.1"
    trusted_users: Mapping[str, str] = field(default_factory=dict)
    outbound_gateways: Mapping[str, str] = field(default_factory=dict)
    """By trunk: the sofia gateway by which its calls go out."""
    has_directory: bool = True
    """Whether our API answers what it asks of callers with a password; else nobody gets in by a trunk that has one."""
    media_lease: int = 10
    command_timeout: float = 5.0
    ping_interval: float = 2.0
    ping_timeout: float = 3.0
    beat: float = 1.0

    def wire(self) -> WireOptions:
        return WireOptions(
            host=self.host,
            port=self.port,
            password=self.password,
            command_timeout=self.command_timeout,
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
        )
