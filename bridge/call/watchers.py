"""What is watched beside the steps of a call: the leg, the seat, the time, and orders from outside.

A watcher that sees the call's end raises `CallOver` into the call's task group; that stops everything else.
"""

import asyncio
import contextlib
from collections.abc import Coroutine

import structlog

from bridge.call.commands import connect
from bridge.call.handing_on import HandingOn, Transfer
from bridge.call.live import AskAgain, Call, HangUp
from bridge.call.media_timeout import MediaTimeout
from bridge.call.options import StoryOptions
from bridge.call.over import CallOver, leg_ended, room_failed
from bridge.call.waiting import first_of
from bridge.call.world import Surroundings
from bridge.errors import NodeGone, Unavailable
from bridge.media.port import Clip, ClipName, Seat, Sound
from bridge.model.ending import EndedBy, EndReason
from bridge.model.note import CallState
from bridge.model.ticket import DigitsToSend, EndAsked, SeatBack, SeatGone, SeatLost
from bridge.pbx.port import ControlBack, ControlLost, Digit, Held, MediaLost, Resumed, TransferFailure

log = structlog.get_logger(__name__)

DIGIT_TIMEOUT = 2.0
"""Seconds for a key press to reach the room: events of the call wait behind it, and a late digit is a wrong digit."""

DIGITS_WAITING = 64
"""Messages of digits from the room that wait to be sent to the phone; a storm beyond that is dropped."""

LOSSES, LOSSES_WITHIN = 5, 10.0
"""Audio that comes and goes more often than this, within so many seconds, does not come back."""

MEDIA_AFTER_CONTROL = 1.0
"""Seconds that the PBX's connection has to come back when its audio is gone too: then it is the PBX that died."""

AUDIO_MISSED = 3.0
"""Seconds that a call's audio may be gone without a word before the PBX is asked where the call is."""

TRANSFER_WITHOUT_CONTROL = 65.0
"""Seconds that a transfer may go on while we hear nothing of the PBX: as long as it may take (asterisk/leg.py)."""

TRANSFER_AFTER_END = 1.0
"""Seconds that a transfer has to tell its result after the leg has ended: a successful one ends the leg."""

HANG_UP_AFTER_TRANSFER = 1.0
"""Seconds that who was handed on has to hang up first (§3.9)."""

_SEAT_GONE = {
    "duplicate_identity": EndReason.DUPLICATE_IDENTITY,
    "participant_removed": EndReason.REMOVED,
}


