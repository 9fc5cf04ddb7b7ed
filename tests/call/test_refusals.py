"""A record for callers whom the PBX did not let in, and not one for each of a thousand tries."""

import asyncio

from bridge.call.refusals import EVERY, MOST, Refusals
from bridge.errors import Unavailable
from bridge.model.credentials import Refusal
from bridge.model.ending import EndedBy, EndReason
from bridge.model.record import CallRecord
from bridge.testing.fake_pbx import FakePbx
from bridge.testing.fake_world import FakeWorld
from bridge.testing.fakes import MemoryStore


class Clock:
    """A test's own."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return 1_800_000_000.0 + self.at

    def monotonic(self) -> float:
        return self.at


class Stage:
    """A PBX that turns callers away, and what is kept of it."""

    def __init__(self, journal: MemoryStore | None = None) -> None:
        self.journal = journal or MemoryStore()
        self.clock = Clock()
        self.pbx = FakePbx(FakeWorld())
        self._ids = iter(range(10_000))
        self.refusals = Refusals(self.journal, self.clock, lambda: str(next(self._ids)))
        self.running = asyncio.create_task(self.refusals.run(self.pbx))

    async def refuse(self, source: str = "192.0.2.7", trunk: str = "ST_a", call_id: str = "call-1") -> None:
        self.pbx.refuse(Refusal(trunk, source, call_id, "the caller gave no credentials"))
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)

    async def records(self) -> list[CallRecord]:
        return list(await self.journal.records(10_000))

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


async def test_given_a_caller_who_was_not_let_in_then_there_is_a_record_that_says_why() -> None:
    stage = Stage()
    await stage.refuse()
    (record,) = await stage.records()
    assert (record.end_reason, record.ended_by, record.sip_status) == (EndReason.UNAUTHORIZED, EndedBy.PBX, 401)
    assert (record.pbx, record.trunk_id, record.source_address, record.sip_call_id) == ("fake", "ST_a", "192.0.2.7", "call-1")
    assert record.trace["verdict"]["summary"] == "the PBX did not let the caller in as trunk ST_a: the caller gave no credentials"
    await stage.end()


async def test_given_a_thousand_tries_then_a_record_a_minute_that_counts_them() -> None:
    stage = Stage()
    for _ in range(1000):
        await stage.refuse()
    await stage.refuse(trunk="ST_b")
    assert len(await stage.records()) == 2
    stage.clock.at += EVERY
    await stage.refuse()
    assert "(1000 times since the last record)" in (await stage.records())[0].trace["verdict"]["summary"]
    await stage.end()


async def test_given_tries_from_everywhere_then_the_disk_is_not_filled() -> None:
    stage = Stage()
    for number in range(3 * MOST):
        await stage.refuse(source=f"192.0.2.{number}")
    assert len(await stage.records()) == MOST
    stage.clock.at += EVERY
    await stage.refuse(source="198.51.100.1")
    assert len(await stage.records()) == MOST + 1
    await stage.end()


class FullDisk(MemoryStore):
    """Cannot be written."""

    async def keep_record(self, record: CallRecord) -> bool:
        raise Unavailable("the disk is full")


async def test_given_a_store_that_fails_then_it_goes_on() -> None:
    stage = Stage(FullDisk())
    await stage.refuse()
    await stage.refuse(source="198.51.100.1")
    assert not stage.running.done()
    await stage.end()
