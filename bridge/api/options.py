"""What can be set in what others ask us over HTTP. Read with every configuration: nothing that works is loaded here."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DirectoryOptions:
    """Who may ask: a secret, which is the password in the binding's `gateway-credentials` (its user is any), and the FreeSWITCHes'
    addresses or networks."""

    secret: str = field(repr=False)
    peers: tuple[str, ...] = ("127.0.0.0/8", "::1")
