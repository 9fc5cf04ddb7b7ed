"""What a PBX needs to authenticate callers as a trunk, and what it tells of those whom it turned away."""

from dataclasses import dataclass, field

from bridge.model.trunk import InboundTrunk

REALM = "LiveKit"
"""Of a trunk that names none (livekit-sip-semantics.md §1.1)."""


@dataclass(frozen=True, slots=True)
class TrunkCredentials:
    """User and password of one inbound trunk, and for which calls they are asked: those to its numbers; without any, those from its
    addresses."""

    trunk_id: str
    username: str
    password: str = field(repr=False)
    realm: str = REALM
    numbers: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    @classmethod
    def of(cls, trunk: InboundTrunk) -> "TrunkCredentials":
        """Of one that asks for credentials."""
        realm = trunk.auth_realm or REALM
        return cls(trunk.sip_trunk_id, trunk.auth_username, trunk.auth_password, realm, trunk.numbers, trunk.allowed_addresses)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A caller whom the PBX itself did not let in. `why` is a sentence for people and holds nothing that was sent; `sip_status` is what the
    caller got."""

    trunk_id: str
    source_address: str
    sip_call_id: str
    why: str
    sip_status: int = 401
