"""The story of one call, told from top to bottom (DESIGN §5).

Each step may be ended at any moment: by the caller, the room, the time, an order. Whoever notices raises `CallOver` into the
call's task group; what the call held is given back in `closing.py`, once. The PIN dialogue is in `pin_dialogue.py`, what is watched
beside the steps in `watchers.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import structlog

from bridge.call import attributes
from bridge.call.closing import Closing
from bridge.call.commands import command, connect, remember
from bridge.call.live import Call
from bridge.call.options import StoryOptions
from bridge.call.over import CallOver, causes, leg_ended, room_failed
from bridge.call.pin_dialogue import PinDialogue
from bridge.call.watchers import Watchers
from bridge.call.world import Surroundings
from bridge.dispatch.outcome import Accept, AskPin, Decision, Refuse, Verdict, VerdictKind
from bridge.errors import LegGone, NodeGone, Superseded, Unavailable
from bridge.media.port import Clip, ClipName, Seat, Sound
from bridge.model.ending import EndedBy, EndReason
from bridge.model.note import BrokenNote, CallNote, CallState
from bridge.model.ticket import RoomTicket
from bridge.pbx.port import Leg

log = structlog.get_logger(__name__)

NODE_LOSSES, LOSSES_WITHIN = 3, 60.0
"""A call that loses its node this often within so many seconds is at fault itself, or there is none left."""

NODE_PAUSE = 0.1
"""Seconds between two looks for a node that is there."""

NAME_LIMIT = 256
"""Bytes of a room's name, an identity or a participant's name: LiveKit's limit (§4)."""

MANY_TRIES = 480
"""What a caller is told who may not guess PINs for the moment: temporarily unavailable. Before the answer, it costs the attacker's
carrier nothing to take the call and tells nothing of the PIN; an honest caller hears their network's announcement."""


