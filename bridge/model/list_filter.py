"""Filtering lists of objects as LiveKit documents it (livekit-sip-semantics.md §1.10): the helper its SDKs run.

The open-source server's own answers differ (sorted, missing ids left out); that is the API's to do.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from bridge.model.numbers import normalize_number
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, OutboundTrunk

_Item = TypeVar("_Item")


def filter_slice(
    items: Sequence[_Item | None], ids: Sequence[str], id_of: Callable[[_Item], str], keep: Callable[[_Item], bool]
) -> list[_Item | None]:
    """The items to keep, in order. With ids: in the order asked for, None for each that is missing."""
    if ids:
        known: dict[str, _Item] = {}
        for item in items:
            if item is not None:
                known.setdefault(id_of(item), item)
        items = [known.get(wanted) for wanted in ids]
    return [item for item in items if item is None or keep(item)]


def filter_inbound(items: Sequence[InboundTrunk | None], trunk_ids: Sequence[str], numbers: Sequence[str]) -> list[InboundTrunk | None]:
    """Wildcard trunks are kept by every number filter; numbers are compared normalised."""
    wanted = [normalize_number(number) for number in numbers]
    return filter_slice(
        items,
        trunk_ids,
        lambda item: item.sip_trunk_id,
        lambda item: _touches([normalize_number(number) for number in item.numbers], wanted),
    )


def filter_outbound(items: Sequence[OutboundTrunk | None], trunk_ids: Sequence[str], numbers: Sequence[str]) -> list[OutboundTrunk | None]:
    """Numbers are compared to the letter."""
    return filter_slice(items, trunk_ids, lambda item: item.sip_trunk_id, lambda item: _touches(item.numbers, numbers))


def filter_rules(items: Sequence[DispatchRule | None], rule_ids: Sequence[str], trunk_ids: Sequence[str]) -> list[DispatchRule | None]:
    """Rules for any trunk are kept by every trunk filter."""
    return filter_slice(items, rule_ids, lambda item: item.sip_dispatch_rule_id, lambda item: _touches(item.trunk_ids, trunk_ids))


def _touches(own: Sequence[str], wanted: Sequence[str]) -> bool:
    return not own or not wanted or any(value in wanted for value in own)
