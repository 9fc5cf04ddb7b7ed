"""Filtering lists of objects as LiveKit documents it (livekit-sip-semantics.md §1.10): the helper its SDKs run.

The open-source server's own answers differ (sorted, missing ids left out); that is the API's to do.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, OutboundTrunk

_Item = TypeVar("_Item")


def filter_slice(
    items: Sequence[_Item], ids: Sequence[str], id_of: Callable[[_Item], str], keep: Callable[[_Item], bool]
) -> list[_Item | None]:
    """With ids: the items in the order asked for, None for those that are missing or filtered out. Without: those to keep, in order."""
    if not ids:
        return [item for item in items if keep(item)]
    known = {id_of(item): item for item in items}
    found = [known.get(wanted) for wanted in ids]
    return [item if item is not None and keep(item) else None for item in found]


def filter_inbound(items: Sequence[InboundTrunk], trunk_ids: Sequence[str], numbers: Sequence[str]) -> list[InboundTrunk | None]:
    """Wildcard trunks are kept by every number filter."""
    return filter_slice(items, trunk_ids, lambda item: item.sip_trunk_id, lambda item: _touches(item.numbers, numbers))


def filter_outbound(items: Sequence[OutboundTrunk], trunk_ids: Sequence[str], numbers: Sequence[str]) -> list[OutboundTrunk | None]:
    return filter_slice(items, trunk_ids, lambda item: item.sip_trunk_id, lambda item: _touches(item.numbers, numbers))


def filter_rules(items: Sequence[DispatchRule], rule_ids: Sequence[str], trunk_ids: Sequence[str]) -> list[DispatchRule | None]:
    """Rules for any trunk are kept by every trunk filter."""
    return filter_slice(items, rule_ids, lambda item: item.sip_dispatch_rule_id, lambda item: _touches(item.trunk_ids, trunk_ids))


def _touches(own: Sequence[str], wanted: Sequence[str]) -> bool:
    return not own or not wanted or any(value in wanted for value in own)
