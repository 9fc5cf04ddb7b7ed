"""Plain stand-ins for everything a story needs, behaving as the ports promise: for our tests and for our users'."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.dispatch.outcome import Accept, Decision, Refuse, Verdict
from bridge.errors import Unavailable
from bridge.model.caller import Caller
from bridge.model.record import CallRecord
from bridge.store.port import EVERY_RECORD, Level, RecordFilter
from bridge.testing.fake_media import FakeNode, FakeSeat, FakeSound
from bridge.testing.fake_pbx import FakeLeg, FakePbx, Sends
from bridge.testing.fake_world import FakeWorld

__all__ = ["FakeDispatcher", "FakeLeg", "FakeNode", "FakePbx", "FakeSeat", "FakeSound", "FakeWorld", "MemoryStore", "Sends"]


@dataclass
class FakeDispatcher:
    """Gives the answers a test put in: `first` before a PIN was asked for, then `by_pin` (empty: `#` alone), else `wrong`."""

    verdict: Verdict
    first: Decision
    by_pin: Mapping[str, Accept] = field(default_factory=dict)
    wrong: Refuse | None = None
    asked: list[str | None] = field(default_factory=list)

    def authorise(self, caller: Caller) -> Verdict:
        del caller
        return self.verdict

    def dispatch(
        self,
        caller: Caller,
        verdict: Verdict,
        *,
        call_id: str,
        room_suffix: Callable[[], str],
        pin: str | None = None,
        no_pin: bool = False,
    ) -> Decision:
        del caller, verdict, call_id, room_suffix
        self.asked.append("" if no_pin else pin)
        if pin is None and not no_pin:
            return self.first
        accepted = self.by_pin.get("" if no_pin else pin or "")
        if accepted is not None:
            return accepted
        if self.wrong is None:
            raise AssertionError("a PIN was judged that this test does not know")
        return self.wrong


@dataclass
class MemoryStore:
    """Journal, Airtime and Tries in memory, with the same promises as the real ones but for surviving us. `broken`: everything fails."""

    kept: dict[str, CallRecord] = field(default_factory=dict)
    open: dict[str, CallRecord] = field(default_factory=dict)
    tries: dict[str, Level] = field(default_factory=dict)
    broken: bool = False

    async def keep_record(self, record: CallRecord) -> bool:
        await self._turn()
        self.open.pop(record.call_id, None)
        if record.call_id in self.kept:
            return False
        self.kept[record.call_id] = record
        return True

    async def keep_open(self, record: CallRecord) -> None:
        await self._turn()
        if record.call_id not in self.kept:
            self.open[record.call_id] = record

    async def open_records(self) -> Sequence[CallRecord]:
        await self._turn()
        return list(self.open.values())

    async def record(self, call_id: str) -> CallRecord | None:
        await self._turn()
        return self.kept.get(call_id)

    async def records(self, limit: int = 100, which: RecordFilter = EVERY_RECORD) -> Sequence[CallRecord]:
        await self._turn()
        newest = sorted(self.kept.values(), key=lambda record: record.ended_at)[::-1]
        if which.after_id:
            places = [place for place, record in enumerate(newest) if record.call_id == which.after_id]
            newest = newest[places[0] + 1 :] if places else []
        return [record for record in newest if _is_asked_for(record, which)][:limit]

    async def talked_out(self, since: float) -> float:
        await self._turn()
        answered = [(record.answered_at, record.ended_at) for record in self.kept.values() if record.outgoing]
        return sum(max(0.0, end - max(begin, since)) for begin, end in answered if begin is not None)

    async def levels(self) -> Mapping[str, Level]:
        await self._turn()
        return dict(self.tries)

    async def keep_level(self, key: str, level: Level) -> None:
        await self._turn()
        self.tries[key] = level

    async def forget_levels(self, before: float) -> None:
        await self._turn()
        self.tries = {key: level for key, level in self.tries.items() if level.at >= before}

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise Unavailable("the store is broken")


def _is_asked_for(record: CallRecord, which: RecordFilter) -> bool:
    fields = ("pbx", "number", "called", "trunk_id", "rule_id", "room", "identity", "end_reason")
    in_time = (which.since is None or record.ended_at >= which.since) and (which.until is None or record.ended_at < which.until)
    return in_time and all(not (wanted := getattr(which, field)) or getattr(record, field) == wanted for field in fields)
