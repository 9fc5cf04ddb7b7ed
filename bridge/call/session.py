"""The story of one call, told from top to bottom (DESIGN §5).

Each step may be ended at any moment: by the caller, the room, the time, an order. Whoever notices raises `CallOver` into the
call's task group; what the call held is given back in `_end`, which runs exactly once. The PIN dialogue is in `pin_dialogue.py`,
what is watched beside the steps in `watchers.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import structlog

from bridge.call import attributes
from bridge.call.clock import Clock
from bridge.call.commands import command, remember
from bridge.call.live import Call
from bridge.call.over import CallOver, first_cause, leg_ended
from bridge.call.pin import PinOptions
from bridge.call.pin_dialogue import PinDialogue
from bridge.call.throttle import Throttle
from bridge.call.watchers import Watchers
from bridge.dispatch.outcome import Accept, AskPin, Dispatcher, Refuse, Verdict, VerdictKind
from bridge.errors import LegGone, Superseded, Unavailable
from bridge.media.port import Clip, ClipName, Node, Sound
from bridge.model.caller import Caller
from bridge.model.ending import EndedBy, EndReason
from bridge.model.note import BrokenNote, CallNote, CallState
from bridge.model.ticket import RoomTicket
from bridge.pbx.port import Leg
from bridge.store.port import Journal

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoryOptions:
    """How calls go. Times in seconds."""

    pin: PinOptions = field(default_factory=PinOptions)
    over_capacity_falls_back: bool = False
    room_failure_falls_back: bool = True
    seat_timeout: float = 5.0
    media_timeout: float = 3.0
    control_timeout: float = 8.0
    cleaning_timeout: float = 5.0
    announcement_timeout: float = 15.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every call needs of the world, put together once by the application."""

    dispatcher: Callable[[], Dispatcher]
    choose_node: Callable[[], Node]
    room_for_more: Callable[[], bool]
    rule_metadata: Callable[[str], str]
    room_suffix: Callable[[], str]
    throttle: Throttle
    journal: Journal
    clock: Clock


