"""The carrier: a second Asterisk that really calls by SIP, for a test or the demo that wants to be the caller.

    async with Carrier(asterisk, folder) as carrier:
        call = await carrier.call("5550100", to=("127.0.0.1", 5060))
        await call.answered()
        await call.press("1234#")
        ended = await call.ended()

It knows nothing of Roomline. Limits: it cannot put a call on hold, and it answers no calls.
"""

import asyncio
import contextlib
import secrets
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.errors import RoomlineError
from bridge.testing.ami import Ami, AmiRefused, Message
from bridge.testing.asterisk_process import AsteriskProcess, Manager
from bridge.testing.carrier_config import CODECS, EAR_CONTEXT, CarrierSettings, Keys, Softphone, carrier_files, endpoint_name
from bridge.testing.ear import Ear, EarServer
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.phone import Phone
from bridge.testing.ports import LOOPBACK, free_port, free_rtp_range
from bridge.testing.recording import Recording, Samples

SipAddress = tuple[str, int]

_STATUS_OF_CAUSE = {
    1: 404,
    3: 404,
    16: 487,
    17: 486,
    18: 408,
    19: 480,
    20: 480,
    21: 603,
    22: 410,
    34: 503,
    38: 500,
    42: 503,
    58: 488,
    127: 500,
}
"""For an Asterisk that does not tell the SIP status (before 20.17 and 22.7): what the Q.850 cause most likely stood for."""


class CallEnded(RoomlineError):  # noqa: N818  (an ordinary event in a call's life)
    """What was waited for cannot come any more. `.ending` says how the call ended."""

    def __init__(self, waited_for: str, ending: "CallEnding") -> None:
        super().__init__(f"the call ended before it was {waited_for}: {ending}")
        self.ending = ending


@dataclass(frozen=True, slots=True)
class CallEnding:
    """How a call ended, as the caller's side saw it.

    `sip_status` is the final answer to the INVITE: 200 when it was answered, 487 when we gave up. `exact` is False where the
    carrier's Asterisk is too old to tell it and it was guessed from `cause` (Q.850).
    """

    sip_status: int
    cause: int
    cause_text: str
    by_us: bool
    at: float
    exact: bool = True


class CarrierCall(ABC):
    """One call from a carrier. Times are `time.monotonic`; every wait has a limit and raises TimeoutError after it."""

    def __init__(self, ear: Ear, caller: str, to: str) -> None:
        self.id = f"call-{uuid.uuid4()}"
        self.caller = caller
        self.to = to
        self.channel = ""
        self.ear = ear
        self.placed_at = time.monotonic()
        self.ringing_at: float | None = None
        self.answered_at: float | None = None
        self.ending: CallEnding | None = None
        self.keys_heard = ""
        """What the PBX has sent as RFC 4733 events."""
        self._ringing = asyncio.Event()
        self._answered = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def heard(self) -> Recording:
        return self.ear.heard

    @property
    def said(self) -> Recording:
        return self.ear.said

    async def ringing(self, timeout: float = 10.0) -> float:
        """Returns when a 180 has come, with the seconds since the call was placed. Raises CallEnded."""
        await self._until(self._ringing, "ringing", timeout)
        assert self.ringing_at is not None  # noqa: S101  (set before the event)
        return self.ringing_at - self.placed_at

    async def answered(self, timeout: float = 30.0) -> float:
        """Returns when the call is answered and its audio is here, with the seconds since it was placed. Raises CallEnded."""
        await self._until(self._answered, "answered", timeout)
        await self._until(self.ear.connected, "heard", timeout)
        assert self.answered_at is not None  # noqa: S101  (set before the event)
        return self.answered_at - self.placed_at

    async def ended(self, timeout: float = 30.0) -> CallEnding:
        async with asyncio.timeout(timeout):
            await self._ended.wait()
        assert self.ending is not None  # noqa: S101  (set before the event)
        return self.ending

    async def say(self, samples: Samples, rate: int | None = None) -> float:
        """See `Ear.say`."""
        return await self.ear.say(samples, rate)

    async def say_file(self, path: Path) -> float:
        return await self.ear.say_file(path)

    @abstractmethod
    async def press(self, digits: str, *, duration_ms: int = 100, gap_ms: int = 150) -> None:
        """Press keys one after another. Raises CallEnded when the call ends meanwhile."""

    @abstractmethod
    async def hang_up(self) -> None:
        """End the call: BYE when it is answered, CANCEL before. Idempotent; returns when it has ended."""

    async def _until(self, event: asyncio.Event, what: str, timeout: float) -> None:
        """Wait for the event or the end of the call, whichever comes first."""
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._ended.wait())]
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if event.is_set():
            return
        if self.ending is not None:
            raise CallEnded(what, self.ending)
        raise TimeoutError(f"the call to {self.to} was not {what} within {timeout} s")

    def _rang(self) -> None:
        if not self._ringing.is_set():
            self.ringing_at = time.monotonic()
            self._ringing.set()

    def _was_answered(self) -> None:
        if not self._answered.is_set():
            self.answered_at = time.monotonic()
            self._answered.set()

    def _is_over(self, ending: CallEnding) -> None:
        self.ending = ending
        self._ended.set()


