"""One phone call as FreeSWITCH holds it: a channel in a park loop, moved and heard by commands of the event socket."""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol

import structlog

from bridge.errors import LegGone, LocalProtocolError, Unavailable
from bridge.model.caller import Caller
from bridge.model.ending import EndedBy, Ending, EndReason
from bridge.model.media_address import Carriage, Datagrams, MediaAddress
from bridge.pbx.digits_out import TONE, in_their_time
from bridge.pbx.freeswitch.connection import Reply
from bridge.pbx.freeswitch.notes import kept_note
from bridge.pbx.freeswitch.places import NOTE, to_fallback
from bridge.pbx.leg_events import LegEvents
from bridge.pbx.port import Digit, LegEvent, MediaLost, TransferResult

log = structlog.get_logger(__name__)

LEASE: Final = 7
"""Seconds that a call waits without a word of ours, rings or hears music, before it goes to the fallback: 4 at least after our last word
could have been (pbx.py renews it once in two seconds or more often, and FreeSWITCH counts whole seconds, the running one among them)."""

TRANSFER_LIMIT: Final = 65.0
"""Seconds; FreeSWITCH itself has no limit, the subscription of a REFER has 60."""

REFER_PAUSE: Final = 0.2
"""Seconds between two looks at what has become of a REFER: its answer stands in channel variables, and no event tells of it."""

LISTENING: Final = 1.0
"""Seconds in which somebody who is still there sends a packet."""

ANSWER_LIMIT, PARK_LIMIT = 10.0, 5.0
"""Seconds for an answer to be sent, media and all, and for a call to be in a park loop of its own."""

SAME_PRESS: Final = 1_000_000
"""Microseconds within which the same digit by the other way (RFC 4733, SIP INFO) is the same press."""

PRESSES_KEPT: Final = 32
"""Presses that may still come by the other way: nobody presses as many within `SAME_PRESS`."""

DIAL_TONE: Final = "m:^:endless_playback:tone_stream://%(1000,4000,425);loops=-1^park"
"""ETSI's ringing tone, as LiveKit's (livekit-sip-semantics.md §3.9). `m:^:` has commas mean nothing; the park loop is for a tone that
cannot be played."""

HOLD_MUSIC: Final = "m:^:endless_playback:local_stream://default^park"

_CAUSES: Final = {
    403: "INCOMING_CALL_BARRED", 404: "UNALLOCATED_NUMBER", 408: "NO_USER_RESPONSE", 410: "NUMBER_CHANGED", 480: "NO_ANSWER",
    486: "USER_BUSY", 488: "INCOMPATIBLE_DESTINATION", 503: "NORMAL_TEMPORARY_FAILURE",
}  # fmt: skip
"""Hang-up causes for channels that know no SIP statuses (freeswitch.md)."""

_NOBODY_ANSWERED: Final = "no answer"
"""Of somebody whom we called: FreeSWITCH has given them up, and tells no status of it."""

_COUNT: Final = re.compile(r"[0-9]{1,12}")
_STATUS: Final = re.compile(r"[1-6][0-9]{2}")


class Loop(Enum):
    """Where the channel is. Unicast works once in each park loop, a second one is answered `+OK` and does nothing (danger 3)."""

    FRESH = auto()  # parked
    USED = auto()  # parked, with or after unicast
    COMING = auto()  # sent to a park loop of its own
    ELSEWHERE = auto()  # hears something that we have it play


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """What is known of a channel from the start."""

    unique_id: str
    caller: Caller
    fallback: str = ""
    codec: str = "PCMU"
    sip: bool = True
    outgoing: bool = False
    """Roomline has called them."""


class Commander(Protocol):
    """What a leg needs of its PBX: say something about a channel, if we still may, and see where it is."""

    @property
    def name(self) -> str: ...

    @property
    def media_host(self) -> str:
        """The PBX's own address for the audio of calls."""

    async def make_sure(self) -> None:
        """After an absence, see first what has become of our calls. Raises Unavailable, Superseded."""

    async def api(self, command: str) -> Reply:
        """Raises Unavailable, Superseded."""

    async def message(self, unique_id: str, headers: Mapping[str, str]) -> Reply:
        """Raises Unavailable, Superseded."""

    async def lease(self, leg: "FreeSwitchLeg") -> None:
        """Renews the leg's lease now. Raises Unavailable, Superseded."""

    def will_end(self, leg: "FreeSwitchLeg") -> None:
        """The channel has been told to end, or to go."""

    def let_go(self, leg: "FreeSwitchLeg") -> None:
        """The leg is over, the channel goes on without us."""

    async def locate(self, leg: "FreeSwitchLeg") -> None:
        """Tells the leg what has become of its channel. Raises Unavailable, Superseded."""


