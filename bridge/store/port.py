"""What is kept beyond the process: LiveKit's objects that the operator configured, the records of ended calls, the count of wrong PINs."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bridge.errors import RoomlineError
from bridge.model.ending import EndReason
from bridge.model.phone_number import PhoneNumber
from bridge.model.record import CallRecord
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, LegacyTrunk, OutboundTrunk

StoredObject = InboundTrunk | OutboundTrunk | LegacyTrunk | DispatchRule | PhoneNumber


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every object of a store at one moment, by id. Never changed: a store makes a new one."""

    inbound_trunks: Mapping[str, InboundTrunk] = field(default_factory=dict)
    outbound_trunks: Mapping[str, OutboundTrunk] = field(default_factory=dict)
    legacy_trunks: Mapping[str, LegacyTrunk] = field(default_factory=dict)
    """Of deployments older than the two kinds of trunks; each counts as one or both of them (livekit-sip-semantics.md §1.5)."""
    dispatch_rules: Mapping[str, DispatchRule] = field(default_factory=dict)
    phone_numbers: Mapping[str, PhoneNumber] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to become of an inventory, all of it or nothing. `put` creates or replaces by id; `delete` names a kind and an id each, and
    what is not there is no error."""

    put: tuple[StoredObject, ...] = ()
    delete: tuple[tuple[type[StoredObject], str], ...] = ()


class ObjectStore(Protocol):
    """Where LiveKit's objects live. Everything raises `Unavailable` when the store cannot be reached or written."""

    @property
    def writable(self) -> bool:
        """False for a file, which its owner writes."""

    async def read(self) -> Inventory:
        """As it is now, whoever wrote it."""

    async def change(self, decide: Callable[[Inventory], Edit]) -> Inventory:
        """Have `decide` look at the inventory as it is and say what becomes of it; returns the inventory afterwards. Nobody else's change
        comes in between: a store that finds one asks `decide` again, so it must be a pure function, and may run in another thread. What it
        raises is raised here, and nothing is changed. Returns once the change is durable."""

    def changes(self) -> AsyncIterator[Inventory]:
        """The inventory now, and anew within a second of each change, our own and others'; several at once may be told as one. While the
        store is away there is nothing new."""


class WatchedStore(ObjectStore, Protocol):
    """One of whose state the server can tell."""

    @property
    def trouble(self) -> str:
        """Why what was told last may be old, for people; empty while all is well. Holds no secret."""


class ReadOnlyObject(RoomlineError):  # noqa: N818  (says what it is)
    """This object stands in a place that only its owner writes; the text names it. LiveKit's failed_precondition. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Level:
    """How full a throttle's bucket was, and when (seconds since the epoch)."""

    level: float
    at: float


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records; what is empty asks nothing. `since` and `until` are about the end of the call, `until` is not among them.
    `after_id`: those that come after the record of that call, further back in time."""

    pbx: str = ""
    number: str = ""
    called: str = ""
    trunk_id: str = ""
    rule_id: str = ""
    room: str = ""
    identity: str = ""
    end_reason: EndReason | None = None
    since: float | None = None
    until: float | None = None
    after_id: str = ""


EVERY_RECORD = RecordFilter()


class Journal(Protocol):
    """The records of ended calls."""

    async def keep_record(self, record: CallRecord) -> bool:
        """Keep it for ever. False when a record of that call id is there already: the first one stays."""

    async def keep_open(self, record: CallRecord) -> None:
        """What is known of a call that goes on, in place of what was known before: should nobody see its end, this is left of it. Gone
        with the call's record."""

    async def open_records(self) -> Sequence[CallRecord]:
        """Of calls that have no record yet."""

    async def record(self, call_id: str) -> CallRecord | None:
        """Of that call, once it has ended."""

    async def records(self, limit: int = 100, which: RecordFilter = EVERY_RECORD) -> Sequence[CallRecord]:
        """The newest first. After the id of a call that has no record come none."""


class Airtime(Protocol):
    """How long calls of ours have talked, from their records: it survives a restart."""

    async def talked_out(self, since: float) -> float:
        """Seconds after `since` (since the epoch) that those have talked which have ended."""


class Tries(Protocol):
    """The levels of the wrong-PIN throttle, by key."""

    async def levels(self) -> Mapping[str, Level]: ...

    async def keep_level(self, key: str, level: Level) -> None: ...

    async def forget_levels(self, before: float) -> None:
        """Drop those older than `before`: they have run empty."""
