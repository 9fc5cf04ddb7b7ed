"""The end of a call: leave the room, free the PBX, write the one record. Every step is taken, whatever became of the others."""

import asyncio
import contextlib
from collections.abc import Awaitable

import structlog

from bridge.call import attributes
from bridge.call.commands import connect
from bridge.call.live import Call
from bridge.call.options import StoryOptions
from bridge.call.over import CallOver
from bridge.call.waiting import first_of
from bridge.call.world import Surroundings
from bridge.dispatch.trace import Trace
from bridge.errors import LegGone, Superseded, Unavailable
from bridge.media.port import Clip
from bridge.model.ending import EndReason
from bridge.model.record import CallRecord

log = structlog.get_logger(__name__)

FREEING_TIMEOUT = 15.0
"""Seconds for which the PBX is told again that a call is over; by then its own lease has seen to it."""

KEEPING_TIMEOUT = 5.0
"""Seconds that the store has to take a record, before the log gets it."""

FREEING_PAUSE = 0.5
"""Seconds between two tries."""


class Closing:
    """Ends calls, and hands them over."""

    def __init__(self, world: Surroundings, options: StoryOptions) -> None:
        self._world = world
        self._options = options

    async def end(self, call: Call, over: CallOver) -> None:
        """Take everything back that the call held, and keep its record."""
        status = over.status if not (over.gone or call.answered or over.fall_back) else over.seen_status
        # Side by side: a room that does not answer keeps no caller on the line, and an announcement nobody in the room.
        await asyncio.gather(self._quietly(self._leave_seat(call, over.reason)), self._part_with(call, over))
        answered = call.answered
        await self.close_sound(call)
        if over.reason is EndReason.ROOM_FAILED:
            call.trace["room"] = Trace(over.detail).to_json()
        record = call.record(self._world.clock.now(), over.reason, over.by, over.detail, 200 if answered else status)
        call.progress.why = record
        call.progress.over.set()
        await self._keep(record)
        self._tell(record)

    async def _part_with(self, call: Call, over: CallOver) -> None:
        if not over.gone:
            await self._quietly(self._announce(call, over), self._options.announcement_timeout)
            await self._quietly(self._free_leg(call, over), FREEING_TIMEOUT)
        elif over.reason is EndReason.PBX_GONE:
            await self._quietly(self._give_up(call))

    async def hand_over(self, call: Call) -> None:
        """Leave the call to the PBX, to its node, and to the next controller."""
        for sound in (call.sound, call.lost_sound):
            if sound is not None:
                await self._quietly(sound.hand_over())
        call.sound = call.lost_sound = call.seat = None

    async def close_sound(self, call: Call) -> None:
        if call.sound is not None:
            await self._quietly(call.sound.close())
        await self.close_lost_sound(call)
        call.sound = call.seat = None

    async def close_lost_sound(self, call: Call) -> None:
        """Nobody will come back to it."""
        if call.lost_sound is not None:
            await self._quietly(call.lost_sound.close())
            call.lost_sound = None

    async def finish(self, cleaning: Awaitable[None]) -> None:
        """Cleaning is not cut short by cancellation: every step of it has its limit."""
        task = asyncio.ensure_future(cleaning)
        cancelled = False
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    async def _leave_seat(self, call: Call, reason: EndReason) -> None:
        if call.seat is not None:
            try:
                if reason not in attributes.STATUS_STAYS:
                    await call.seat.set_attributes({attributes.CALL_STATUS: attributes.HANGUP})
            finally:
                await call.seat.leave(reason)

    async def _announce(self, call: Call, over: CallOver) -> None:
        if over.clip is not None and call.answered and not over.fall_back:
            await first_of(self._play(call, Clip(over.clip)), call.leg.ended())

    async def _play(self, call: Call, clip: Clip) -> None:
        """Who was answered by the dialplan, before us, and is refused at once, has no sound yet."""
        if call.sound is None:
            call.sound = await self._world.choose_node().open(call.call_id, call.rate)
        try:
            if not call.heard:
                await connect(call, self._options.audio_timeout)
        except CallOver as error:
            log.warning("the caller was not told why the call ends", error=str(error))
        else:
            await call.sound.play(clip)

    async def _free_leg(self, call: Call, over: CallOver) -> None:
        while True:
            try:
                if over.fall_back:
                    await call.leg.fall_back()
                elif call.answered:
                    await call.leg.hang_up(over.reason)
                else:
                    await call.leg.reject(over.status)
            except Unavailable:
                await asyncio.sleep(FREEING_PAUSE)
            except (LegGone, Superseded):
                raise
            except Exception:
                # Whatever it is, a caller is not left ringing for it.
                log.exception("a fault of ours at the end of a call: it is hung up")
                await call.leg.hang_up(over.reason)
                return
            else:
                return

    async def _give_up(self, call: Call) -> None:
        """Should the PBX turn out to be alive, then the call is its operator's: said once, and kept by the adapter until it can be told."""
        with contextlib.suppress(Unavailable):
            await call.leg.fall_back()

    async def _keep(self, record: CallRecord) -> None:
        try:
            async with asyncio.timeout(KEEPING_TIMEOUT):
                await self._world.journal.keep_record(record)
        except (Unavailable, TimeoutError) as error:
            error_text = str(error) or f"the store did not take it within {KEEPING_TIMEOUT:g} s"
            log.error("the record could not be kept; here it is", error=error_text, record=record.model_dump(mode="json"))

    def _tell(self, record: CallRecord) -> None:
        """The one line on this call."""
        log.info(
            "call ended",
            reason=record.end_reason.value,
            by=record.ended_by.value,
            why=record.detail,
            sip_status=record.sip_status,
            seconds=round(record.ended_at - record.started_at, 2),
            number=record.number,
            called=record.called,
            source=record.source_address,
            trunk=record.trunk_id,
            rule=record.rule_id,
            room=record.room,
            participant=record.identity,
            pin_tries=record.pin_tries,
            trace=record.trace,
        )

    async def _quietly(self, step: Awaitable[object], limit: float = 0.0) -> None:
        """One step of the cleaning: what fails here is logged, and the next step is taken all the same."""
        try:
            async with asyncio.timeout(limit or self._options.cleaning_timeout):
                await step
        except LegGone:
            pass
        except (Unavailable, Superseded, TimeoutError) as error:
            log.warning("the end of the call was not clean", error=str(error) or type(error).__name__)
        except Exception:
            log.exception("the end of the call met a fault of ours")