class AsteriskCall(CarrierCall):
    """A channel of the carrier's Asterisk, which gives up after `ring_for` seconds."""

    def __init__(self, carrier: "Carrier", ear: Ear, caller: str, to: str, ring_for: float) -> None:
        super().__init__(ear, caller, to)
        self._carrier = carrier
        self._ring_for = ring_for
        self._hung_up_by_us = False
        self._placed = asyncio.Event()

    async def press(self, digits: str, *, duration_ms: int = 100, gap_ms: int = 150) -> None:
        """Asterisk makes no press shorter than 100 ms; with a gap under 45 ms after that, the PBX's Asterisk tells `DTMFEnd` twice or loses
        a key; on a busy machine gaps shrink, which the default allows for."""
        async with await self._carrier.manager.connect(events=False) as keys:
            for digit in digits:
                began = time.monotonic()
                try:
                    await keys.ask("PlayDTMF", Channel=self.channel, Digit=digit, Duration=str(duration_ms))
                except AmiRefused:
                    raise CallEnded("pressed", await self.ended()) from None
                await asyncio.sleep(max(0.0, began + (duration_ms + gap_ms) / 1000 - time.monotonic()))

    async def hang_up(self) -> None:
        if self.ending is None:
            self._hung_up_by_us = True
            await self._until(self._placed, "placed", 5)
            with contextlib.suppress(AmiRefused):  # it has just ended by itself; what follows waits for that
                await self._carrier.ami.ask("Hangup", Channel=self.channel, Cause="16")
            await self.ended(10)

    # From here on: what the carrier's manager tells.

    def told(self, message: Message) -> None:
        now = time.monotonic()
        match message.event:
            case "Newchannel":
                self.channel = message["Channel"]
                self._placed.set()
            case "Newstate" if message["ChannelStateDesc"] == "Ringing":
                self._rang()
            case "Newstate" if message["ChannelStateDesc"] == "Up":
                self._was_answered()
            case "DTMFEnd" if message["Direction"] == "Received":
                self.keys_heard += message["Digit"]
            case "Hangup":
                self._end(now, message)
            case "OriginateResponse" if message["Response"] == "Failure" and not self.channel:
                # The carrier itself could not make the call: nothing went out. (With a channel, its Hangup tells.)
                self._is_over(CallEnding(0, 0, "the carrier could not place the call", by_us=True, at=now, exact=False))

    def _end(self, now: float, message: Message) -> None:
        cause, tech = int(message["Cause"] or 0), message["TechCause"]
        ending = CallEnding(200, cause, message["Cause-txt"], by_us=self._hung_up_by_us, at=now)
        if not self._answered.is_set():
            if now - self.placed_at >= self._ring_for:
                # Asterisk's own patience: it sends the CANCEL, and tells a 480 that nobody has sent.
                ending = replace(ending, sip_status=487, by_us=True)
            elif tech.isdigit():
                ending = replace(ending, sip_status=int(tech))
            elif self._hung_up_by_us:
                ending = replace(ending, sip_status=487)
            else:
                ending = replace(ending, sip_status=_STATUS_OF_CAUSE.get(cause, 603), exact=False)
        self._is_over(ending)


