"""Who calls the scripted FreeSWITCH: a caller's end of its channels, with the face of `carrier.Carrier`. No SIP goes over a wire.

What a caller can do by SIP is done to the channel as it would come of it; what they get by SIP and RTP is told here.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from bridge.testing.carrier import CallEnded, CallEnding, CarrierCall
from bridge.testing.carrier_config import CODECS, TRANSFERRED_HZ, Keys
from bridge.testing.ear import Ear
from bridge.testing.freeswitch import FreeSwitchServer
from bridge.testing.freeswitch_audio import Sounding
from bridge.testing.freeswitch_channel import SwitchChannel
from bridge.testing.freeswitch_phone import SwitchPhone
from bridge.testing.pbx_config import CARRIER_ENDPOINT

CONTEXT: Final = "from-outside"
_OFFERS: Final = {"ulaw": "PCMU", "alaw": "PCMA", "g722": "G722"}


class SwitchCall(CarrierCall):
    """One call. Implements `freeswitch_channel.FarEnd`."""

    def __init__(self, ear: Ear, caller: str, to: str, keys: Keys) -> None:
        super().__init__(ear, caller, to)
        self.switch_channel: SwitchChannel | None = None
        """None until the INVITE has come in."""
        self._keys = keys
        self._hung_up_by_us = False
        self._elsewhere: _Elsewhere | None = None

    async def press(self, digits: str, *, duration_ms: int = 100, gap_ms: int = 150) -> None:
        for digit in digits:
            await asyncio.sleep(duration_ms / 1000)
            channel = self.switch_channel
            if self.ending is not None or channel is None:
                raise CallEnded("pressed", await self.ended())
            channel.press(digit, "RTP" if self._keys is Keys.RFC4733 else "ENDPOINT", round(time.time() * 1e6))
            await asyncio.sleep(gap_ms / 1000)

    async def hang_up(self) -> None:
        if self.ending is not None:
            return
        self._hung_up_by_us = True
        channel = self.switch_channel
        if channel is not None:
            channel.switch.when_awake(channel.caller_hangs_up)
        if self.ending is None:  # nobody is there to answer it
            self.ended_with(200 if self.answered_at is not None else 487)

    def here(self) -> bool:
        """Whether there is anything of it on the caller's side."""
        return self.ending is None or self._elsewhere is not None

    def leave(self) -> None:
        """Where they were handed on to."""
        if self._elsewhere is not None:
            self._elsewhere.close()
            self._elsewhere = None

    # What SIP and RTP bring

    def came_in(self, channel: SwitchChannel) -> None:
        self.channel, self.switch_channel = channel.name, channel

    def rings(self) -> None:
        self._rang()

    def answered_by_pbx(self) -> None:
        self.ear.connected.set()
        self._was_answered()

    def ended_with(self, status: int) -> None:
        if self.ending is None:
            if self._elsewhere is None:
                self.ear.line_closed()
            by_us = self._hung_up_by_us
            self._is_over(CallEnding(status, 16, "normal clearing" if by_us else "hung up", by_us=by_us, at=time.monotonic()))

    def hears(self, audio: bytes) -> None:
        self.ear.line_heard(time.monotonic(), np.frombuffer(audio, "<i2").astype(np.int16))

    def speaks(self, size: int) -> bytes | None:
        frame = self.ear.next_frame().astype("<i2").tobytes()
        assert len(frame) == size  # noqa: S101  (each codec has one rate, the ear's)
        return frame

    def gets_digits(self, digits: str) -> None:
        self.keys_heard += digits

    def referred(self, target: str) -> tuple[str, str]:
        """As the carrier that is an Asterisk does: it takes every REFER, and hands on who is bridged there, which a wideband caller is."""
        del target
        channel = self.switch_channel
        if self.ear.rate != 16000 or channel is None:
            return "202", "400"
        self._elsewhere = _Elsewhere(self)
        asyncio.get_running_loop().call_later(0.1, channel.caller_hangs_up)
        return "202", "200"


