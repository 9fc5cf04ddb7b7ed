"""Inbound trunks, compiled: the first two that take a call, and those that nearly do, without looking at the others.

A trunk is found by its called numbers, then by its calling numbers, then by the source; each is a look-up, however long the lists are.
Only the first two trunks are kept anywhere: two are a contradiction, and a third would not change it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bridge.dispatch.addresses import Address, AddressKey, address_key, key_of, parse_mask, valid_masks
from bridge.dispatch.numbers import normalize_number
from bridge.dispatch.trace import Mismatch
from bridge.model.caller import Caller
from bridge.model.trunk import InboundTrunk

FEW = 2

_Value = TypeVar("_Value")


@dataclass(slots=True, eq=False)
class Source:
    """Where a call comes from, read once. `address` is None for what is no address: every trunk admits that (§2.2 step 2)."""

    address: AddressKey | None
    host: str


@dataclass(slots=True, eq=False)
class TrunkEntry:
    """A trunk and its place in the order of all; its numbers normalised."""

    position: int
    trunk: InboundTrunk
    numbers: frozenset[str]
    callers: frozenset[str]
    admission: "Admission | None" = None
    """Its own; None admits everyone."""

    @classmethod
    def of(cls, position: int, trunk: InboundTrunk) -> "TrunkEntry":
        numbers = frozenset(map(normalize_number, trunk.numbers))
        return cls(position, trunk, numbers, frozenset(map(normalize_number, trunk.allowed_numbers)))


class Admission:
    """The sources that some trunks admit."""

    __slots__ = ("_addresses", "_everyone", "_first", "_networks", "_texts")

    def __init__(self, entries: Sequence[TrunkEntry]) -> None:
        self._first = tuple(entries[:FEW])
        self._everyone: tuple[TrunkEntry, ...] = ()
        self._texts: dict[str, tuple[TrunkEntry, ...]] = {}
        self._addresses: dict[AddressKey, tuple[TrunkEntry, ...]] = {}
        self._networks: dict[tuple[int, int], dict[int, tuple[TrunkEntry, ...]]] = {}
        for entry in entries:
            masks = tuple(valid_masks(entry.trunk.allowed_addresses))
            if not masks:
                self._everyone = _kept(self._everyone, entry)
            for mask in masks:
                self._admit(mask, entry)

    def _admit(self, mask: str, entry: TrunkEntry) -> None:
        self._texts[mask] = _kept(self._texts.get(mask, ()), entry)
        parsed = parse_mask(mask)
        if parsed is None:
            return
        if isinstance(parsed, Address):
            key = key_of(parsed)
            self._addresses[key] = _kept(self._addresses.get(key, ()), entry)
            return
        host_bits = parsed.max_prefixlen - parsed.prefixlen
        networks = self._networks.setdefault((parsed.version, host_bits), {})
        prefix = int(parsed.network_address) >> host_bits
        networks[prefix] = _kept(networks.get(prefix, ()), entry)

    def first_two(self, source: Source) -> tuple[TrunkEntry, ...]:
        """In the order of all trunks."""
        address = source.address
        if address is None or not self._texts:
            return self._first if address is None else self._everyone
        found = (*self._everyone, *self._texts.get(source.host, ()), *self._addresses.get(address, ()))
        version, value, zone = address
        if self._networks and not zone:
            for (of_version, host_bits), networks in self._networks.items():
                if of_version == version:
                    found += networks.get(value >> host_bits, ())
        return found if len(found) <= 1 else first_of(found)


class Group:
    """The trunks of one called number, or those for any."""

    __slots__ = ("_any_caller", "_by_caller", "_open", "first")

    def __init__(self, entries: Sequence[TrunkEntry], admission: Callable[[Sequence[TrunkEntry]], Admission]) -> None:
        self.first = tuple(entries[:FEW])
        self._open = not any(entry.callers or any(valid_masks(entry.trunk.allowed_addresses)) for entry in entries)
        self._any_caller = admission([entry for entry in entries if not entry.callers])
        by_caller: dict[str, list[TrunkEntry]] = {}
        for entry in entries:
            for caller in entry.callers:
                by_caller.setdefault(caller, []).append(entry)
        self._by_caller = {caller: admission(of_caller) for caller, of_caller in by_caller.items()}

    def first_two(self, caller: str, source: Source) -> tuple[TrunkEntry, ...]:
        if self._open:
            return self.first
        found = self._any_caller.first_two(source)
        of_caller = self._by_caller.get(caller)
        if of_caller is None:
            return found
        also = of_caller.first_two(source)
        return first_of((*found, *also)) if found else also


@dataclass(slots=True, eq=False)
class TrunkAnswer:
    """The trunks that take the call, at most two: those that name the called number, else those without numbers. And the call as read, to
    say later why others do not."""

    found: tuple[TrunkEntry, ...]
    by_number: bool
    group: Group | None
    called: str
    number: str
    source: Source


class TrunkIndex:
    """Immutable. `trunks` in id order."""

    def __init__(self, trunks: Sequence[InboundTrunk]) -> None:
        entries = [TrunkEntry.of(position, trunk) for position, trunk in enumerate(trunks)]
        by_number: dict[str, list[TrunkEntry]] = {}
        for entry in entries:
            for number in entry.numbers:
                by_number.setdefault(number, []).append(entry)
        admission = _shared(Admission)
        group = _shared(lambda of_number: Group(of_number, admission))
        self._by_number = {number: group(of_number) for number, of_number in by_number.items()}
        self._any_number = group([entry for entry in entries if not entry.numbers])
        masked = [entry for entry in entries if any(valid_masks(entry.trunk.allowed_addresses))]
        for entry in masked:
            entry.admission = admission([entry])
        # Whose addresses a call comes from tells most of a call that no trunk takes.
        self._of_source = admission(masked)

    def find(self, caller: Caller, called: str) -> TrunkAnswer:
        """`called` normalised."""
        source = Source(address_key(caller.source_address), caller.host)
        number, group = normalize_number(caller.number), self._by_number.get(called)
        found = group.first_two(number, source) if group is not None else ()
        if found:
            return TrunkAnswer(found, True, group, called, number, source)
        return TrunkAnswer(self._any_number.first_two(number, source), False, group, called, number, source)

    def near(self, answer: TrunkAnswer) -> Iterator[TrunkEntry]:
        """The nearest first, some perhaps twice: of the called number; where none of those took the call, for any number; of the source."""
        if answer.group is not None:
            yield from answer.group.first
        if answer.by_number:
            return
        yield from self._any_number.first
        if not answer.found and answer.source.address is not None:
            yield from self._of_source.first_two(answer.source)

    def mismatch(self, entry: TrunkEntry, answer: TrunkAnswer, caller: Caller) -> Mismatch | None:
        """`trunks.trunk_mismatch`, without looking through the lists."""
        trunk = entry.trunk
        if entry.callers and answer.number not in entry.callers:
            return Mismatch("allowed_numbers", caller.number, trunk.allowed_numbers)
        if entry.admission is not None and not entry.admission.first_two(answer.source):
            return Mismatch("allowed_addresses", caller.source_address, trunk.allowed_addresses)
        if entry.numbers and answer.called not in entry.numbers:
            return Mismatch("numbers", caller.called, trunk.numbers)
        return None


def first_of(entries: Sequence[TrunkEntry]) -> tuple[TrunkEntry, ...]:
    """The first two, each once."""
    by_position = {entry.position: entry for entry in entries}
    return tuple(by_position[position] for position in sorted(by_position)[:FEW])


def _kept(entries: tuple[TrunkEntry, ...], entry: TrunkEntry) -> tuple[TrunkEntry, ...]:
    return entries if len(entries) == FEW or entry in entries else (*entries, entry)


def _shared(make: Callable[[Sequence[TrunkEntry]], _Value]) -> Callable[[Sequence[TrunkEntry]], _Value]:
    """Numbers that lead to the same trunks share what was made of them, so that long lists cost no more than their length."""
    made: dict[tuple[int, ...], _Value] = {}

    def of(entries: Sequence[TrunkEntry]) -> _Value:
        key = tuple(entry.position for entry in entries)
        if key not in made:
            made[key] = make(entries)
        return made[key]

    return of
