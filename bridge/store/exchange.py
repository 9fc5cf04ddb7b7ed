"""Objects on their way from one place to another: as a file that people read, and as a plan of what an import would do, and why not.

Pure functions: where the objects come from and go to is `cli_objects.py`'s.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import yaml
from pydantic import ValidationError

from bridge.dispatch.conflicts import Conflict, RuleConflicts, TrunkKey, trunk_keys
from bridge.dispatch.numbers import normalize_number
from bridge.errors import ConfigurationError
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, LegacyTrunk, OutboundTrunk
from bridge.model.validation import InvalidObject, check_inbound_trunk, check_legacy_trunk, check_outbound_trunk, check_rule
from bridge.store.inventory import BY_MODEL, KINDS, Kind, edited, inbound_trunks, objects
from bridge.store.port import Edit, Inventory, StoredObject

_PREFIXES: Final[Mapping[str, str]] = {"dispatch_rules": "SDR_", "phone_numbers": "PN_"}


def to_text(inventory: Inventory, *, as_json: bool) -> str:
    """With its passwords and PINs. The sections are roomline.yaml's; `from_data` reads it."""
    data = {
        kind.section: [found.model_dump(mode="json", exclude_defaults=True) for _, found in sorted(kind.of(inventory).items())]
        for kind in KINDS
    }
    filled = {section: items for section, items in data.items() if items}
    return (
        json.dumps(filled, ensure_ascii=False, indent=2) + "\n"
        if as_json
        else yaml.safe_dump(filled, sort_keys=False, allow_unicode=True, width=140)
    )


def from_data(data: Mapping[str, Any], where: str) -> Inventory:
    """What `to_text` wrote, or roomline.yaml's objects; its other keys are left alone. An object without an id gets one by its place, as
    roomline.yaml's do. Raises ConfigurationError that names the place, and nothing of what stands there."""
    put: list[StoredObject] = []
    for kind in KINDS:
        items = [] if (given := data.get(kind.section)) is None else given
        if not isinstance(items, list):
            raise ConfigurationError(f"{where}: {kind.section} must be a list")
        for place, item in enumerate(items):
            by_place = {kind.id_field: f"{_PREFIXES.get(kind.section, 'ST_')}config{place:06}"}
            try:
                put.append(kind.model.model_validate({**by_place, **item} if isinstance(item, dict) else item))
            except ValidationError as error:
                detail = error.errors(include_input=False, include_url=False)[0]
                key = ".".join(map(str, (f"{kind.section}[{place}]", *detail["loc"])))
                raise ConfigurationError(f"{where}: {key}: {detail['msg']}") from None
    return edited(Inventory(), Edit(put=tuple(put)))


class Fate(StrEnum):
    """What an import does with an object."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Line:
    """One object of a plan; `why` where it is skipped."""

    kind: Kind
    id: str
    name: str
    fate: Fate
    why: str = ""

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind.name, "id": self.id, "name": self.name, "fate": self.fate.value, "why": self.why}

    def __str__(self) -> str:
        label = f"{self.id} ({self.name})" if self.name else self.id
        return f"{self.fate.value:8} {self.kind.name} {label}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of each object, and the edit that does it."""

    lines: tuple[Line, ...]
    edit: Edit

    def count(self, fate: Fate) -> int:
        return sum(line.fate is fate for line in self.lines)

    def __str__(self) -> str:
        return ", ".join(f"{self.count(fate)} {fate.value}" for fate in Fate)


def plan(found: Inventory, there: Inventory, read_only: Mapping[tuple[str, str], str]) -> Plan:
    """What an import of `found` into `there` does: what is there and not in `found` stays. `read_only`: where objects stand that cannot be
    written, by the name of their kind and their id. Skipped is what LiveKit refuses, and what would contradict something that is there or
    comes before it."""
    rules, trunks, numbers = _Rules(found, there), _Trunks(found, there), _Numbers(there)
    lines: list[Line] = []
    put: list[StoredObject] = []
    for kind, object_id, each in objects(found):
        name = str(getattr(each, "name", ""))
        before = kind.of(there).get(object_id)
        if before == each:
            lines.append(Line(kind, object_id, name, Fate.SAME))
            continue
        if place := read_only.get((kind.name, object_id)):
            why = f"stands in {place}: change it there"
        else:
            why = _invalid(each) or numbers.objection(each) or rules.objection(each) or trunks.objection(each)
        if why:
            lines.append(Line(kind, object_id, name, Fate.SKIPPED, why))
            continue
        lines.append(Line(kind, object_id, name, Fate.NEW if before is None else Fate.CHANGED))
        put.append(each)
        numbers.passed(each, before)
    return Plan(tuple(lines), Edit(put=tuple(put)))