class Watchers:
    """The watchers of one call, all in the call's own task group."""

    def __init__(self, call: Call, options: StoryOptions, world: Surroundings, group: asyncio.TaskGroup) -> None:
        self._call = call
        self._options = options
        self._world = world
        self._group = group
        self._losses: list[float] = []
        self._outcome: asyncio.Task[None] | None = None
        self._room_is_there = asyncio.Event()
        self._comforting: asyncio.Task[None] | None = None
        self._digits: asyncio.Queue[str] = asyncio.Queue(DIGITS_WAITING)

    def watch_leg(self) -> None:
        """From the first moment: the leg's end, its events, whether anything comes from the caller, and orders from outside."""
        self._start(self._leg_end())
        self._start(self._leg_events())
        self._start(self._orders())
        if self._call.handing_on is not None:  # it has outlived the node of those who watched before
            self._outcome = self._start(self._hand_on(self._call.handing_on))
        self._start(self._audio())
        self._start(MediaTimeout(self._call, self._options, self._world.clock, excused=self._need_not_send).watch())
        if not self._call.control.is_set():
            self._start(self._without_control())

    def note_down(self) -> "asyncio.Task[None]":
        """What is known of the call by now, should it end while no server watches. For who cannot go on without: the task of keeping it."""
        return self._start(self._keep_open())

    async def _keep_open(self) -> None:
        detail = "it ended while no server watched: hung up, or taken to the fallback by the PBX"
        try:
            await self._world.journal.keep_open(self._call.record(self._world.clock.now(), EndReason.UNSEEN, EndedBy.PBX, detail, None))
        except Unavailable as error:
            log.warning("should no server see the end of this call, it leaves no record", error=str(error))

    def watch_seat(self, seat: Seat) -> None:
        """From the moment there is a seat: what happens there, and the longest time a call may take."""
        self._start(self._seat_events(seat))
        self._start(self._send_digits())
        self._start(self._duration())

    def _start(self, watcher: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        return self._group.create_task(watcher)

    # The leg

    async def _leg_end(self) -> None:
        ending = await self._call.leg.ended()
        if self._outcome is not None:
            await asyncio.wait({self._outcome}, timeout=TRANSFER_AFTER_END)
        raise leg_ended(ending, self._call.answered, outgoing=self._call.note.outgoing)

    async def _leg_events(self) -> None:
        async for event in self._call.leg.events():
            match event:
                case Digit(digit):
                    await self._pressed(digit)
                case MediaLost():
                    self._media_lost()
                case ControlLost() if self._call.control.is_set():
                    log.warning("the PBX cannot be told anything for the moment")
                    self._call.control.clear()
                    self._start(self._without_control())
                case ControlBack():
                    self._call.control.set()
                    await self._control_is_back()
                case Held():
                    self._call.held = True
                    log.info("held by the caller")
                case Resumed():
                    self._call.held = False
                    log.info("the caller is back from hold")

    async def _pressed(self, digit: str) -> None:
        call = self._call
        if call.note.state is CallState.PIN:
            call.press(digit)
        elif call.seat is not None and call.seat_is_open:
            try:
                async with asyncio.timeout(DIGIT_TIMEOUT):
                    await call.seat.publish_digit(digit.lower())  # §3.5: the room knows a to d in lower case
            except (Unavailable, TimeoutError) as error:
                log.warning("a key press did not reach the room", error=str(error) or "too slow")

    def _media_lost(self) -> None:
        """The audio connection broke: the PBX plays hold music under its lease; give it a fresh address before that runs out. A transfer
        takes the audio away on purpose."""
        call = self._call
        if call.sound is None or not call.answered or call.handing_on is not None:
            return
        if call.connecting:
            call.media_refused.set()
            return
        now = self._world.clock.monotonic()
        self._losses = [*(loss for loss in self._losses if now - loss < LOSSES_WITHIN), now]
        if len(self._losses) > LOSSES:
            detail = f"audio was lost {LOSSES} times within {LOSSES_WITHIN:g} s"
            raise CallOver(EndReason.MEDIA_FAILED, detail=detail, fall_back=True)
        call.connecting = True  # from now on, not from the task's first step: the next loss may come before
        self._start(self._connect_again())

    async def _audio(self) -> None:
        """Somebody at the PBX may move a call elsewhere: nothing tells of it but the end of its audio. Nor does a PBX
        that sends datagrams notice that their node is gone: who is asked for a PIN, and presses nothing, would hear nothing for ever."""
        call = self._call
        while True:
            await call.audible.wait()
            if call.sound is None:
                raise RuntimeError("a call that is heard has a sound")
            try:
                if await self._misses_audio(call.sound):
                    log.warning("the audio is gone, and nobody said why")
                    await call.leg.locate()
            except NodeGone:
                raise
            except Unavailable:
                await asyncio.sleep(AUDIO_MISSED)

    def _need_not_send(self) -> bool:
        """Hold may be silent (docs/differences.md), and who is being handed on talks to somebody else."""
        return self._call.held or self._call.handing_on is not None

    async def _misses_audio(self, sound: Sound) -> bool:
        """Returns once audio was gone for too long (True), or is back. A transfer, a new connection and the PBX's absence bring it back
        themselves, or end the call."""
        await sound.disconnected()
        try:
            async with asyncio.timeout(AUDIO_MISSED):
                await sound.connected()
        except TimeoutError:
            if not self._call.connecting and self._call.handing_on is None and self._call.control.is_set():
                return True
            await sound.connected()
        return False

    async def _connect_again(self) -> None:
        call = self._call
        await connect(call, self._options.audio_timeout)
        log.warning("audio is back after a loss")
        if call.note.state is CallState.PIN:
            call.press(AskAgain())

    async def _control_is_back(self) -> None:
        """Keys pressed meanwhile are lost, and so may be word of a loss of media."""
        call = self._call
        log.warning("the PBX can be told things again")
        if call.note.state is CallState.PIN:
            call.press(AskAgain())
        if call.sound is not None and call.answered and not (await call.sound.snapshot()).connected:
            self._media_lost()

    async def _without_control(self) -> None:
        """Unanswered, the PBX's own lease has taken the call to the fallback before our patience ends. Answered, the call talks on
        as long as its audio flows; when that is gone too, the PBX is."""
        call = self._call
        patience = self._options.control_timeout
        if call.answered and call.sound is not None:
            await first_of(call.control.wait(), call.sound.disconnected())
            # A transfer takes the audio away on purpose.
            patience = MEDIA_AFTER_CONTROL if call.handing_on is None else TRANSFER_WITHOUT_CONTROL
        try:
            async with asyncio.timeout(patience):
                await call.control.wait()
        except TimeoutError:
            raise CallOver(EndReason.PBX_GONE, EndedBy.PBX, detail="the PBX cannot be reached", gone=True) from None

    # The seat

    async def _seat_events(self, seat: Seat) -> None:
        async for event in seat.events():
            match event:
                case DigitsToSend(digits):
                    if self._digits.full():
                        log.warning("the room asks for more digits than a phone can take; some are dropped")
                    else:
                        self._digits.put_nowait(digits)
                case SeatLost():
                    log.warning("the room is lost for the moment")
                    self._room_is_there.clear()
                    self._room_is_lost()
                case SeatBack():
                    log.warning("the room is back")
                    self._room_is_there.set()
                    await self._end_comfort()
                case SeatGone(("join_failed" | "connection_lost") as reason, detail):
                    raise self._room_failed(detail or reason)
                case SeatGone(reason):
                    raise CallOver(_SEAT_GONE.get(reason, EndReason.ROOM_CLOSED), EndedBy.ROOM, detail=reason)
                case EndAsked(by):
                    raise CallOver(EndReason.REQUESTED, EndedBy.ROOM, detail=f"{by} asked for it")

    def _room_failed(self, detail: str) -> CallOver:
        return room_failed(detail, falls_back=self._options.room_failure_falls_back, answered=self._call.answered, by=EndedBy.ROOM)

    def _room_is_lost(self) -> None:
        """Who talks hears that it is not the line; who still waits does not wait for a lost room."""
        if not self._call.seat_is_open:
            self._start(self._room_comes_back())
        elif self._comforting is None:
            self._comforting = self._start(self._comfort())

    async def _room_comes_back(self) -> None:
        try:
            async with asyncio.timeout(self._options.room_patience):
                await self._room_is_there.wait()
        except TimeoutError:
            if not self._call.seat_is_open:
                raise self._room_failed("the room is lost") from None

    async def _send_digits(self) -> None:
        """Beside the other events, since a long row takes its time. Not said twice: a digit sent twice is another number."""
        while True:
            digits = await self._digits.get()
            try:
                if self._call.answered:
                    await self._call.leg.send_digits(digits)
            except Unavailable as error:
                log.warning("digits from the room did not reach the phone", error=str(error))

    async def _comfort(self) -> None:
        if self._call.sound is not None:
            await self._call.sound.play(Clip(ClipName.COMFORT, loop=True))

    async def _end_comfort(self) -> None:
        comforting, self._comforting = self._comforting, None
        if comforting is not None:
            comforting.cancel()  # it may not have begun: both are told in one breath when we were held up
        if self._call.sound is not None and self._call.seat_is_open:
            await self._call.sound.stop()

    async def _duration(self) -> None:
        over_at = self._call.note.over_at
        if over_at is not None:
            await asyncio.sleep(max(0.0, over_at - self._world.clock.now()))
            raise CallOver(EndReason.MAX_DURATION, detail="the longest call allowed is over")

    # Orders

    async def _orders(self) -> None:
        while True:
            match await self._call.orders.get():
                case HangUp(reason):
                    raise CallOver(reason, detail="somebody asked for it", status=503 if reason is EndReason.SHUTDOWN else 486)
                case Transfer() as order:
                    self._asked_to_hand_on(order)

    def _asked_to_hand_on(self, order: Transfer) -> None:
        call = self._call
        if order.result.done():
            log.info("a transfer is not begun: who asked for it waits no more", to=order.to)
        elif call.handing_on is not None:
            call.handing_on.join(order)
        elif not call.seat_is_open:
            order.refuse(TransferFailure.NOT_TALKING, "the call is not talking yet")
        elif call.connecting:
            order.refuse(TransferFailure.NOT_TALKING, "the call's sound is just being brought back; try again in a moment")
        else:
            log.info("the caller is handed on", to=order.to)
            call.handing_on = HandingOn(call.leg, order)
            self._outcome = self._start(self._hand_on(call.handing_on))

    async def _hand_on(self, handing_on: HandingOn) -> None:
        """The seat is kept until the result is known; refused, the caller comes back to it."""
        call = self._call
        result = await handing_on.result()
        if result.ok:
            # Who was handed on hangs up here by themselves: a carrier joins the two calls before that.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HANG_UP_AFTER_TRANSFER):
                    await call.leg.ended()
            raise CallOver(EndReason.TRANSFERRED, detail=f"handed on to {handing_on.to}")
        log.warning("the transfer has failed", to=handing_on.to, sip_status=result.sip_status, why=result.reason)
        call.handing_on = None
        # Refused at once, it may be back before our side of the audio has seen its end.
        if handing_on.reached_the_pbx or (call.sound is not None and not (await call.sound.snapshot()).connected):
            self._media_lost()
