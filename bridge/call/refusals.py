"""Why a caller was rejected whom the PBX itself did not let in: a record and a log line for them too.

Whoever tries passwords makes as many as they like: of one source and trunk there is one record a minute, with the number of tries since the
last one, and of all together no more than a hundred.
"""

from collections.abc import Callable
from typing import Final

import structlog

from bridge.call.clock import Clock
from bridge.dispatch.trace import Trace
from bridge.errors import Unavailable
from bridge.model.credentials import Refusal
from bridge.model.ending import EndedBy, EndReason
from bridge.model.record import CallRecord
from bridge.pbx.port import Pbx
from bridge.store.port import Journal

log = structlog.get_logger(__name__)

EVERY: Final = 60.0
"""Seconds from one record of a source and trunk to the next."""

MOST: Final = 100
"""Records in that time."""

_Source = tuple[str, str, str]


class Refusals:
    """`run` for each PBX."""

    def __init__(self, journal: Journal, clock: Clock, new_id: Callable[[], str]) -> None:
        self._journal = journal
        self._clock = clock
        self._new_id = new_id
        self._told_at: dict[_Source, float] = {}
        self._tries: dict[_Source, int] = {}

    async def run(self, pbx: Pbx) -> None:
        """Returns only when cancelled."""
        async for refusal in pbx.refusals():
            source = (pbx.name, refusal.trunk_id, refusal.source_address)
            self._forget_old()
            if source not in self._told_at and len(self._told_at) >= MOST:
                continue
            self._tries[source] = self._tries.get(source, 0) + 1
            if source not in self._told_at:
                self._told_at[source] = self._clock.monotonic()
                await self._tell(pbx.name, refusal, self._tries.pop(source))

    def _forget_old(self) -> None:
        now = self._clock.monotonic()
        for source in [source for source, at in self._told_at.items() if now - at >= EVERY]:
            del self._told_at[source]
            if len(self._tries) > MOST:
                self._tries.pop(source, None)

    async def _tell(self, pbx: str, refusal: Refusal, tries: int) -> None:
        """What stands in it is the PBX's word, and what its caller sent: a call id, no more."""
        again = f" ({tries} times since the last record)" if tries > 1 else ""
        summary = f"the PBX did not let the caller in as trunk {refusal.trunk_id}: {refusal.why}{again}"
        now = self._clock.now()
        record = CallRecord(
            call_id=f"SCL_{self._new_id()}",
            pbx=pbx,
            leg_id="",
            sip_call_id=refusal.sip_call_id,
            source_address=refusal.source_address,
            trunk_id=refusal.trunk_id,
            started_at=now,
            ended_at=now,
            end_reason=EndReason.UNAUTHORIZED,
            ended_by=EndedBy.PBX,
            detail=refusal.why,
            sip_status=refusal.sip_status,
            trace={"verdict": Trace(summary).to_json()},
        )
        log.info("call refused", call_id=record.call_id, pbx=pbx, trunk=refusal.trunk_id, source=refusal.source_address, why=summary)
        try:
            await self._journal.keep_record(record)
        except Unavailable as error:
            log.error("a refused call has no record", call_id=record.call_id, error=str(error))