def _invalid(found: StoredObject) -> str:
    try:
        match found:
            case InboundTrunk():
                check_inbound_trunk(found)
            case OutboundTrunk():
                check_outbound_trunk(found)
            case LegacyTrunk():
                check_legacy_trunk(found)
            case DispatchRule():
                check_rule(found)
    except InvalidObject as error:
        return str(error)
    return ""


def _staying(found: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[Any]:
    """What an import leaves as it is."""
    return (each for object_id, each in there.items() if object_id not in found or found[object_id] == each)


class _Rules:
    """Rules that contradict one another break every call that sees them."""

    def __init__(self, found: Inventory, there: Inventory) -> None:
        self._conflicts = RuleConflicts()
        for rule in _staying(found.dispatch_rules, there.dispatch_rules):
            self.objection(rule)  # what contradicts there already is not this import's

    def objection(self, found: StoredObject) -> str:
        if isinstance(found, DispatchRule):
            try:
                self._conflicts.add(found)
            except Conflict as conflict:
                return str(conflict)
        return ""


class _Trunks:
    """Two trunks that take the same calls break these."""

    def __init__(self, found: Inventory, there: Inventory) -> None:
        self._taken: dict[TrunkKey, str] = {}
        for trunk in _staying(found.inbound_trunks, there.inbound_trunks):
            self.objection(trunk)

    def objection(self, found: StoredObject) -> str:
        if isinstance(found, InboundTrunk):
            keys = set(trunk_keys(found))
            other = next((self._taken[key] for key in keys if key in self._taken), "")
            if other:
                return f"takes the same calls as {other}"
            self._taken.update(dict.fromkeys(keys, found.sip_trunk_id))
        return ""


class _Numbers:
    """A number of one's own takes its calls past the trunks: a trunk with it would lose its password. What is there counts until something
    better has passed, since that may yet be skipped."""

    def __init__(self, there: Inventory) -> None:
        self._of_trunks: dict[str, set[str]] = {}
        self._own: dict[str, set[str]] = {}
        for trunk in inbound_trunks(there).values():
            self._note(trunk)
        for number in there.phone_numbers.values():
            self._note(number)

    def objection(self, found: StoredObject) -> str:
        if isinstance(found, PhoneNumber):
            for normal in _numbers_of(found):
                if others := self._of_trunks.get(normal):
                    return f"{found.e164_format} is also a number of trunk {min(others)}"
                if others := self._own.get(normal, set()) - {found.id}:
                    return f"{found.e164_format} is {min(others)} already"
        else:
            for normal in _numbers_of(found):
                if others := self._own.get(normal):
                    return f"{normal} is also the phone number {min(others)}, calls to which need no trunk"
        return ""

    def passed(self, found: StoredObject, before: StoredObject | None) -> None:
        """It is what counts, in place of what was there."""
        if before is not None:
            for normal in _numbers_of(before):
                self._place(before)[normal].discard(_id_of(before))
        self._note(found)

    def _note(self, found: StoredObject) -> None:
        for normal in _numbers_of(found):
            self._place(found).setdefault(normal, set()).add(_id_of(found))

    def _place(self, found: StoredObject) -> dict[str, set[str]]:
        return self._own if isinstance(found, PhoneNumber) else self._of_trunks


def _numbers_of(found: StoredObject) -> set[str]:
    """Calls to which it takes."""
    match found:
        case PhoneNumber():
            return {normalize_number(found.e164_format)} if found.takes_calls else set()
        case InboundTrunk():
            return set(map(normalize_number, found.numbers))
        case LegacyTrunk() if (trunk := found.as_inbound()) is not None:
            return set(map(normalize_number, trunk.numbers))
    return set()


def _id_of(found: StoredObject) -> str:
    return BY_MODEL[type(found)].id_of(found)