class Story:
    """Tells calls, each to its end. Holds nothing of any one of them."""

    def __init__(self, world: Surroundings, options: StoryOptions) -> None:
        self._world = world
        self._options = options

    async def tell(self, call: Call) -> None:
        """Take a call, new or taken over, to its end. Cancelled, it lets go of the call without ending it: the next controller
        finds it by its note."""
        structlog.contextvars.bind_contextvars(call_id=call.call_id)
        try:
            over = await self._until_over(call)
        except (asyncio.CancelledError, Superseded):
            await self._finish(self._let_go(call))
            raise
        await self._finish(self._end(call, over))

    async def _until_over(self, call: Call) -> CallOver:
        cause: BaseException
        try:
            async with asyncio.TaskGroup() as group:
                watchers = Watchers(call, self._options.media_timeout, self._options.control_timeout, self._world.clock)
                watchers.start(group)
                await self._steps(call, watchers)
        except* Superseded as errors:
            raise first_cause(errors) from None
        except* Exception as errors:
            cause = first_cause(errors)
        match cause:
            case CallOver():
                return cause
            case LegGone():
                return await self._how_it_ended(call)
            case Unavailable():
                return CallOver(EndReason.MEDIA_FAILED, detail=str(cause), status=503, fall_back=True)
            case _:
                log.error("a fault of ours ends the call", exc_info=cause)
                return CallOver(EndReason.ERROR, detail=type(cause).__name__, status=500, fall_back=True)

    async def _steps(self, call: Call, watchers: Watchers) -> None:
        if call.taken_over:
            await self._go_on(call, watchers)
        else:
            await self._admit(call)
            await self._find_seat(call, watchers)
        await self._wait_for_company(call)
        await self._talk(call)

    # 1. Admit

    async def _admit(self, call: Call) -> None:
        if not self._world.room_for_more():
            fall_back = self._options.over_capacity_falls_back
            raise CallOver(EndReason.NO_CAPACITY, status=503, fall_back=fall_back, detail="as many calls as are allowed")
        await command(call, call.leg.ring)
        await remember(call, state=CallState.RINGING)

    # 2.–4. Authorise, dispatch, PIN

    async def _find_seat(self, call: Call, watchers: Watchers) -> None:
        caller = call.leg.caller
        verdict = self._authorise(call, caller)
        decision = self._dispatch(call, caller, verdict, None)
        if isinstance(decision, AskPin):
            await self._answer_for_pin(call, decision, verdict)
            dialogue = PinDialogue(call, self._options.pin, self._world.throttle, self._world.clock)
            decision = await dialogue.ask(decision.rule_id, lambda pin: self._dispatch(call, caller, verdict, pin))
        if isinstance(decision, Refuse):
            reason = EndReason.CONFLICT if decision.conflict else EndReason.NO_RULE
            raise CallOver(reason, detail=decision.reason, status=decision.status, clip=ClipName.UNAVAILABLE)
        await self._take_new_seat(call, decision, caller, watchers)

    def _authorise(self, call: Call, caller: Caller) -> Verdict:
        verdict = self._world.dispatcher().authorise(caller)
        call.trace["verdict"] = verdict.trace.to_json()
        call.change(trunk_id=verdict.trunk.sip_trunk_id if verdict.trunk else "")
        if verdict.kind is VerdictKind.REFUSED:
            reasons = {403: EndReason.UNAUTHORIZED, 404: EndReason.NO_TRUNK}
            raise CallOver(reasons.get(verdict.status, EndReason.CONFLICT), detail=verdict.reason, status=verdict.status)
        return verdict

    def _dispatch(self, call: Call, caller: Caller, verdict: Verdict, pin: str | None) -> Accept | AskPin | Refuse:
        """`pin`: None before anything was asked, empty when `#` alone was pressed."""
        decision = self._world.dispatcher().dispatch(
            caller, verdict, call_id=call.call_id, room_suffix=self._world.room_suffix, pin=pin or None, no_pin=pin == ""
        )
        call.trace["decision"] = decision.trace.to_json()
        if not isinstance(decision, Refuse):
            call.change(rule_id=decision.rule_id)
        return decision

    async def _answer_for_pin(self, call: Call, ask: AskPin, verdict: Verdict) -> None:
        """The caller hears and presses from now on. Who may not guess any more is told before the answer."""
        guess = PinDialogue.guess(call, ask.rule_id)
        if not call.answered and not self._world.throttle.may_guess(guess):
            raise CallOver(EndReason.PIN_THROTTLED, detail="too many wrong PINs lately", status=480)
        await self._open_sound(call)
        await self._answer(call, CallState.PIN)

    # 5. Seat

    async def _take_new_seat(self, call: Call, accept: Accept, caller: Caller, watchers: Watchers) -> None:
        status = attributes.ACTIVE if call.answered else attributes.RINGING
        ticket = RoomTicket(
            call_id=call.call_id,
            room_name=accept.room_name,
            identity=accept.identity,
            name=accept.name,
            metadata=accept.metadata,
            attributes=attributes.participant_attributes(accept, caller, status),
            room_preset=accept.room_preset,
            room_config=accept.room_config,
        )
        now = self._world.clock.now()
        await remember(
            call,
            state=CallState.WAITING,
            ticket=ticket,
            ringing_timeout_status=accept.ringing_timeout_status,
            company_until=now + accept.ringing_timeout.total_seconds(),
            over_at=now + accept.max_call_duration.total_seconds(),
        )
        await self._sit_down(call, watchers)

    async def _sit_down(self, call: Call, watchers: Watchers) -> None:
        watchers.watch_duration()
        sound = await self._open_sound(call)
        try:
            async with asyncio.timeout(self._options.seat_timeout):
                call.seat = await sound.take_seat(call.ticket)
        except (Unavailable, TimeoutError) as error:
            detail = str(error) or f"no seat within {self._options.seat_timeout:g} s"
            fall_back = self._options.room_failure_falls_back and not call.answered
            raise CallOver(
                EndReason.ROOM_FAILED, detail=detail, status=503, fall_back=fall_back, clip=ClipName.UNAVAILABLE
            ) from error
        watchers.watch_seat(call.seat)

    # 6. Wait for company

    async def _wait_for_company(self, call: Call) -> None:
        if call.note.state is CallState.TALKING or call.seat is None or call.sound is None:
            return
        left = max(0.0, (call.note.company_until or 0.0) - self._world.clock.now())
        try:
            async with asyncio.timeout(left):
                await self._meanwhile_ringback(call, call.seat.company())
        except TimeoutError:
            if call.answered:
                raise CallOver(EndReason.COMPANY_TIMEOUT, clip=ClipName.NO_COMPANY, detail="nobody came to the room") from None
            status = call.note.ringing_timeout_status
            raise CallOver(EndReason.RINGING_TIMEOUT, status=status, detail="nobody came to the room") from None

    async def _meanwhile_ringback(self, call: Call, company: Awaitable[None]) -> None:
        """An answered caller hears ringback from us; an unanswered one from their own network."""
        if not call.answered or call.sound is None:
            await company
            return
        sound = call.sound
        async with asyncio.TaskGroup() as group:
            ringback = group.create_task(sound.play(Clip(ClipName.RINGBACK, loop=True)))
            try:
                await company
            finally:
                ringback.cancel()
                await sound.stop()

    # 7. Talk

    async def _talk(self, call: Call) -> None:
        if call.seat is None:
            raise RuntimeError("talk comes after the seat")
        call.set_attribute_status(attributes.ACTIVE)
        await self._answer(call, CallState.TALKING)
        await call.seat.open()
        call.seat_is_open = True
        await call.seat.set_attributes({attributes.CALL_STATUS: attributes.ACTIVE})
        log.info("talking", room=call.ticket.room_name, identity=call.ticket.identity)

    async def _answer(self, call: Call, state: CallState) -> None:
        """Answer the caller if nobody has, and let the PBX send the sound here."""
        sound = await self._open_sound(call)
        newly = not call.answered
        await remember(call, state=state, answered_at=call.note.answered_at or self._world.clock.now())
        if newly or call.taken_over:
            address = await sound.invite()
            await command(call, lambda: call.leg.connect(address))
            async with asyncio.timeout(self._options.media_timeout):
                await sound.connected()

    async def _open_sound(self, call: Call) -> Sound:
        if call.sound is None:
            try:
                call.sound = await self._world.choose_node().open(call.call_id, 16000 if call.leg.caller.wideband else 8000)
            except Unavailable as error:
                raise CallOver(EndReason.NO_CAPACITY, detail=str(error), status=503, fall_back=True) from error
        return call.sound

    # A call taken over goes on by its note, without asking the rules again, except where they had not decided yet.

    async def _go_on(self, call: Call, watchers: Watchers) -> None:
        log.info("taken over", state=call.note.state.value)
        if call.note.ticket is None:
            if not call.leg.answered:
                await command(call, call.leg.ring)
            await self._find_seat(call, watchers)
            return
        if call.note.metadata_in_rule:
            call.change(ticket=replace(call.ticket, metadata=self._world.rule_metadata(call.note.rule_id)), metadata_in_rule=False)
        if call.answered:
            await self._answer(call, call.note.state)
        else:
            await command(call, call.leg.ring)
        await self._sit_down(call, watchers)

    # 8. End

    async def _how_it_ended(self, call: Call) -> CallOver:
        try:
            async with asyncio.timeout(self._options.cleaning_timeout):
                return leg_ended(await call.leg.ended(), call.answered)
        except (TimeoutError, Unavailable):
            return CallOver(EndReason.PBX_GONE, EndedBy.PBX, detail="the PBX no longer has the call", gone=True)

    async def _end(self, call: Call, over: CallOver) -> None:
        """Leave the room, free the PBX, write the record: each whatever became of the others."""
        await self._quietly(self._leave_seat(call, over.reason))
        status = over.seen_status
        if not over.gone:
            if not call.answered and not over.fall_back:
                status = over.status
            await self._quietly(self._free_leg(call, over), self._options.announcement_timeout)
        if call.sound is not None:
            await self._quietly(call.sound.close())
        if call.answered:
            status = 200
        ended_at = self._world.clock.now()
        record = call.record(ended_at, over.reason, over.by, over.detail, status)
        await self._quietly(self._world.journal.keep_record(record))
        log.info(
            "call ended",
            reason=over.reason.value,
            by=over.by.value,
            why=over.detail,
            sip_status=status,
            seconds=round(ended_at - record.started_at, 2),
            number=record.number,
            called=record.called,
            trunk=record.trunk_id,
            rule=record.rule_id,
            room=record.room,
            participant=record.identity,
        )

    async def _leave_seat(self, call: Call, reason: EndReason) -> None:
        if call.seat is not None:
            if reason not in attributes.STATUS_STAYS:
                await call.seat.set_attributes({attributes.CALL_STATUS: attributes.HANGUP})
            await call.seat.leave(reason)

    async def _free_leg(self, call: Call, over: CallOver) -> None:
        if over.fall_back:
            await call.leg.fall_back()
        elif not call.answered:
            await call.leg.reject(over.status)
        else:
            if over.clip is not None and call.sound is not None:
                await call.sound.play(Clip(over.clip))
            await call.leg.hang_up(over.reason)

    async def _let_go(self, call: Call) -> None:
        if call.sound is not None:
            await self._quietly(call.sound.close())

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

    async def _finish(self, cleaning: Awaitable[None]) -> None:
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


def open_call(leg: Leg, new_call_id: Callable[[], str], now: float) -> Call:
    """A call for a leg that a PBX has just shown us: by its note when an earlier controller left one.

    A note that cannot be read is an answered or ringing caller of whom nothing is known: told anew, from the first step.
    """
    if leg.note is not None:
        try:
            return Call(leg, CallNote.from_text(leg.note), taken_over=True)
        except BrokenNote as error:
            log.warning("a call is told anew", leg=leg.id, error=str(error))
    answered_at = now if leg.answered else None
    return Call(leg, CallNote(call_id=new_call_id(), state=CallState.RINGING, started_at=now, answered_at=answered_at))
