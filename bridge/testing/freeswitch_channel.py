"""A call in the scripted FreeSWITCH: its park loop, its applications and its unicast audio, as a FreeSWITCH 1.11 was seen to have them.

What a caller does is for the test to say (`press`, `hold`, `hang_up`); what is told of it goes through the server that holds the call.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

FRAME_SECONDS = 0.02


class Switch(Protocol):
    """What a channel needs of the FreeSWITCH it is in."""

    def tell(self, name: str, headers: Mapping[str, str], body: str = "") -> None:
        """An event, to whom it concerns."""

    def gone(self, channel: "SwitchChannel") -> None: ...

    def crash(self, why: str) -> None:
        """The whole process ends, with all its calls."""


@dataclass(eq=False)
class SwitchChannel:
    """One call. `destination`, `context` and `dialplan` are where its dialplan is; `loop` counts the park loops it has been in."""

    switch: Switch
    unique_id: str
    destination: str = "+15550100"
    context: str = "roomline"
    dialplan: str = "XML"
    state: str = "CS_EXECUTE"
    direction: str = "inbound"
    answered: bool = False
    codec: str = "PCMU"
    rate: int = 8000
    parked: bool = False
    application: str = "park"
    variables: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    """The applications that ran, in order."""
    digits_sent: str = ""
    heard: bytearray = field(default_factory=bytearray)
    """What the caller heard of us."""
    says: bytes = b"\x00"
    """One byte of what the caller says, over and over."""
    ended: str = ""
    """The hang-up cause."""
    unicast: "Unicast | None" = None
    unicast_used: bool = False
    packets: int = 0
    sends: bool = True
    """Whether the caller sends anything: with it, each look at the count of their packets finds another one."""
    idle_silence: bool = False
    """Whether its park loop writes silence of its own over whatever comes by unicast (danger 4)."""

    @property
    def name(self) -> str:
        return f"sofia/external/{self.destination}@203.0.113.7"

    @property
    def facts(self) -> dict[str, str]:
        """The headers that all events of a channel have."""
        state = "hangup" if self.ended else "answered" if self.answered else "ringing"
        facts = {
            "Channel-State": self.state,
            "Channel-Call-State": "HELD" if self.variables.get("held") else "ACTIVE" if self.answered else "RINGING",
            "Channel-Name": self.name,
            "Unique-ID": self.unique_id,
            "Call-Direction": self.direction,
            "Answer-State": state,
            "Caller-Dialplan": self.dialplan,
            "Caller-Caller-ID-Name": self.variables.get("sip_from_display", ""),
            "Caller-Caller-ID-Number": self.variables.get("sip_from_user", ""),
            "Caller-Network-Addr": self.variables.get("sip_network_ip", ""),
            "Caller-Destination-Number": self.destination,
            "Caller-Context": self.context,
        }
        if self.answered:
            facts |= {"Channel-Read-Codec-Name": self.codec, "Channel-Read-Codec-Rate": str(self.rate)}
        if self.ended:
            facts["Hangup-Cause"] = self.ended
        return facts

    def tell(self, name: str, headers: Mapping[str, str] | None = None) -> None:
        self.switch.tell(name, {**self.facts, **{f"variable_{key}": value for key, value in self.variables.items()}, **(headers or {})})

    # What is done with it

    def park(self) -> None:
        self.parked, self.application, self.unicast_used = True, "park", False
        self._begin_reading()
        self.tell("CHANNEL_PARK")

    def _begin_reading(self) -> None:
        """A park loop looks once, as soon as there is media (switch_ivr_park)."""
        if self.answered and self.parked:
            self.idle_silence = self.variables.get("send_silence_when_idle", "0") not in ("", "0")

    def unpark(self) -> None:
        if self.parked:
            self.parked = False
            self.end_unicast()
            self.tell("CHANNEL_UNPARK")

    def transfer(self, extension: str, dialplan: str = "XML", context: str = "") -> None:
        """As uuid_transfer: each costs one of the forwards that the call may make (switch_ivr.c)."""
        limit = "max_session_transfers" if "max_session_transfers" in self.variables else "max_forwards"
        left = int(self.variables.get(limit, "70")) - 1
        if left <= 0:
            self.hang_up("EXCHANGE_ROUTING_ERROR")
            return
        self.variables[limit] = str(left)
        self.context, self.dialplan = context or self.context, dialplan
        if dialplan != "inline":
            self.destination = extension
        self.unpark()
        self.end_unicast()
        self.application = extension
        if dialplan == "inline" and extension == "park":
            self.park()

    def execute(self, application: str, argument: str) -> None:
        self.said.append(f"{application} {argument}".strip())
        match application:
            case "answer":
                self.answer()
            case "ring_ready":
                self.tell("CHANNEL_PROGRESS")
            case "respond" if not self.answered:
                self.variables |= {"sip_term_status": argument, "sip_hangup_disposition": "send_refuse"}
                self.hang_up("CALL_REJECTED")
            case "playback" | "endless_playback":
                self.end_unicast()
            case _:
                pass

    def answer(self) -> None:
        if self.answered or self.ended:
            return
        offered = self.variables.get("offers", "PCMU").split(",")
        wanted = re.split("[,:]", (self.variables.get("absolute_codec_string") or self.variables.get("offers", "PCMU")).removeprefix("^^:"))
        common = [codec for codec in wanted if codec in offered]
        if not common:
            self.hang_up("INCOMPATIBLE_DESTINATION")
            return
        self.codec = common[0]
        self.rate = {"G722": 16000, "opus": 48000}.get(self.codec, 8000)
        self.answered = True
        # As switch_rtp.c does by itself: "many devices can't handle gaps in SRTP streams".
        silent = self.variables.get("send_silence_when_idle", "0") in ("", "0")
        if silent and self.variables.get("rtp_secure_media") == "true" and self.variables.get("srtp_allow_idle_gaps") != "true":
            self.variables["send_silence_when_idle"] = "-1"
        self._begin_reading()
        self.tell("CHANNEL_ANSWER")

    async def start_unicast(self, host: str, port: int) -> None:
        """As the park loop does it: once, and with no thought for whether there is media."""
        if not self.answered:
            self.switch.crash("unicast on a call without media")
            return
        if self.unicast_used or not self.parked:
            return
        self.unicast_used = True
        unicast = Unicast(self)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: unicast, ("127.0.0.1", 0), None)
        unicast.send_to((host, port))
        self.unicast = unicast

    def end_unicast(self) -> None:
        unicast, self.unicast = self.unicast, None
        if unicast is not None:
            unicast.close()

    # What the caller does

    def press(self, digit: str, source: str = "RTP", at: int = 1795327464800884) -> None:
        headers = {"DTMF-Digit": digit, "DTMF-Duration": "1440", "DTMF-Source": source, "Event-Date-Timestamp": str(at)}
        self.switch.tell("DTMF", {**self.facts, **headers})

    def hold(self) -> None:
        self.variables["held"] = "1"
        self.tell("CHANNEL_HOLD")

    def resume(self) -> None:
        self.variables.pop("held", None)
        self.tell("CHANNEL_UNHOLD")

    def caller_hangs_up(self) -> None:
        """Of a BYE the first event has a status and no disposition yet (1.10, measured)."""
        self.variables["sip_term_status"] = "200" if self.answered else "487"
        if not self.answered:
            self.variables["sip_hangup_disposition"] = "recv_cancel"
        self.hang_up("NORMAL_CLEARING" if self.answered else "ORIGINATOR_CANCEL")

    def hang_up(self, cause: str) -> None:
        if self.ended:
            return
        self.ended, self.state = cause, "CS_HANGUP"
        self.end_unicast()
        self.tell("CHANNEL_HANGUP")
        if self.parked:
            self.unpark()
        self.state = "CS_REPORTING"
        self.switch.gone(self)
        self.tell("CHANNEL_HANGUP_COMPLETE")


class Unicast(asyncio.DatagramProtocol):
    """The audio of a call: a datagram every 20 ms, and whatever comes back is what the caller hears; an empty one is the last."""

    def __init__(self, channel: SwitchChannel) -> None:
        self._channel = channel
        self._transport: asyncio.DatagramTransport | None = None
        self._to: tuple[str, int] = ("127.0.0.1", 0)
        self._beat: asyncio.TimerHandle | None = None
        self._deaf = False
        self.frames_sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def send_to(self, address: tuple[str, int]) -> None:
        self._to = address
        self._send()

    def _send(self) -> None:
        size = self._channel.rate // 50 * 2
        if self._transport is not None:
            self._transport.sendto(self._channel.says * size, self._to)
            self.frames_sent += 1
            self._channel.packets += self._channel.sends
        self._beat = asyncio.get_running_loop().call_later(FRAME_SECONDS, self._send)

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        self._deaf = self._deaf or not data
        if not self._deaf:
            self._channel.heard += bytes(len(data)) if self._channel.idle_silence else data

    def error_received(self, exc: Exception) -> None:
        """Nobody is there: FreeSWITCH does not mind."""

    def close(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        if self._transport is not None:
            self._transport.close()
        self._transport = None