class Carrier:
    """`async with Carrier(asterisk, folder)`: starts the Asterisk and the ears' server, ends both and every call."""

    def __init__(
        self, asterisk: Asterisk, folder: Path, *, host: str = "127.0.0.2", calls_at_once: int = 50, softphone: Softphone | None = None
    ) -> None:
        manager = Manager(LOOPBACK, free_port(), "test", secrets.token_urlsafe(18))
        self.settings = CarrierSettings(
            manager, softphone.port if softphone else free_port(host), free_rtp_range(calls_at_once, host), host, softphone
        )
        self.process = AsteriskProcess(asterisk, folder, carrier_files(self.settings), manager)
        self.calls: list[CarrierCall] = []
        self._ears = EarServer()
        self._ami: Ami | None = None
        self._live: dict[str, AsteriskCall] = {}
        self._loads = 0
        self.default_to: SipAddress | None = None

    @property
    def manager(self) -> Manager:
        return self.settings.manager

    @property
    def sip_address(self) -> SipAddress:
        """Where its calls come from, and where callers may be handed on to."""
        return self.settings.host, self.settings.sip_port

    @property
    def ami(self) -> Ami:
        if self._ami is None:
            raise RuntimeError("the carrier has not been started")
        return self._ami

    async def call(
        self,
        number: str,
        *,
        to: SipAddress | None = None,
        caller: str = "",
        name: str = "",
        headers: Mapping[str, str] | None = None,
        codec: str = "ulaw",
        keys: Keys = Keys.RFC4733,
        ring_for: float = 120.0,
    ) -> CarrierCall:
        """Send an INVITE to `number` at the SIP address `to`; returns at once, the call's own waits tell the rest.

        `caller` and `name` are the From header's user and display name; without `caller` each call gets a number of its own, by which
        it is found again. `headers` go into the INVITE. The carrier gives up (CANCEL) after `ring_for` seconds.
        """
        address = to or self.default_to
        if address is None:
            raise ValueError("call whom? give `to` or set `default_to`")
        ear = Ear(CODECS[codec])
        caller = caller or f"+1555900{len(self.calls) + 1:04d}"
        call = AsteriskCall(self, ear, caller, number, ring_for)
        self._ears.expect(ear)
        self._live[call.id] = call
        self.calls.append(call)
        variables = [("EAR_ID", ear.id), ("EAR_ADDRESS", self._ears.address)]
        variables += [(f"PJSIP_HEADER(add,{header})", _escaped(value)) for header, value in (headers or {}).items()]
        try:
            await self.ami.ask(
                "Originate",
                variables=variables,
                Channel=f"PJSIP/{endpoint_name(codec, keys)}/sip:{number}@{address[0]}:{address[1]}",
                ChannelId=call.id,
                Context=EAR_CONTEXT,
                Exten=str(ear.rate),
                Priority="1",
                CallerID=f'"{name}" <{caller}>' if name else f"<{caller}>",
                Timeout=str(round(ring_for * 1000)),
                Async="true",
                ActionID=call.id,
            )
        except BaseException:
            self._forget(call)
            raise
        return call

    async def place_load(self, number: str, *, to: SipAddress | None = None, codec: str = "ulaw") -> None:
        """A call that says a test tone until it ends and that nobody listens to: it costs this process nothing."""
        address = to or self.default_to
        if address is None:
            raise ValueError("call whom? give `to` or set `default_to`")
        self._loads += 1
        await self.ami.ask(
            "Originate",
            Channel=f"PJSIP/{endpoint_name(codec, Keys.RFC4733)}/sip:{number}@{address[0]}:{address[1]}",
            Application="Milliwatt",
            CallerID=f"<+1555800{self._loads:05d}>",
            Timeout="60000",
            Async="true",
        )

    def phone(self, *, refer_answer: str = "202 Accepted", refer_status: int = 200) -> Phone:
        """One beside the carrier, that calls where it does."""
        if self.default_to is None:
            raise ValueError("call whom? set `default_to`")
        return Phone(self.default_to, refer_answer=refer_answer, refer_status=refer_status)

    async def channels(self) -> list[str]:
        """The names of the channels that are up."""
        return [message["Channel"] for message in await self.ami.collect("CoreShowChannels", "CoreShowChannel", "CoreShowChannelsComplete")]

    async def hang_up_all(self) -> None:
        """Whatever is up here: a leg that was handed on is another channel than the call's."""
        for channel in await self.channels():
            with contextlib.suppress(AmiRefused):  # gone meanwhile
                await self.ami.ask("Hangup", Channel=channel)

    async def start(self) -> None:
        await self._ears.__aenter__()
        try:
            await self.process.start()
            self._ami = await self.manager.connect()
            self._ami.add_listener(self._told)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends what is left of calls with the process."""
        try:
            if self._ami is not None:
                await self._ami.close()
            for call in self.calls:
                await call.ear.close()
        finally:
            try:
                await self.process.stop()
            finally:
                await self._ears.__aexit__()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def _told(self, message: Message) -> None:
        call = self._live.get(message["Uniqueid"]) or self._live.get(message["ActionID"])
        if call is not None:
            call.told(message)
            if call.ending is not None:
                self._forget(call)

    def _forget(self, call: AsteriskCall) -> None:
        self._live.pop(call.id, None)
        self._ears.forget(call.ear)


def _escaped(value: str) -> str:
    """A value for AMI's Variable, which splits at commas and eats quotes and backslashes."""
    return "".join(f"\\{character}" if character in '\\",' else character for character in value)
