"""What is watched beside the steps of a call: the leg, the seat, the time, and orders from outside.

A watcher that sees the call's end raises `CallOver` into the call's task group; that stops everything else.
"""

import asyncio
from collections.abc import Awaitable, Coroutine

import structlog

from bridge.call.clock import Clock
from bridge.call.commands import command
from bridge.call.live import AskAgain, Call, HangUp, Transfer
from bridge.call.over import CallOver, leg_ended
from bridge.errors import RoomlineError, Unavailable
from bridge.media.port import Clip, ClipName, Seat
from bridge.model.ending import EndedBy, EndReason
from bridge.model.note import CallState
from bridge.model.ticket import DigitsToSend, SeatBack, SeatGone, SeatLost
from bridge.pbx.port import ControlBack, ControlLost, Digit, Held, MediaLost, Resumed, TransferResult

log = structlog.get_logger(__name__)

_SEAT_GONE = {
    "duplicate_identity": EndReason.DUPLICATE_IDENTITY,
    "participant_removed": EndReason.REMOVED,
}


class Watchers:
    """The watchers of one call, all in the call's own task group."""

    def __init__(self, call: Call, media_timeout: float, control_timeout: float, clock: Clock) -> None:
        self._call = call
        self._media_timeout = media_timeout
        self._control_timeout = control_timeout
        self._clock = clock
        self._group: asyncio.TaskGroup | None = None

    def start(self, group: asyncio.TaskGroup) -> None:
        """Watch what is there from the first moment."""
        self._group = group
        group.create_task(self._leg_end())
        group.create_task(self._leg_events())
        group.create_task(self._orders())

    def watch_seat(self, seat: Seat) -> None:
        self._start(self._seat_events(seat))

    def watch_duration(self) -> None:
        self._start(self._duration())

    def _start(self, watcher: Coroutine[None, None, None]) -> None:
        if self._group is None:
            raise RuntimeError("watchers are started first")
        self._group.create_task(watcher)

    async def _leg_end(self) -> None:
        ending = await self._call.leg.ended()
        raise leg_ended(ending, self._call.answered)

    async def _leg_events(self) -> None:
        async for event in self._call.leg.events():
            match event:
                case Digit(digit):
                    await self._pressed(digit)
                case MediaLost():
                    await self._connect_again()
                case ControlLost():
                    self._call.control.clear()
                    self._start(self._without_control())
                case ControlBack():
                    self._call.control.set()
                    await self._control_is_back()
                case Held() | Resumed():
                    log.info("held" if isinstance(event, Held) else "resumed")

    async def _pressed(self, digit: str) -> None:
        if self._call.note.state is CallState.PIN:
            self._call.press(digit)
        elif self._call.seat is not None and self._call.seat_is_open:
            await self._call.seat.publish_digit(digit)

    async def _connect_again(self) -> None:
        """The audio connection broke: the PBX plays hold music under its lease; give it a fresh address before that runs out."""
        call = self._call
        if call.sound is None or not call.answered:
            return
        try:
            async with asyncio.timeout(self._media_timeout):
                address = await call.sound.invite()
                await command(call, lambda: call.leg.connect(address))
                await call.sound.connected()
        except (TimeoutError, Unavailable) as error:
            detail = str(error) or f"no audio within {self._media_timeout:g} s"
            raise CallOver(EndReason.MEDIA_FAILED, detail=detail, fall_back=True) from error
        log.warning("audio is back after a loss")
        if call.note.state is CallState.PIN:
            call.press(AskAgain())

    async def _control_is_back(self) -> None:
        """Keys pressed meanwhile are lost, and so is word of a loss of media."""
        call = self._call
        if call.note.state is CallState.PIN:
            call.press(AskAgain())
        if call.sound is not None and call.answered and not (await call.sound.snapshot()).connected:
            await self._connect_again()

    async def _without_control(self) -> None:
        """Unanswered, the PBX's own lease has taken the call to the fallback before our patience ends. Answered, the call talks on
        as long as its audio flows; when that is gone too, the PBX is."""
        call = self._call
        try:
            if call.answered and call.sound is not None:
                await self._first_of(call.control.wait(), call.sound.disconnected())
                async with asyncio.timeout(1.0):
                    await call.control.wait()
            else:
                async with asyncio.timeout(self._control_timeout):
                    await call.control.wait()
        except TimeoutError:
            raise CallOver(EndReason.PBX_GONE, EndedBy.PBX, detail="the PBX cannot be reached", gone=True) from None

    @staticmethod
    async def _first_of(one: Awaitable[object], other: Awaitable[object]) -> None:
        tasks = [asyncio.ensure_future(one), asyncio.ensure_future(other)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _seat_events(self, seat: Seat) -> None:
        call = self._call
        async for event in seat.events():
            match event:
                case DigitsToSend(digits):
                    await command(call, lambda digits=digits: call.leg.send_digits(digits))  # type: ignore[misc]  # bound per event
                case SeatLost():
                    log.warning("the room is lost for the moment")
                    self._start(self._comfort())
                case SeatBack():
                    log.warning("the room is back")
                    if call.sound is not None:
                        await call.sound.stop()
                case SeatGone(reason):
                    raise CallOver(_SEAT_GONE.get(reason, EndReason.ROOM_CLOSED), EndedBy.ROOM, detail=reason)

    async def _comfort(self) -> None:
        if self._call.sound is not None and self._call.answered:
            await self._call.sound.play(Clip(ClipName.COMFORT, loop=True))

    async def _duration(self) -> None:
        over_at = self._call.note.over_at
        if over_at is not None:
            await asyncio.sleep(max(0.0, over_at - self._clock.now()))
            raise CallOver(EndReason.MAX_DURATION, detail="the longest call allowed is over")

    async def _orders(self) -> None:
        while True:
            match await self._call.orders.get():
                case HangUp(reason):
                    raise CallOver(reason, detail="somebody asked for it", status=503 if reason is EndReason.SHUTDOWN else 486)
                case Transfer() as order:
                    await self._transfer(order)

    async def _transfer(self, order: Transfer) -> None:
        """The seat is kept until the result is known; refused, the caller comes back to it."""
        call = self._call
        try:
            result = await call.leg.transfer(order.to, order.headers)
        except RoomlineError as error:
            result = TransferResult(ok=False, reason=str(error))
        if not order.result.done():
            order.result.set_result(result)
        if result.ok:
            raise CallOver(EndReason.TRANSFERRED, detail=f"handed on to {order.to}")
        log.warning("the transfer was refused", to=order.to, sip_status=result.sip_status, why=result.reason)
        await self._connect_again()
