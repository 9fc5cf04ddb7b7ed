"""One phone call as Asterisk holds it: a channel, moved between the contexts of dialplan/asterisk/roomline.conf."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

import structlog

from bridge.errors import LegGone, LocalProtocolError, Unavailable
from bridge.model.caller import Caller
from bridge.model.ending import EndedBy, Ending, EndReason
from bridge.model.media_address import Carriage, MediaAddress, Stream
from bridge.pbx.asterisk.notes import note_variables
from bridge.pbx.asterisk.wire import Answer, Headers
from bridge.pbx.digits_out import TONE, in_their_time
from bridge.pbx.leg_events import LegEvents
from bridge.pbx.port import LegEvent, TransferResult

log = structlog.get_logger(__name__)

TRANSFER_LIMIT = 65.0
"""Seconds: the dialplan gives a transfer 60."""

DIAL_TONE = "425/1000,0/4000"
"""ETSI's ringing tone, as LiveKit's (livekit-sip-semantics.md §3.9)."""

_CAUSES = {403: 21, 404: 1, 408: 18, 410: 22, 480: 19, 486: 17, 488: 58, 500: 38, 503: 34}
"""Q.850 causes for channels that know no SIP statuses; the nearest for others (asterisk.md)."""

MOVE_LIMIT, MOVE_PAUSE = 10.0, 0.02
"""Seconds for a channel to go where it was sent before it can be sent on, and between two looks."""

_ON_ITS_WAY = "channel not up."
"""What Redirect is refused with while an earlier one has not been carried out (on a busy machine), and when the channel is just being
hung up: then the event of that is on its way to us."""

_COUNT = re.compile(r"[0-9]{1,10}")


class Commander(Protocol):
    """What a leg needs of its PBX: say something about a channel, if we still may, and see where it is."""

    @property
    def name(self) -> str: ...

    async def make_sure(self) -> None:
        """After an absence, see first what has become of our calls. Raises Unavailable, Superseded."""

    async def command(self, action: str, headers: Headers) -> Answer:
        """Raises Unavailable, Superseded."""

    async def play_digit(self, channel: str, digit: str, seconds: float) -> Answer:
        """Returns when it has sounded. Raises Unavailable."""

    async def locate(self, leg: "AsteriskLeg") -> None:
        """Tells the leg what has become of its channel. Raises Unavailable, Superseded."""


class AsteriskLeg:
    """Implements `pbx.port.Leg`. Told by `pbx.py` what happens to its channel."""

    def __init__(
        self,
        commander: Commander,
        channel: str,
        unique_id: str,
        caller: Caller,
        *,
        sip: bool,
        media_lease: int,
        note: str | None = None,
        note_generation: int = 0,
        answered: bool = False,
        outgoing: bool = False,
    ) -> None:
        """`outgoing`: Roomline has called them."""
        self._commander = commander
        self.channel = channel
        self._id = unique_id
        self._caller = caller
        self._sip = sip
        self._outgoing = outgoing
        self._note = note
        self._answered = answered
        self._picked_up = asyncio.Event()
        if answered:
            self._picked_up.set()
        self._note_generation = note_generation
        self._token = ""
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._events = LegEvents()
        self._transfer: asyncio.Future[TransferResult] | None = None
        self._our_status: int | None = None
        self._we_end_it = False
        self._wanted_end: tuple[str, dict[str, str | int]] | None = None
        self.media_lease = media_lease
        self.media_lease_runs = False

    @property
    def id(self) -> str:
        return self._id

    @property
    def pbx(self) -> str:
        return self._commander.name

    @property
    def caller(self) -> Caller:
        return self._caller

    @property
    def note(self) -> str | None:
        return self._note

    @property
    def answered(self) -> bool:
        return self._answered

    @property
    def carriage(self) -> Carriage:
        return Stream()

    @property
    def has_ended(self) -> bool:
        return self._ending.done()

    @property
    def is_being_transferred(self) -> bool:
        return self._transfer is not None and not self._transfer.done()

    # What the story does

    async def ring(self) -> None:
        if self._outgoing:
            return  # it is their phone that rings
        await self._move("roomline-ring")

    async def reject(self, status: int) -> None:
        if not 400 <= status <= 699:
            raise LocalProtocolError(f"{status} is no SIP status to reject a call with")
        if self._outgoing:
            await self.hang_up(EndReason.CANCELLED)
            return
        self._we_end_it, self._our_status = True, status
        if self._sip:
            await self._end_by("PJSIPHangup", Cause=status)
        else:
            await self._end_by("Hangup", Cause=_CAUSES.get(status, 31))

    async def fall_back(self) -> None:
        if self._outgoing:
            # Who was called is sent to no queue of the operator's.
            await self.hang_up(EndReason.FELL_BACK)
            return
        self.media_lease_runs = False
        await self._end_by("Redirect", Context="roomline-fallback", Exten="s", Priority=1)

    async def connect(self, address: MediaAddress, answer_headers: Mapping[str, str] | None = None) -> None:
        # Asterisk cannot add headers to a 200 (docs/differences.md), so `answer_headers` have nowhere to go.
        del answer_headers
        host = f"[{address.host}]" if ":" in address.host else address.host
        media = f"{address.token},{host}:{address.port},{address.rate},{self.media_lease}"
        self._token = address.token
        self.media_lease_runs = True
        await self._tell("Setvar", Variable="ROOMLINE_MEDIA", Value=media)
        await self._move("roomline-media")

    def set_media_lease(self, seconds: int) -> None:
        self.media_lease = seconds

    async def locate(self) -> None:
        if self.has_ended:
            raise LegGone(f"the call on {self.channel} has ended")
        await self._commander.locate(self)

    async def received_packets(self) -> int | None:
        # Any RTP: keys, comfort noise and unknown payloads too, also on hold (22.10, measured). Only PJSIP channels have a count.
        if not self._sip:
            return None
        count = (await self._tell("Getvar", Variable="CHANNEL(rtcp,rxcount)")).value
        return int(count) if _COUNT.fullmatch(count) else None

    async def send_digits(self, digits: str) -> None:
        async for digit in in_their_time(digits):
            await carry_out(partial(self._play_digit, digit), "PlayDTMF", self.channel)

    async def _play_digit(self, digit: str) -> Answer:
        await self._make_sure()
        return await self._commander.play_digit(self.channel, digit, TONE)

    async def transfer(self, to: str, headers: Mapping[str, str], *, dial_tone: bool = False) -> TransferResult:
        if any(character in to for character in ",|&()\r\n\0") or not to.isprintable():
            raise LocalProtocolError("the target of a transfer holds a character that a dialplan would read as more than a target")
        unsent = sorted(name for name in headers if name.lower() != "referred-by")
        if unsent:
            log.info("headers on a transfer are not sent: Asterisk cannot", names=unsent)
        referred_by = next((value for name, value in headers.items() if name not in unsent), "")
        self._transfer = asyncio.get_running_loop().create_future()
        try:
            await self._begin_transfer(f"PJSIP/{to}" if self._sip else to.strip("<>"), referred_by, dial_tone=dial_tone)
            async with asyncio.timeout(TRANSFER_LIMIT):
                return await self._transfer
        except TimeoutError:
            return TransferResult(ok=False, reason=f"no result within {TRANSFER_LIMIT:g} s")
        finally:
            self._transfer = None

    async def _begin_transfer(self, target: str, referred_by: str, *, dial_tone: bool) -> None:
        runs, self.media_lease_runs = self.media_lease_runs, False
        try:
            # The one header of a REFER that Asterisk lets be chosen (22.10, measured); empty, it writes its own.
            await self._tell("Setvar", Variable="SIPREFERREDBYHDR", Value=referred_by)
            await self._tell("Setvar", Variable="ROOMLINE_TARGET", Value=target)
            await self._tell("Setvar", Variable="ROOMLINE_DIALTONE", Value=DIAL_TONE if dial_tone else "")
            await self._move("roomline-transfer")
        except BaseException:
            self.media_lease_runs = runs and not self.has_ended
            raise

    async def remember(self, note: str) -> None:
        self._note_generation += 1
        for name, value in note_variables(note, self._note_generation):
            await self._tell("Setvar", Variable=name, Value=value)
        self._note = note

    async def hang_up(self, reason: EndReason) -> None:
        del reason  # a BYE by Asterisk carries none
        if self.has_ended:
            return
        self._we_end_it = True
        with contextlib.suppress(LegGone):
            await self._end_by("Hangup", Cause=16)

    async def picked_up(self) -> None:
        await self._picked_up.wait()

    async def ended(self) -> Ending:
        return await asyncio.shield(self._ending)

    def events(self) -> AsyncIterator[LegEvent]:
        return self._events.read()

    # What Asterisk does

    def happened(self, event: LegEvent) -> None:
        """Something happened on the channel."""
        self._events.put(event)

    def goes_on_with_media(self, token: str, *, runs: bool) -> None:
        """An earlier controller has connected it: `token` is of that connection, and while it `runs` its lease is ours to renew."""
        self._token, self.media_lease_runs = token, runs

    def was_answered(self) -> None:
        self._answered = True
        self._picked_up.set()

    def is_current_media(self, token: str) -> bool:
        """Whether a loss of media with this token is of the connection we asked for last, and not of one it was moved away from."""
        return token == self._token

    def transfer_ended(self, result: TransferResult) -> None:
        if self._transfer is not None and not self._transfer.done():
            self._transfer.set_result(result)

    def fell_back(self) -> None:
        self.end(Ending(EndedBy.PBX, cause="taken to the fallback", fell_back=True))

    def taken_away(self) -> None:
        self.end(Ending(EndedBy.PBX, cause="moved elsewhere in the PBX", taken_away=True))

    def hung_up(self, *, by_caller: bool, cause: str, sip_status: int | None = None) -> None:
        """The channel ends. The first word of it counts; a channel can go on existing for minutes after that (asterisk.md)."""
        if self._we_end_it:
            ending = Ending(EndedBy.ROOMLINE, cause, self._our_status)
        elif by_caller:
            ending = Ending(EndedBy.CALLER, cause, None if self._answered else (sip_status or 487))
        else:
            ending = Ending(EndedBy.PBX, cause, sip_status)
        self.end(ending)

    def end(self, ending: Ending) -> None:
        if self._ending.done():
            return
        self.media_lease_runs = False
        self._ending.set_result(ending)
        self._events.end()
        self.transfer_ended(TransferResult(ok=True, reason="the call ended during the transfer"))

    async def end_as_wanted(self) -> None:
        """Say once more how the call shall end, if its story is over and the PBX could not be told. Raises nothing."""
        if self._wanted_end is not None:
            action, headers = self._wanted_end
            try:
                await self._tell(action, **headers)
            except (LegGone, Unavailable) as error:
                log.warning("a call whose story is over could not be ended", channel=self.channel, error=str(error))

    async def _end_by(self, action: str, **headers: str | int) -> None:
        self._wanted_end = action, headers
        await self._tell(action, **headers)

    async def _move(self, context: str) -> None:
        await self._tell("Redirect", Context=context, Exten="s", Priority=1)

    async def _tell(self, action: str, **headers: str | int) -> Answer:
        return await carry_out(lambda: self._ask(action, headers), action, self.channel)

    async def _ask(self, action: str, headers: Headers) -> Answer:
        await self._make_sure()
        return await self._commander.command(action, {"Channel": self.channel, **headers})

    async def _make_sure(self) -> None:
        await self._commander.make_sure()
        if self.has_ended:
            raise LegGone(f"the call on {self.channel} has ended")


async def carry_out(ask: Callable[[], Awaitable[Answer]], action: str, channel: str) -> Answer:
    """Ask until the channel can do it. Raises LegGone when there is none, Unavailable when it is refused or takes too long."""
    try:
        async with asyncio.timeout(MOVE_LIMIT):
            while (answer := await ask()).message.endswith(_ON_ITS_WAY):  # noqa: ASYNC110  (the PBX tells no moment of it)
                await asyncio.sleep(MOVE_PAUSE)
    except TimeoutError:
        raise Unavailable(f"{channel} did not leave its place within {MOVE_LIMIT:g} s") from None
    if answer.ok:
        return answer
    if _means_gone(answer.message.lower()):
        raise LegGone(f"{channel}: {answer.message}")
    raise Unavailable(f"Asterisk refused {action}: {answer.message}")


def _means_gone(message: str) -> bool:
    """Each action has its own words for a channel that is no more."""
    return "no such channel" in message or "channel not found" in message or ("channel" in message and "not exist" in message)