class _Elsewhere:
    """Where a caller has been handed on to: it sounds a tone."""

    frozen = idle_silence = False

    def __init__(self, call: SwitchCall) -> None:
        self._call = call
        self.rate = call.ear.rate
        self._sounding = Sounding(self)
        self._sounding.play(f"tone_stream://%(1000,0,{TRANSFERRED_HZ:g});loops=-1")

    def hears(self, audio: bytes) -> None:
        if self._call.ending is not None:
            self._call.hears(audio)

    def speaks(self, size: int) -> bytes | None:
        return bytes(size)

    def close(self) -> None:
        self._sounding.close()


class SwitchCarrier:
    """Calls into a scripted FreeSWITCH."""

    def __init__(self, server: FreeSwitchServer, host: str) -> None:
        """`host`: the address by which FreeSWITCH knows it."""
        self.calls: list[CarrierCall] = []
        self.running = True
        """Whether a FreeSWITCH hears INVITEs at all."""
        self._made: list[SwitchCall] = []
        self._phones = itertools.count(1)
        self._server = server
        self._host = host

    @property
    def sip_address(self) -> tuple[str, int]:
        return self._host, 5060

    async def call(
        self,
        number: str,
        *,
        caller: str = "",
        name: str = "",
        headers: Mapping[str, str] | None = None,
        codec: str = "ulaw",
        keys: Keys = Keys.RFC4733,
        ring_for: float = 120.0,
    ) -> SwitchCall:
        """See `Carrier.call`."""
        call = SwitchCall(Ear(CODECS[codec]), caller or f"+1555900{len(self.calls) + 1:04d}", number, keys)
        self.calls.append(call)
        self._made.append(call)
        variables = {
            **self._variables(number, call.caller, _OFFERS[codec]),
            "sip_from_display": name,
            "sip_call_id": call.id,
            # Known by their address (auth-calls with apply-inbound-acl; a user with a cidr).
            "user_name": CARRIER_ENDPOINT,
            "sip_authorized": "true",
            "sip_acl_authed_by": "carriers",
            **{f"sip_h_{header}": value for header, value in (headers or {}).items() if header.startswith(("X-", "P-"))},
        }
        loop = asyncio.get_running_loop()
        loop.call_soon(self._server.calls.when_awake, lambda: self._invite(call, variables))
        loop.call_later(ring_for, self._give_up, call)
        return call

    def phone(self, *, refer_answer: str = "202 Accepted", refer_status: int = 200) -> SwitchPhone:
        """See `Carrier.phone`."""

        def invite(phone: SwitchPhone, number: str) -> None:
            variables = self._variables(number, phone.caller, "PCMU")
            self._server.calls.when_awake(lambda: self._server.calls.incoming(CONTEXT, phone, variables))

        return SwitchPhone(f"+1555999{next(self._phones):04d}", invite, refer_answer, refer_status)

    def _variables(self, number: str, caller: str, offers: str) -> dict[str, str]:
        """What FreeSWITCH makes of an INVITE."""
        return {
            "destination": number,
            "sip_from_user": caller,
            "sip_from_display": "",
            "sip_from_host": self._host,
            "sip_from_tag": secrets.token_hex(4),
            "sip_call_id": secrets.token_hex(8),
            "sip_network_ip": self._host,
            "sofia_profile_name": "open",
            "offers": offers,
        }

    def _invite(self, call: SwitchCall, variables: Mapping[str, str]) -> None:
        if call.ending is None and self.running:
            self._server.calls.incoming(CONTEXT, call, variables)

    def _give_up(self, call: SwitchCall) -> None:
        if call.answered_at is None and call.ending is None and call.switch_channel is not None:
            call.switch_channel.switch.when_awake(call.switch_channel.caller_hangs_up)

    async def channels(self) -> list[str]:
        return [call.id for call in self._made if call.here()]

    async def hang_up_all(self) -> None:
        for call in self._made:
            await call.hang_up()
            call.leave()

    async def start(self) -> None:
        """It is there as long as this process is."""

    async def stop(self) -> None:
        await self.hang_up_all()
