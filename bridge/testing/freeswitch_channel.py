"""A call in the scripted FreeSWITCH: its park loop, its applications and its unicast audio, as a FreeSWITCH 1.11 was seen to have them.

What a caller does is for the test to say (`press`, `hold`, `hang_up`); what is told of it goes through the server that holds the call.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from bridge.testing.freeswitch_audio import Sounding, Unicast

STATUS_OF_CAUSE: Final = {
    "UNALLOCATED_NUMBER": 404, "NO_ROUTE_DESTINATION": 404, "USER_BUSY": 486, "CALL_REJECTED": 603, "INCOMING_CALL_BARRED": 403,
    "NORMAL_TEMPORARY_FAILURE": 503, "SWITCH_CONGESTION": 503, "NO_USER_RESPONSE": 408, "EXCHANGE_ROUTING_ERROR": 483,
    "INCOMPATIBLE_DESTINATION": 488, "ORIGINATOR_CANCEL": 487,
}  # fmt: skip
"""What an unanswered caller gets (freeswitch.md; mod_sofia.c for the others); 480 for all that is not named."""


class FarEnd(Protocol):
    """Who is at the other end of a call: what SIP and RTP bring them, and what they send."""

    def came_in(self, channel: "SwitchChannel") -> None:
        """The INVITE has made this channel."""

    def rings(self) -> None: ...
    def answered_by_pbx(self) -> None: ...
    def ended_with(self, status: int) -> None:
        """The final answer to the INVITE; 200 when there was a talk."""

    def hears(self, audio: bytes) -> None:
        """16-bit samples at the call's rate."""

    def speaks(self, size: int) -> bytes | None:
        """So many bytes of them; None when no packet comes."""

    def gets_digits(self, digits: str) -> None: ...
    def referred(self, target: str) -> tuple[str, str]:
        """The answer to a REFER, and the one that its target gave."""


class Switch(Protocol):
    """What a channel needs of the FreeSWITCH it is in."""

    def tell(self, name: str, headers: Mapping[str, str], body: str = "") -> None:
        """An event, to whom it concerns."""

    @property
    def frozen(self) -> bool:
        """The process is stopped."""

    def when_awake(self, act: Callable[[], object]) -> None:
        """Now, or as soon as it runs again."""

    def gone(self, channel: "SwitchChannel") -> None: ...

    def route(self, channel: "SwitchChannel") -> None:
        """Has the XML dialplan carry it on."""

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
    """What the caller heard of us, where there is no far end."""
    says: bytes = b"\x00"
    """One byte of what the caller says, over and over, where there is no far end."""
    far_end: FarEnd | None = None
    ended: str = ""
    """The hang-up cause."""
    unicast_used: bool = False
    packets: int = 0
    """What came from the caller as RTP."""
    sends: bool = True
    """Whether the caller sends anything: with it, each look at the count of their packets finds another one."""
    idle_silence: bool = False
    """Whether its park loop writes silence of its own over whatever comes by unicast (danger 4)."""
    moves: int = 0
    """How often it was sent elsewhere: what an extension had still to do is void then."""
    _sounding: Sounding | None = None

    @property
    def name(self) -> str:
        return f"sofia/external/{self.destination}@203.0.113.7"

    @property
    def frozen(self) -> bool:
        return self.switch.frozen

    @property
    def unicast(self) -> Unicast | None:
        return self._sounding.unicast if self._sounding is not None else None

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
            self._silence()
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
        self._silence()
        self.application = extension
        self.moves += 1
        if dialplan == "inline":
            self.run(_applications(extension))
        else:
            self.switch.route(self)

    def run(self, applications: "Iterator[tuple[str, str]]") -> None:
        """One after the other, until one that does not end by itself, or that sends the call elsewhere."""
        move = self.moves
        for application, argument in applications:
            self.application = f"{application}:{argument}"
            if application == "park":
                self.park()
            else:
                self.execute(application, argument)
            if application in ("park", "endless_playback", "playback") or self.moves != move or self.ended:
                return

    def execute(self, application: str, argument: str) -> None:
        self.said.append(f"{application} {argument}".strip())
        match application:
            case "answer":
                self.answer()
            case "ring_ready":
                self.tell("CHANNEL_PROGRESS")
                if self.far_end is not None:
                    self.far_end.rings()
            case "respond" if not self.answered:
                self.variables |= {"sip_term_status": argument, "sip_hangup_disposition": "send_refuse"}
                self.hang_up("CALL_REJECTED")
            case "playback" | "endless_playback":
                self.play(argument)
            case "set":
                name, _, value = argument.partition("=")
                self.variables[name] = value
            case "transfer":
                self.transfer(*argument.split(" "))
            case _:
                pass

    def play(self, what: str) -> None:
        """Resets the session, whoever has it played: unicast ends silently (danger 2), and not again in this park loop."""
        self._silence()
        if self._sounding is not None:
            self._sounding.play(what)

    def send_digits(self, digits: str) -> None:
        self.digits_sent += digits
        if self.far_end is not None:
            self.far_end.gets_digits(digits)

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
        self._sounding = Sounding(self)
        if self.far_end is not None:
            self.far_end.answered_by_pbx()
        self.tell("CHANNEL_ANSWER")

    async def start_unicast(self, host: str, port: int) -> None:
        """As the park loop does it: once, and with no thought for whether there is media."""
        if not self.answered:
            self.switch.crash("unicast on a call without media")
            return
        if self.unicast_used or not self.parked:
            return
        self.unicast_used = True
        move, unicast = self.moves, Unicast(self, (host, port))
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: unicast, ("127.0.0.1", 0), None)
        if self._sounding is None or self.moves != move:
            unicast.close()
        else:
            self._sounding.unicast = unicast

    def _silence(self) -> None:
        """Nothing is played, and nothing goes to a node."""
        if self._sounding is not None:
            self._sounding.play("")
            unicast, self._sounding.unicast = self._sounding.unicast, None
            if unicast is not None:
                unicast.close()

    def drop_dialog(self) -> None:
        """The caller is hung up on, and the channel stays, deaf to their side (signalwire/freeswitch#3059)."""
        self.sends = False
        far_end, self.far_end = self.far_end, None
        if far_end is not None:
            far_end.ended_with(200)

    def go_silent(self) -> None:
        """All of its sound is over."""
        self._silence()
        if self._sounding is not None:
            self._sounding.close()
            self._sounding = None

    def hears(self, audio: bytes) -> None:
        if self.far_end is None:
            self.heard += audio
        else:
            self.far_end.hears(audio)

    def speaks(self, size: int) -> bytes | None:
        said = self.says * size if self.far_end is None else self.far_end.speaks(size)
        self.packets += self.sends and said is not None
        return said

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
        self.go_silent()
        self.tell("CHANNEL_HANGUP")
        if self.parked:
            self.unpark()
        self.state = "CS_REPORTING"
        self.switch.gone(self)
        self.tell("CHANNEL_HANGUP_COMPLETE")
        if self.far_end is not None:
            status = self.variables.get("sip_term_status", "")
            self.far_end.ended_with(200 if self.answered else int(status) if status.isdigit() else STATUS_OF_CAUSE.get(cause, 480))


def _applications(inline: str) -> Iterator[tuple[str, str]]:
    """Of an inline dialplan: `application:argument`, separated by a comma or by what `m:^:` says."""
    separator = ","
    if inline.startswith("m:"):
        separator, inline = inline[2], inline[4:]
    for each in inline.split(separator):
        application, _, argument = each.partition(":")
        yield application, argument