class Story:
    """Tells calls, each to its end. Holds nothing of any one of them."""

    def __init__(self, world: Surroundings, options: StoryOptions) -> None:
        self._world = world
        self._options = options
        self._closing = Closing(world, options)

    async def tell(self, call: Call) -> None:
        """Take a call, new or taken over, to its end. Cancelled, or Superseded, it lets go of the call without ending it: the next
        controller finds it by its note."""
        structlog.contextvars.bind_contextvars(call_id=call.call_id)
        try:
            over = await self._until_over(call)
        except (asyncio.CancelledError, Superseded):
            await self._closing.finish(self._closing.hand_over(call))
            raise
        await self._closing.finish(self._closing.end(call, over))

    async def _until_over(self, call: Call) -> CallOver:
        try:
            return await self._through_node_losses(call)
        finally:
            if call.handing_on is not None:
                await call.handing_on.close()

    async def _through_node_losses(self, call: Call) -> CallOver:
        known = call.taken_over
        losses: list[float] = []
        while True:
            cause = await self._until_something_ends(call, known)
            if not isinstance(cause, NodeGone):
                return await self._what_it_means(call, cause)
            now = self._world.clock.monotonic()
            losses = [*(loss for loss in losses if now - loss < LOSSES_WITHIN), now]
            if len(losses) == NODE_LOSSES:
                return CallOver(EndReason.MEDIA_FAILED, detail="one node after the other was lost", status=503, fall_back=True)
            log.warning("the call has lost its node: it goes on there, or in another", why=str(cause))
            call.lose_sound()
            known = True

    async def _until_something_ends(self, call: Call, known: bool) -> BaseException:
        found: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as group:
                watchers = Watchers(call, self._options, self._world, group)
                watchers.watch_leg()
                await self._steps(call, watchers, known)
        except* Exception as errors:
            found = causes(errors)
        for cause in found[1:]:
            if not isinstance(cause, CallOver | LegGone | Superseded | Unavailable):
                log.error("a fault of ours at the end of a call", exc_info=cause)
        return found[0]

    async def _what_it_means(self, call: Call, cause: BaseException) -> CallOver:
        """The one place where an error becomes the reason of an end."""
        match cause:
            case CallOver():
                return cause
            case LegGone():
                return await self._how_it_ended(call, str(cause))
            case Superseded():
                raise cause
            case Unavailable():
                return CallOver(EndReason.MEDIA_FAILED, detail=str(cause), status=503, fall_back=True)
            case _:
                log.error("a fault of ours ends the call", exc_info=cause)
                return CallOver(EndReason.ERROR, detail=type(cause).__name__, status=500, fall_back=True)

    async def _how_it_ended(self, call: Call, what_the_pbx_said: str) -> CallOver:
        try:
            async with asyncio.timeout(self._options.cleaning_timeout):
                return leg_ended(await call.leg.ended(), call.answered, outgoing=call.note.outgoing)
        except (TimeoutError, Unavailable):
            return CallOver(EndReason.PBX_GONE, EndedBy.PBX, detail=f"the PBX no longer has the call: {what_the_pbx_said}", gone=True)

    async def _steps(self, call: Call, watchers: Watchers, known: bool) -> None:
        if call.note.state is CallState.DIALING:
            await self._be_answered(call, watchers)
            return
        if known:
            await self._go_on(call)
        else:
            await self._admit(call)
            watchers.note_down()
        if call.note.ticket is None:
            accept = await self._find_room(call)
            await self._write_ticket(call, accept)
            watchers.note_down()
        await self._take_seat(call, watchers)
        await self._wait_for_company(call)
        await self._talk(call)
        watchers.note_down()

    # A call of ours: from step 5 on, with an answer to wait for

    async def _be_answered(self, call: Call, watchers: Watchers) -> None:
        """Who is called has a seat before they answer, as in LiveKit: whoever is in the room sees that they are being called."""
        if call.taken_over:
            await self._find_sound(call)
        await remember(call)
        noted = watchers.note_down()
        await self._take_seat(call, watchers)
        await noted  # from here on somebody knows of this call, and may ask what became of it
        call.progress.seated.set()
        left = max(0.0, (call.note.company_until or 0.0) - self._world.clock.now())
        try:
            async with asyncio.timeout(left):
                await call.leg.picked_up()
        except TimeoutError:
            raise CallOver(EndReason.NO_ANSWER, EndedBy.CALLER, status=480, detail="no answer in time") from None
        call.progress.answered.set()
        await self._talk(call)
        watchers.note_down()

    # 1. Admit

    async def _admit(self, call: Call) -> None:
        if not self._world.room_for_more():
            fall_back = self._options.over_capacity_falls_back
            raise CallOver(EndReason.NO_CAPACITY, status=503, fall_back=fall_back, detail="as many calls as are allowed")
        if not call.answered:
            await command(call, call.leg.ring)
        await remember(call, state=CallState.RINGING)

    async def _go_on(self, call: Call) -> None:
        """A call that was under way before, by its note. The rules are not asked again where they had decided."""
        log.info("the call goes on by its note", state=call.note.state.value)
        if not call.answered:
            await command(call, call.leg.ring)
        if call.note.ticket is not None and call.note.metadata_in_rule:
            metadata = self._world.rule_metadata(call.note.rule_id)
            call.change(ticket=replace(call.note.ticket, metadata=metadata), metadata_in_rule=False)
        await self._find_sound(call)

    async def _find_sound(self, call: Call) -> None:
        """The one that the call has already, in a node that was not ours or was away; what it plays and hears goes on."""
        call.sound = await self._world.find_sound(call.call_id)
        if call.sound is not None:
            call.lost_sound = None
            call.heard = call.answered and (await call.sound.snapshot()).connected

    # 2.–4. Authorise, dispatch, PIN

    async def _find_room(self, call: Call) -> Accept:
        verdict = self._authorise(call)
        if call.note.state is CallState.PIN:
            return await self._ask_pin(call, verdict, call.note.rule_id)
        decision = self._dispatch(call, verdict, None)
        if isinstance(decision, AskPin):
            return await self._ask_pin(call, verdict, decision.rule_id)
        return self._accepted(decision)

    def _authorise(self, call: Call) -> Verdict:
        verdict = self._world.dispatcher().authorise(call.leg.caller)
        call.trace["verdict"] = verdict.trace.to_json()
        call.change(trunk_id=verdict.trunk.sip_trunk_id if verdict.trunk else "")
        if verdict.kind is VerdictKind.REFUSED:
            reasons = {403: EndReason.UNAUTHORIZED, 404: EndReason.NO_TRUNK}
            reason = reasons.get(verdict.status, EndReason.CONFLICT)
            raise CallOver(reason, detail=verdict.reason, status=verdict.status, clip=ClipName.UNAVAILABLE)
        return verdict

    def _dispatch(self, call: Call, verdict: Verdict, pin: str | None) -> Decision:
        """`pin`: None before anything was asked, empty when `#` alone was pressed."""
        decision = self._world.dispatcher().dispatch(
            call.leg.caller,
            verdict,
            call_id=call.call_id,
            room_suffix=self._world.room_suffix,
            pin=pin or None,
            no_pin=pin == "",
        )
        call.trace["decision"] = decision.trace.to_json()
        if not isinstance(decision, Refuse):
            call.change(rule_id=decision.rule_id)
            if pin is None:
                # After a PIN too: §7.15, the settings of the rule that asks count, not those of the one that is chosen.
                call.change(media_timeout=_seconds(decision.media.media_timeout))
        return decision

    def _accepted(self, decision: Accept | Refuse) -> Accept:
        if isinstance(decision, Accept):
            return decision
        reason = EndReason.CONFLICT if decision.conflict else EndReason.NO_RULE
        raise CallOver(reason, detail=decision.reason, status=decision.status, clip=ClipName.UNAVAILABLE)

    async def _ask_pin(self, call: Call, verdict: Verdict, rule_id: str) -> Accept:
        guess = PinDialogue.guess(call, rule_id)
        if not call.answered and not self._world.throttle.may_guess(guess):
            raise CallOver(EndReason.PIN_THROTTLED, detail="too many wrong PINs lately", status=MANY_TRIES)
        await self._probe_rooms(call)
        sound = await self._answer(call, CallState.PIN)
        dialogue = PinDialogue(call, sound, self._options.pin, self._world.throttle, self._world.clock)
        return self._accepted(await dialogue.ask(guess, lambda pin: self._dispatch(call, verdict, pin)))

    async def _probe_rooms(self, call: Call) -> None:
        """Nobody is asked for a PIN in vain (DESIGN §5). Whose node was lost waits for another one as long as all others do."""
        patience = self._options.room_patience if call.lost_sound is None else self._options.node_timeout
        try:
            async with asyncio.timeout(patience):
                while True:
                    try:
                        await self._world.choose_node().probe()
                        return
                    except NodeGone:
                        await asyncio.sleep(NODE_PAUSE)
        except (Unavailable, TimeoutError) as error:
            raise self._room_failed(call, str(error) or "no node says whether a room can be had") from error

    # 5. Seat

    async def _write_ticket(self, call: Call, accept: Accept) -> None:
        for what, name in (("room's name", accept.room_name), ("participant's identity", accept.identity)):
            if not 0 < len(name.encode(errors="replace")) <= NAME_LIMIT:
                detail = f"the {what} is empty or longer than {NAME_LIMIT} bytes"
                raise CallOver(EndReason.ROOM_FAILED, detail=detail, status=503, clip=ClipName.UNAVAILABLE)
        # After a PIN the participant is active from the join on (§3.3 step 7): an agent may wait for just that before it speaks.
        status = attributes.ACTIVE if call.answered else attributes.RINGING
        ticket = RoomTicket(
            call_id=call.call_id,
            room_name=accept.room_name,
            identity=accept.identity,
            name=accept.name.encode(errors="replace")[:NAME_LIMIT].decode(errors="ignore"),
            metadata=accept.metadata,
            attributes=attributes.participant_attributes(accept, call.leg.caller, status),
            room_preset=accept.room_preset,
            room_config=accept.room_config,
        )
        now = self._world.clock.now()
        await remember(
            call,
            state=CallState.WAITING,
            ticket=ticket,
            ringing_timeout_status=accept.ringing_timeout_status if 400 <= accept.ringing_timeout_status <= 699 else 486,
            company_until=now + accept.ringing_timeout.total_seconds(),
            over_at=now + accept.max_call_duration.total_seconds(),
        )

    async def _take_seat(self, call: Call, watchers: Watchers) -> None:
        sound = await self._open_sound(call)
        if call.answered:
            await self._be_heard(call)
        try:
            async with asyncio.timeout(self._options.seat_timeout):
                call.seat = await sound.take_seat(call.full_ticket)
        except NodeGone:
            raise
        except (Unavailable, TimeoutError) as error:
            raise self._room_failed(call, str(error) or f"no seat within {self._options.seat_timeout:g} s") from error
        watchers.watch_seat(call.seat)

    def _room_failed(self, call: Call, detail: str) -> CallOver:
        return room_failed(detail, falls_back=self._options.room_failure_falls_back, answered=call.answered)

    async def _open_sound(self, call: Call) -> Sound:
        if call.sound is None:
            try:
                async with asyncio.timeout(self._options.node_timeout):
                    call.sound = await self._open_somewhere(call)
            except (Unavailable, TimeoutError) as error:
                detail = str(error) or "the node does not answer"
                raise CallOver(EndReason.NO_CAPACITY, detail=detail, status=503, fall_back=True) from error
        return call.sound

    async def _open_somewhere(self, call: Call) -> Sound:
        """A node that has just died is back, or another one takes its calls, within moments. One that was only away has the call still."""
        while True:
            if call.taken_over or call.lost_sound is not None:
                await self._find_sound(call)
                if call.sound is not None:
                    return call.sound
            node = self._world.choose_node()
            if not node.load().lost:
                # First: one that has come up in the place of the lost one is the same node to us, and the call's id the same.
                await self._closing.close_lost_sound(call)
                try:
                    return await node.open(call.call_id, call.rate)
                except NodeGone:
                    pass
                except Unavailable:
                    if not node.load().room_for:  # the one with the most room: none has any
                        raise
            await asyncio.sleep(NODE_PAUSE)

    # 6. Wait for company

    async def _wait_for_company(self, call: Call) -> None:
        if call.note.state is CallState.TALKING or call.seat is None:
            return
        left = max(0.0, (call.note.company_until or 0.0) - self._world.clock.now())
        try:
            async with asyncio.timeout(left):
                await self._with_ringback(call, call.seat.company())
        except NodeGone:
            raise
        except Unavailable as error:
            # Its events tell why, and count first; should they not, then this does.
            raise self._room_failed(call, str(error)) from error
        except TimeoutError:
            detail = "nobody came to the room"
            if call.answered:
                raise CallOver(EndReason.COMPANY_TIMEOUT, clip=ClipName.NO_COMPANY, detail=detail) from None
            raise CallOver(EndReason.RINGING_TIMEOUT, status=call.note.ringing_timeout_status, detail=detail) from None

    async def _with_ringback(self, call: Call, company: Awaitable[None]) -> None:
        """An answered caller hears ringback from us; an unanswered one from their own network."""
        if not call.answered or call.sound is None:
            await company
            return
        ringback = asyncio.create_task(call.sound.play(Clip(ClipName.RINGBACK, loop=True)))
        try:
            await company
            await call.sound.stop()  # only then: whoever ends the call plays something else, or the next server lets it ring on
        finally:
            ringback.cancel()
            await asyncio.gather(ringback, return_exceptions=True)

    # 7. Talk

    async def _talk(self, call: Call) -> None:
        call.change(ticket=call.ticket_with(attributes.CALL_STATUS, attributes.ACTIVE))
        call.leg.set_media_lease(self._options.orphan_limit)
        await self._answer(call, CallState.TALKING)
        if call.note.digits:
            await self._press(call)
        if call.seat is None:
            raise RuntimeError("talk comes after the seat")
        try:
            async with asyncio.timeout(self._options.seat_timeout):
                await call.seat.open()
        except NodeGone:
            raise
        except (Unavailable, TimeoutError) as error:
            detail = str(error) or f"the seat did not open within {self._options.seat_timeout:g} s"
            raise CallOver(EndReason.ROOM_FAILED, detail=detail, clip=ClipName.UNAVAILABLE) from error
        call.seat_is_open = True
        await self._tell_room_of_the_answer(call.seat)
        log.info("talking", room=call.ticket.room_name, participant=call.ticket.identity)

    async def _press(self, call: Call) -> None:
        """What a machine that has answered is to be told, before anybody in the room hears of it (`sip.callStatus` is `automation`)."""
        if call.seat is not None:
            await call.seat.set_attributes({attributes.CALL_STATUS: attributes.AUTOMATION})
        await command(call, partial(call.leg.send_digits, call.note.digits))
        await remember(call, digits="")

    async def _tell_room_of_the_answer(self, seat: Seat) -> None:
        try:
            async with asyncio.timeout(self._options.seat_timeout):
                await seat.set_attributes({attributes.CALL_STATUS: attributes.ACTIVE})
        except (Unavailable, TimeoutError) as error:
            log.warning("the room was not told that the call is active", error=str(error) or "too slow")

    async def _answer(self, call: Call, state: CallState) -> Sound:
        """Answer the caller if nobody has, and let the PBX send the sound here."""
        sound = await self._open_sound(call)
        await remember(call, state=state, answered_at=call.note.answered_at or self._world.clock.now())
        await self._be_heard(call)
        return sound

    async def _be_heard(self, call: Call) -> None:
        """Answers the caller if nobody has. Who is being handed on is not called back: should that fail, `watchers.py` does."""
        if call.connecting:
            await call.audible.wait()
        elif not call.heard and call.handing_on is None:
            await connect(call, self._options.audio_timeout)


def _seconds(length: timedelta | None) -> float | None:
    """None where there is no opinion (§1.6: 0 is none)."""
    return length.total_seconds() or None if length is not None else None


def open_call(leg: Leg, new_call_id: Callable[[], str], now: float) -> Call:
    """A call for a leg that a PBX has just shown us: by its note when an earlier controller left one.

    A note that cannot be read leaves a caller of whom nothing is known: told anew, from the first step.
    """
    if leg.note is not None:
        try:
            return Call(leg, CallNote.from_text(leg.note), taken_over=True)
        except BrokenNote as error:
            log.warning("a call is told anew", leg=leg.id, error=str(error))
    answered_at = now if leg.answered else None
    return Call(leg, CallNote(call_id=new_call_id(), state=CallState.RINGING, started_at=now, answered_at=answered_at))
