"""Which inbound trunk is a caller's? (livekit-sip-semantics.md §2.2)"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bridge.dispatch.addresses import match_masks
from bridge.dispatch.numbers import normalize_number, number_in
from bridge.dispatch.trace import Mismatch
from bridge.model.caller import Caller
from bridge.model.trunk import InboundTrunk


class TrunkMatchType(StrEnum):
    """LiveKit's names."""

    EMPTY = "TrunkMatchEmpty"  # there was nothing to match
    NONE = "TrunkMatchNone"
    DEFAULT = "TrunkMatchDefault"  # the only trunk without numbers
    SPECIFIC = "TrunkMatchSpecific"


@dataclass(frozen=True, slots=True)
class TrunkMatch:
    """The trunk, or None; `default_count` is how many trunks without numbers admitted the caller."""

    type: TrunkMatchType
    trunk: InboundTrunk | None = None
    default_count: int = 0


class TrunkConflict(Exception):  # noqa: N818  (says what it is)
    """More than one trunk takes the call: nothing can be decided (failed_precondition, SIP 503). Names the first two."""

    def __init__(self, trunk_ids: Sequence[str]) -> None:
        super().__init__(f"several trunks match this call: {', '.join(trunk_ids)}")
        self.trunk_ids = tuple(trunk_ids)


def match_trunk(trunks: Iterable[InboundTrunk], caller: Caller) -> TrunkMatch:
    """Raises TrunkConflict. `trunks` in id order."""
    specific: InboundTrunk | None = None
    defaults: list[InboundTrunk] = []
    seen = False
    for trunk in trunks:
        seen = True
        if trunk_mismatch(trunk, caller) is not None:
            continue
        if not trunk.numbers:
            defaults.append(trunk)
        elif specific is not None:
            raise TrunkConflict([specific.sip_trunk_id, trunk.sip_trunk_id])
        else:
            specific = trunk
    if specific is not None:
        return TrunkMatch(TrunkMatchType.SPECIFIC, specific, len(defaults))
    if len(defaults) > 1:
        raise TrunkConflict([trunk.sip_trunk_id for trunk in defaults[:2]])
    if defaults:
        return TrunkMatch(TrunkMatchType.DEFAULT, defaults[0], 1)
    return TrunkMatch(TrunkMatchType.NONE if seen else TrunkMatchType.EMPTY)


def trunk_mismatch(trunk: InboundTrunk, caller: Caller) -> Mismatch | None:
    """Why this trunk does not take this caller; None when it does."""
    if trunk.allowed_numbers and not number_in(caller.number, trunk.allowed_numbers):
        return Mismatch("allowed_numbers", caller.number, trunk.allowed_numbers)
    if not match_masks(caller.source_address, caller.host, trunk.allowed_addresses):
        return Mismatch("allowed_addresses", caller.source_address, trunk.allowed_addresses)
    if trunk.numbers and not number_in(caller.called, trunk.numbers):
        return Mismatch("numbers", caller.called, trunk.numbers)
    return None


def candidates(trunks: Iterable[InboundTrunk], called: str) -> list[InboundTrunk]:
    """Those that LiveKit would look at: without numbers, or with the called one (normalised)."""
    wanted = normalize_number(called)
    return [trunk for trunk in trunks if not trunk.numbers or any(wanted == normalize_number(entry) for entry in trunk.numbers)]