class FreeSwitchLeg:
    """Implements `pbx.port.Leg`. Told by `pbx.py` what happens to its channel."""

    def __init__(
        self,
        commander: Commander,
        facts: ChannelFacts,
        *,
        media_lease: int,
        loop: Loop,
        note: str | None = None,
        answered: bool = False,
    ) -> None:
        self._commander = commander
        self._facts = facts
        self._loop = loop
        self._note = note
        self._answered = answered
        self._picked_up = asyncio.Event()
        if answered:
            self._picked_up.set()
        self._fresh = asyncio.Event()
        if loop is Loop.FRESH:
            self._fresh.set()
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._events = LegEvents()
        self._presses: deque[tuple[str, str, int]] = deque(maxlen=PRESSES_KEPT)
        self._our_status: int | None = None
        self._we_end_it = False
        self._we_send_it_back = False
        self._refused_by_target: int | None = None
        self._wanted_end: str | Mapping[str, str] | None = None
        self._media_lease = media_lease
        self._has_media = False
        self._has_parked = loop is not Loop.COMING
        self.scheduled = ""
        """The scheduled command that is the lease. Empty: it is not known, or whether there are others beside it."""
        self.leased_at = float("-inf")
        self.leased_for = media_lease
        self.leasing = asyncio.Lock()

    @property
    def id(self) -> str:
        return self._facts.unique_id

    @property
    def pbx(self) -> str:
        return self._commander.name

    @property
    def caller(self) -> Caller:
        return self._facts.caller

    @property
    def note(self) -> str | None:
        return self._note

    @property
    def answered(self) -> bool:
        return self._answered

    @property
    def carriage(self) -> Carriage:
        return Datagrams(self._commander.media_host)

    @property
    def has_ended(self) -> bool:
        return self._ending.done()

    @property
    def lease(self) -> int:
        """Seconds until the PBX takes the call back when it hears nothing of us."""
        return self._media_lease if self._has_media else LEASE

    @property
    def at_its_end(self) -> str:
        """What happens when the lease runs out. Who was called is sent to no queue of the operator's."""
        return f"uuid_kill {self.id} NORMAL_TEMPORARY_FAILURE" if self._facts.outgoing else to_fallback(self.id, self._facts.fallback)

    @property
    def moves(self) -> bool:
        """Whether it is we who take it out of its park loop."""
        return self._loop in (Loop.COMING, Loop.ELSEWHERE)

    # What the story does

    async def ring(self) -> None:
        if not self._facts.outgoing:  # else it is their phone that rings
            await self._execute("ring_ready")

    async def reject(self, status: int) -> None:
        if not 400 <= status <= 699:
            raise LocalProtocolError(f"{status} is no SIP status to reject a call with")
        if self._facts.outgoing or self._answered:
            await self.hang_up(EndReason.CANCELLED)
            return
        self._we_end_it, self._our_status = True, status
        if self._facts.sip:
            await self._end_by({"call-command": "execute", "execute-app-name": "respond", "execute-app-arg": str(status)})
        else:
            await self._end_by(f"uuid_kill {self.id} {_CAUSES.get(status, 'CALL_REJECTED')}")

    async def fall_back(self) -> None:
        if self._facts.outgoing:
            await self.hang_up(EndReason.FELL_BACK)
            return
        self._we_send_it_back = True
        await self._end_by(to_fallback(self.id, self._facts.fallback))
        self._is_back()

    async def connect(self, address: MediaAddress, answer_headers: Mapping[str, str] | None = None) -> None:
        if not self._answered and not self._facts.outgoing:
            await self._answer(answer_headers or {})
        await self._into_a_fresh_loop()
        self._has_media = True
        await self._commander.lease(self)
        # Nothing may come between the look and the command: unicast on a call without media ends the whole FreeSWITCH (danger 1).
        if not self._answered:
            raise Unavailable(f"{self.id} is not answered")
        self._loop = Loop.USED
        self._fresh.clear()
        await self._message({
            "call-command": "unicast",
            "local-ip": self._commander.media_host,
            "local-port": "0",
            "remote-ip": address.host,
            "remote-port": str(address.port),
            "transport": "udp",
        })  # fmt: skip

    async def _answer(self, headers: Mapping[str, str]) -> None:
        variables = [f"absolute_codec_string={self._facts.codec}"]
        variables += [f"sip_rh_{name}={value}" for name, value in headers.items() if _is_plain(name, value)]
        await self._api(f"uuid_setvar_multi {self.id} {';'.join(variables)}")
        await self._execute("answer")
        # One that goes wrong ends the call; unicast queued behind it would find a call without media.
        await self._wait_for(self._picked_up, ANSWER_LIMIT, "was not answered")

    async def _into_a_fresh_loop(self) -> None:
        if self._loop in (Loop.USED, Loop.ELSEWHERE):
            await self._go(Loop.COMING, "park")
        try:
            await self._wait_for(self._fresh, PARK_LIMIT, "is in no park loop")
        except Unavailable:
            self._loop = Loop.ELSEWHERE
            raise

    async def _go(self, to: Loop, applications: str) -> None:
        """Out of the park loop it is in, which ends unicast."""
        self._loop = to
        self._fresh.clear()
        try:
            await self._api(f"uuid_transfer {self.id} {applications} inline")
        except BaseException:
            # It may have been heard all the same: the next way into a park loop is a transfer again.
            self._loop = Loop.ELSEWHERE
            raise

    async def play_hold_music(self) -> None:
        """While the call has no audio of ours."""
        self._has_media = False
        if self._answered:
            await self._go(Loop.ELSEWHERE, HOLD_MUSIC)

    def set_media_lease(self, seconds: int) -> None:
        self._media_lease = seconds

    async def locate(self) -> None:
        self._check()
        await self._commander.locate(self)

    async def received_packets(self) -> int | None:
        if not self._facts.sip:
            return None
        await self._api(f"uuid_set_media_stats {self.id}")
        count = (await self._api(f"uuid_getvar {self.id} rtp_audio_in_packet_count")).text
        return int(count) if _COUNT.fullmatch(count) else None

    async def send_digits(self, digits: str) -> None:
        async for digit in in_their_time(digits):
            await self._api(f"uuid_send_dtmf {self.id} {digit}@{round(TONE * 1000)}")

    async def transfer(self, to: str, headers: Mapping[str, str], *, dial_tone: bool = False) -> TransferResult:
        target = self._target(to)
        unsent = sorted(name for name, value in headers.items() if name.lower() == "referred-by" or not _is_plain(name, value))
        if unsent:
            log.info("headers on a transfer are not sent: FreeSWITCH cannot", names=unsent)
        variables = ["sip_refer_continue_after_reply=true", "sip_refer_status_code=", "sip_refer_target_status_code="]
        variables += [f"sip_h_{name}={value}" for name, value in headers.items() if name not in unsent]
        try:
            await self._api(f"uuid_setvar_multi {self.id} {';'.join(variables)}")
            if dial_tone:
                self._has_media = False
                await self._go(Loop.ELSEWHERE, DIAL_TONE)
            await self._api(f"uuid_deflect {self.id} {target}")
            async with asyncio.timeout(TRANSFER_LIMIT):
                return await self._outcome()
        except TimeoutError:
            return TransferResult(ok=False, reason=f"no result within {TRANSFER_LIMIT:g} s")
        finally:
            await self._take_back(header for header in headers if header not in unsent)

    async def _take_back(self, names: Iterable[str]) -> None:
        """The headers of a transfer are no headers of the next one. Where the caller sent one of the name, it is theirs again."""
        variables = [f"sip_h_{name}={value if _is_plain(name, value := self.caller.headers.get(name, '')) else ''}" for name in names]
        if variables and not self.has_ended:
            with contextlib.suppress(LegGone, Unavailable):
                await self._api(f"uuid_setvar_multi {self.id} {';'.join(variables)}")

    def _target(self, to: str) -> str:
        """FreeSWITCH sends REFER to sip addresses alone, and writes their parameters behind the address, where they mean nothing (1.10,
        measured). A number goes to who called, as a phone number there (RFC 3261 §19.1.6)."""
        target = to.strip("<>")
        if not target.isprintable() or any(character in target for character in " <>\"'\\?"):
            raise LocalProtocolError("the target of a transfer holds a character that FreeSWITCH would read as more than a target")
        scheme, _, rest = target.partition(":")
        address, _, parameters = rest.partition(";")
        if parameters:
            log.info("parameters of a transfer's target are not sent: FreeSWITCH cannot", parameters=parameters)
        if scheme.lower() == "tel":
            host = self.caller.source_address
            return f"sip:{address}@{f'[{host}]' if ':' in host else host}"
        if scheme.lower() != "sip":
            raise LocalProtocolError("FreeSWITCH hands calls on to sip: and tel: addresses only")
        return f"sip:{address}"

    async def _outcome(self) -> TransferResult:
        """What the caller's side said to the REFER, and then of the target. It may be told while nobody listens; variables keep it."""
        while True:
            if self.has_ended:
                return TransferResult(ok=True, reason="the call ended during the transfer")
            with contextlib.suppress(Unavailable):
                result = await self._look_at_the_transfer()
                if result is not None:
                    return result
            await asyncio.sleep(REFER_PAUSE)

    async def _look_at_the_transfer(self) -> TransferResult | None:
        try:
            at_target = await self._status("sip_refer_target_status_code")
            if at_target == 200:
                return TransferResult(True, at_target, "success")
            if at_target is not None:
                with contextlib.suppress(LegGone):
                    await self._end_without_a_caller(at_target)
                return TransferResult(False, at_target, "the target refused")
            answer = await self._status("sip_refer_status_code")
        except LegGone:
            return TransferResult(ok=True, reason="the call ended during the transfer")
        if answer is not None and answer >= 300:
            return TransferResult(ok=False, sip_status=answer, reason="the REFER was refused")
        return None

    async def _end_without_a_caller(self, at_target: int) -> None:
        """FreeSWITCH takes the end of a REFER's subscription for the end of the call, hangs up on the caller and keeps the channel, deaf to
        their side (up to 1.11.2: mod_sofia, sofia_handle_sip_i_notify; signalwire/freeswitch#3059). Then it ends here too."""
        before = await self.received_packets()
        await asyncio.sleep(LISTENING)
        if before is not None and await self.received_packets() == before:
            log.warning("the target of a transfer has refused, and FreeSWITCH has hung up on the caller with it", leg=self.id)
            self._refused_by_target = at_target
            await self._api(f"uuid_kill {self.id} BLIND_TRANSFER")

    async def _status(self, variable: str) -> int | None:
        text = (await self._api(f"uuid_getvar {self.id} {variable}")).text
        return int(text) if _STATUS.fullmatch(text) else None

    async def remember(self, note: str) -> None:
        await self._api(f"uuid_setvar {self.id} {NOTE} {kept_note(note)}")
        self._note = note

    async def hang_up(self, reason: EndReason) -> None:
        del reason  # a BYE by FreeSWITCH carries none
        if self.has_ended:
            return
        self._we_end_it = True
        with contextlib.suppress(LegGone):
            # Not by a message to the channel: what is queued before it, or plays, would come first.
            await self._end_by(f"uuid_kill {self.id} NORMAL_CLEARING")

    async def picked_up(self) -> None:
        await self._picked_up.wait()

    async def ended(self) -> Ending:
        return await asyncio.shield(self._ending)

    def events(self) -> AsyncIterator[LegEvent]:
        return self._events.read()

    # What FreeSWITCH does

    def happened(self, event: LegEvent) -> None:
        """Something happened on the channel."""
        self._events.put(event)

    def pressed(self, digit: str, source: str, at: int) -> None:
        """`source`: the way it came; a phone that sends each press by both has pressed once. `at`: microseconds."""
        for press in self._presses:
            other_digit, other_source, other_at = press
            if digit == other_digit and source != other_source and abs(at - other_at) < SAME_PRESS:
                # Each press has one twin; the next of the same key is a press of its own.
                self._presses.remove(press)
                return
        self._presses.append((digit, source, at))
        self.happened(Digit(digit.upper()))

    def parked(self) -> bool:
        """It is in a new park loop. True where that is the first of somebody whom we have called."""
        first, self._has_parked = not self._has_parked, True
        self._loop = Loop.FRESH
        self._fresh.set()
        return first

    def lost_media(self) -> None:
        self._has_media = False
        self.happened(MediaLost())

    def goes_on_with_media(self) -> None:
        """An earlier controller has connected it."""
        self._has_media = True

    def was_answered(self) -> bool:
        """Whether it is to be hung up: it was rejected while its answer was under way, and `respond` does nothing to an answered call."""
        self._answered = True
        self._picked_up.set()
        return self._our_status is not None

    def fell_back(self) -> None:
        self.end(Ending(EndedBy.PBX, cause="taken to the fallback", fell_back=True))

    def taken_away(self) -> None:
        self.end(Ending(EndedBy.PBX, cause="moved elsewhere in the PBX", taken_away=True))

    def hung_up(self, *, by_caller: bool, cause: str, sip_status: int | None = None) -> None:
        """The channel ends. The first word of it counts."""
        if self._we_send_it_back and not by_caller:
            self.fell_back()  # to an operator who has named no fallback
            return
        if self._refused_by_target is not None and not by_caller:
            cause = f"FreeSWITCH has hung up on the caller, because the target of their transfer refused ({self._refused_by_target})"
            ending = Ending(EndedBy.PBX, cause, transfer_refused=True)
        elif self._we_end_it:
            ending = Ending(EndedBy.ROOMLINE, cause, self._our_status)
        elif self._answered:
            ending = Ending(EndedBy.CALLER if by_caller else EndedBy.PBX, cause)
        elif by_caller and not self._facts.outgoing:
            ending = Ending(EndedBy.CALLER, cause, sip_status or 487)
        elif self._facts.outgoing and cause == _NOBODY_ANSWERED:
            ending = Ending(EndedBy.PBX, cause, sip_status or 480)
        else:
            ending = Ending(EndedBy.PBX, cause, sip_status)
        self.end(ending)

    def end(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)
            self._events.end()

    async def end_as_wanted(self) -> None:
        """Say once more how the call shall end, if its story is over and the PBX could not be told. Raises nothing."""
        if self._wanted_end is None or self.has_ended:
            return
        try:
            await self._end_by(self._wanted_end)
        except (LegGone, Unavailable) as error:
            log.warning("a call whose story is over could not be ended", leg=self.id, error=str(error))
        else:
            if self._we_send_it_back:
                self._is_back()

    def _is_back(self) -> None:
        self.fell_back()
        self._commander.let_go(self)

    async def _end_by(self, command: str | Mapping[str, str]) -> None:
        self._wanted_end = command
        if isinstance(command, str):
            await self._api(command)
        else:
            await self._message(command)
        self._commander.will_end(self)

    async def _wait_for(self, moment: asyncio.Event, limit: float, what: str) -> None:
        """Raises LegGone when the call ends first, Unavailable when it takes too long."""
        waiting = asyncio.ensure_future(moment.wait())
        either: set[asyncio.Future[Any]] = {waiting, self._ending}
        try:
            await asyncio.wait(either, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        self._check()
        if not moment.is_set():
            raise Unavailable(f"{self.id} {what} within {limit:g} s")

    async def _execute(self, application: str) -> Reply:
        return await self._message({"call-command": "execute", "execute-app-name": application})

    async def _message(self, headers: Mapping[str, str]) -> Reply:
        await self._commander.make_sure()
        self._check()
        return self._understood(await self._commander.message(self.id, headers))

    async def _api(self, command: str) -> Reply:
        await self._commander.make_sure()
        self._check()
        return self._understood(await self._commander.api(command))

    def _check(self) -> None:
        if self.has_ended:
            raise LegGone(f"the call {self.id} has ended")

    def _understood(self, reply: Reply) -> Reply:
        if reply.ok:
            return reply
        if means_gone(reply):
            raise LegGone(f"{self.id}: {reply.text}")
        raise Unavailable(f"FreeSWITCH refused: {reply.text}")


def means_gone(reply: Reply) -> bool:
    """Each command has its own words for a channel that is no more."""
    text = reply.text.lower()
    return any(words in text for words in ("no such channel", "invalid session id", "cannot locate session"))


def _is_plain(name: str, value: str) -> bool:
    """Whether a header can stand in a list of variables."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) is not None and value.isprintable() and not set(value) & set(";'\"\\")
