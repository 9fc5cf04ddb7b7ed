"""What every store does with inventories alike: which kinds of objects there are, an object's id, what an edit makes of them, and the
directory that the dispatch step reads. Pure functions; where the objects live is the stores' own business.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.dispatch.directory import Directory, UnknownTrunks
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, LegacyTrunk, OutboundTrunk
from bridge.store.port import Edit, Inventory, StoredObject


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object. `name` is what stores call it: that of LiveKit's Redis hash where LiveKit has one (semantics §8.1);
    `place` is the field of Inventory that holds it; `id_field` the model's field with its id; `section` where roomline.yaml has it."""

    name: str
    model: type[StoredObject]
    place: str
    id_field: str
    section: str

    def id_of(self, found: StoredObject) -> str:
        return str(getattr(found, self.id_field))

    def of(self, inventory: Inventory) -> Mapping[str, Any]:
        """Its objects by id; their type is `model`."""
        found: Mapping[str, Any] = getattr(inventory, self.place)
        return found


KINDS = (
    Kind("sip_inbound_trunk", InboundTrunk, "inbound_trunks", "sip_trunk_id", "trunks"),
    Kind("sip_outbound_trunk", OutboundTrunk, "outbound_trunks", "sip_trunk_id", "outbound_trunks"),
    Kind("sip_trunk", LegacyTrunk, "legacy_trunks", "sip_trunk_id", "legacy_trunks"),
    Kind("sip_dispatch_rule", DispatchRule, "dispatch_rules", "sip_dispatch_rule_id", "dispatch_rules"),
    Kind("phone_number", PhoneNumber, "phone_numbers", "id", "phone_numbers"),
)

BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}
BY_MODEL: Mapping[type[StoredObject], Kind] = {kind.model: kind for kind in KINDS}


def objects(inventory: Inventory) -> Iterator[tuple[Kind, str, StoredObject]]:
    """Every object with its kind and id."""
    for kind in KINDS:
        for object_id, found in kind.of(inventory).items():
            yield kind, object_id, found


def edited(inventory: Inventory, edit: Edit) -> Inventory:
    """The inventory after the edit; the one given stays as it is. Deletes come first, so that an edit may put what it deletes."""
    changed: dict[str, dict[str, Any]] = {}

    def of(kind: Kind) -> dict[str, Any]:
        if kind.place not in changed:
            changed[kind.place] = dict(kind.of(inventory))
        return changed[kind.place]

    for model, object_id in edit.delete:
        of(BY_MODEL[model]).pop(object_id, None)
    for found in edit.put:
        kind = BY_MODEL[type(found)]
        of(kind)[_checked_id(kind, found)] = found
    return replace(inventory, **changed) if changed else inventory


def _checked_id(kind: Kind, found: StoredObject) -> str:
    object_id = kind.id_of(found)
    if not object_id:
        raise ValueError(f"a {kind.name} without an id cannot be stored")  # our own mistake: whoever made it gives it one
    return object_id


def differences(before: Inventory, after: Inventory) -> Edit:
    """What would make `after` of `before`."""
    put: list[StoredObject] = []
    delete: list[tuple[type[StoredObject], str]] = []
    for kind in KINDS:
        old, new = kind.of(before), kind.of(after)
        if old is new:
            continue
        put += [found for object_id, found in new.items() if (was := old.get(object_id)) is not found and was != found]
        delete += [(kind.model, object_id) for object_id in old if object_id not in new]
    return Edit(tuple(put), tuple(delete))


def inbound_trunks(inventory: Inventory) -> dict[str, InboundTrunk]:
    """With the legacy ones that take calls, as LiveKit reads them: its own kind first (semantics §8.1)."""
    converted = ((trunk_id, trunk.as_inbound()) for trunk_id, trunk in inventory.legacy_trunks.items())
    legacy = {trunk_id: trunk for trunk_id, trunk in converted if trunk is not None}
    return {**legacy, **inventory.inbound_trunks}


def outbound_trunks(inventory: Inventory) -> dict[str, OutboundTrunk]:
    """With the legacy ones that place calls."""
    converted = ((trunk_id, trunk.as_outbound()) for trunk_id, trunk in inventory.legacy_trunks.items())
    legacy = {trunk_id: trunk for trunk_id, trunk in converted if trunk is not None}
    return {**legacy, **inventory.outbound_trunks}


def directory_of(inventory: Inventory, unknown_trunks: UnknownTrunks) -> Directory:
    """What the dispatch step reads."""
    return Directory(
        trunks=tuple(inbound_trunks(inventory).values()),
        rules=tuple(inventory.dispatch_rules.values()),
        phone_numbers=tuple(inventory.phone_numbers.values()),
        unknown_trunks=unknown_trunks,
    )
