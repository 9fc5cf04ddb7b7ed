"""A SIP phone of bare UDP sockets, for what no well-behaved caller does: it stops sending, sends what nobody knows, goes on hold, and
shows word for word what the PBX asks of it.

    async with Phone(pbx.sip_address) as phone:
        await phone.call("5550100")
        phone.send(VOICE)
        await phone.ended(20.0)

One call, one transaction at a time, PCMU and RFC 4733 keys, loopback: nothing here is for a network that loses packets.
"""

import asyncio
import hashlib
import itertools
import random
import re
import secrets
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import numpy as np

from bridge.testing.ports import LOOPBACK
from bridge.testing.recording import Samples

SipAddress = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Stream:
    """What is sent as RTP: payloads of this type, one each `every` seconds."""

    payload_type: int
    payload: bytes
    every: float = 0.02


VOICE: Final = Stream(0, (b"\xa0" * 10 + b"\x20" * 10) * 8)
"""PCMU of a tone of 400 Hz: what can be told from silence."""

SILENCE: Final = Stream(0, b"\xff" * 160)
"""PCMU that says nothing: what a muted phone goes on sending."""

COMFORT_NOISE: Final = Stream(13, b"\x40", every=0.2)
"""RFC 3389: what a phone with silence suppression sends meanwhile."""

UNKNOWN: Final = Stream(119, bytes(20))
"""A payload type that was never negotiated."""

_numbers = itertools.count(1)

_KEYS: Final = "0123456789*#ABCD"
_EVENT_TYPE: Final = 101
_HEADER: Final = re.compile(r"^([A-Za-z-]+)\s*:\s*(.*)$")


@dataclass(frozen=True, slots=True)
class SipMessage:
    """One SIP message as it arrived. `start` is its first line."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: str = ""

    @classmethod
    def read(cls, data: bytes) -> "SipMessage":
        head, _, body = data.decode("utf-8", "replace").partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        return cls(start, tuple((match[1], match[2]) for line in lines if (match := _HEADER.match(line))), body)

    def __getitem__(self, name: str) -> str:
        """The first value of that header in any case, "" when there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def method(self) -> str:
        """Of a request; "SIP/2.0" for a response."""
        return self.start.partition(" ")[0]

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1]) if self.method == "SIP/2.0" else 0


class Phone:
    """`async with Phone(address)`: the phone of one caller, who calls that address. At its end the call is hung up."""

    def __init__(
        self,
        to: SipAddress,
        *,
        caller: str = "",
        host: str = LOOPBACK,
        credentials: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        refer_answer: str = "202 Accepted",
        refer_status: int = 200,
    ) -> None:
        """Without `caller` each phone has a number of its own; `host` is its address on this machine. `credentials`: user and password for
        who asks for them; the first time only. `headers` go into the INVITE. `refer_answer`: to being asked for a transfer;
        `refer_status`: what it tells of that then. With 100 it goes on ringing there, until `tell_transfer`."""
        self.caller = caller or f"+1555999{next(_numbers):04d}"
        self.requests: list[SipMessage] = []
        """What the PBX asked, retransmissions left out."""
        self.invite: SipMessage | None = None
        """The last one that was sent, word for word."""
        self.final: SipMessage | None = None
        """The answer to the INVITE."""
        self.frames_heard = 0
        self.heard = bytearray()
        """The payloads of the PCMU that has come, one after the other: 8,000 a second, and what is between two packets is not in it."""
        self.challenge: SipMessage | None = None
        """The answer that asked for credentials."""
        self._to = to
        self._credentials = credentials
        self._headers = headers or {}
        self._authorization: list[str] = []
        self._refer_answer = refer_answer
        self._refer_status = refer_status
        self._call_id = secrets.token_hex(8)
        self._host = host
        self._from = f"<sip:{self.caller}@{host}>;tag={secrets.token_hex(4)}"
        self._number = self._remote = self._target = ""
        self._cseq = 0
        self._branch = ""
        self._answers: asyncio.Queue[SipMessage] = asyncio.Queue()
        self._over = asyncio.Event()
        self._sip: asyncio.DatagramTransport
        self._rtp: asyncio.DatagramTransport
        self._rtp_to: SipAddress | None = None
        self._sequence, self._timestamp, self._source = 0, 0, random.getrandbits(32)
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._sip, _ = await loop.create_datagram_endpoint(lambda: _Ear(self._heard_sip), (self._host, 0))
        self._rtp, _ = await loop.create_datagram_endpoint(lambda: _Ear(self._heard_rtp), (self._host, 0))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self.hang_up()
        finally:
            self.stop_sending()
            if self._sending is not None:
                await asyncio.gather(self._sending, return_exceptions=True)
            self._sip.close()
            self._rtp.close()

    # What the caller does

    async def register(self, timeout: float = 10.0) -> SipMessage:
        """At the address that it calls, once, before a call: with the credentials where it is asked for them. Returns the final answer."""
        self._number, self._target = self._from.partition(";")[0], f"sip:{self._to[0]}:{self._to[1]}"
        answer = await self._transaction("REGISTER", "", timeout)
        if answer.status in (401, 407) and self._credentials is not None:
            self._authorization = [_authorization(answer, *self._credentials, "REGISTER", self._target)]
            answer = await self._transaction("REGISTER", "", timeout)
            self._authorization = []
        return answer

    async def call(self, number: str, timeout: float = 10.0) -> SipMessage:
        """Returns the final answer, acknowledged. Nothing is sent as RTP until `send`."""
        self._number = f"<sip:{number}@{self._to[0]}:{self._to[1]}>"
        self._target = self._number.strip("<>")
        self.final = await self._transaction("INVITE", self._sdp("sendrecv"), timeout)
        if self.final.status in (401, 407):
            self.challenge = self.final
            if self._credentials is not None:
                self._authorization = [_authorization(self.final, *self._credentials, "INVITE", self._target)]
                self._remote = ""
                self.final = await self._transaction("INVITE", self._sdp("sendrecv"), timeout)
        self._remote = self.final["To"]
        if self.final.status < 300:
            self._target = self.final["Contact"].partition("<")[2].partition(">")[0]
            self._talk_to(self.final)
        else:
            self._over.set()
        return self.final

    def send(self, stream: Stream) -> None:
        """Send this instead of what is being sent, until something else is."""
        self.stop_sending()
        self._sending = asyncio.get_running_loop().create_task(self._keep_sending(stream))

    def stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()

    async def press(self, keys: str) -> None:
        """As RFC 4733 events, and nothing between them."""
        for key in keys:
            event, began = _KEYS.index(key), self._timestamp
            for step in (1, 2, 3, 4, 5, 5, 5):
                ended = 0x80 if step == 5 else 0
                self._packet(_EVENT_TYPE, struct.pack("!BBH", event, 10 | ended, step * 160), began)
                await asyncio.sleep(0.02)
            self._timestamp += 1600
            await asyncio.sleep(0.08)

    async def hold(self, direction: str = "sendonly") -> SipMessage:
        """`sendonly`: hold, with or without music of its own; `inactive`; `sendrecv`: back."""
        return await self._transaction("INVITE", self._sdp(direction), 5.0)

    async def hang_up(self) -> None:
        if self._remote and not self._over.is_set():
            self._over.set()
            await self._transaction("BYE", "", 5.0)

    def tell_transfer(self, status: int) -> None:
        """What has become of the transfer that it was asked for."""
        self._cseq += 1
        self._branch = f"z9hG4bK{secrets.token_hex(6)}"
        self._request("NOTIFY", self._cseq, f"SIP/2.0 {status} As told\r\n", state="active" if status < 200 else "terminated")

    # What happens to them

    @property
    def ended_by_pbx(self) -> bool:
        return any(request.method == "BYE" for request in self.requests)

    def heard_samples(self, since: int = 0) -> Samples:
        """From this payload on."""
        return linear(bytes(self.heard[since:]))

    async def ended(self, timeout: float) -> None:
        async with asyncio.timeout(timeout):
            await self._over.wait()

    async def asked(self, method: str, timeout: float = 5.0) -> SipMessage:
        """The first request of this method."""
        async with asyncio.timeout(timeout):
            while not (found := [request for request in self.requests if request.method == method]):  # noqa: ASYNC110  (a test's wait)
                await asyncio.sleep(0.02)
        return found[0]

    # SIP

    async def _transaction(self, method: str, body: str, timeout: float) -> SipMessage:
        self._cseq += 1
        cseq, self._branch = self._cseq, f"z9hG4bK{secrets.token_hex(6)}"
        self._request(method, cseq, body)
        async with asyncio.timeout(timeout):
            while True:
                answer = await self._answers.get()
                if answer.status >= 200 and answer["CSeq"] == f"{cseq} {method}":
                    break
        if method == "INVITE":
            self._acknowledge(answer)
        return answer

    def _acknowledge(self, answer: SipMessage) -> None:
        if answer.status < 300:
            self._target = answer["Contact"].partition("<")[2].partition(">")[0]
            self._branch = f"z9hG4bK{secrets.token_hex(6)}"
        self._remote = answer["To"]
        self._request("ACK", int(answer["CSeq"].partition(" ")[0]), "")

    def _request(self, method: str, cseq: int, body: str, *, state: str = "") -> None:
        host, port = self._sip.get_extra_info("sockname")
        lines = [
            f"{method} {self._target} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};branch={self._branch};rport",
            "Max-Forwards: 70",
            f"From: {self._from}",
            f"To: {self._remote or self._number}",
            f"Call-ID: {self._call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:{self.caller}@{host}:{port}>",
            *(self._authorization if method in ("INVITE", "REGISTER") else []),
            *([f"{name}: {value}" for name, value in self._headers.items()] if method == "INVITE" else []),
            *(["Content-Type: application/sdp"] if body.startswith("v=0") else []),
            *(["Event: refer", f"Subscription-State: {state}", "Content-Type: message/sipfrag"] if method == "NOTIFY" else []),
            f"Content-Length: {len(body)}",
        ]
        data = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
        if method == "INVITE":
            self.invite = SipMessage.read(data)
        self._sip.sendto(data, self._to)

    def _answer(self, request: SipMessage, status: str, body: str = "") -> None:
        host, port = self._sip.get_extra_info("sockname")
        lines = [f"SIP/2.0 {status}", *(f"Via: {via}" for via in request.all("Via"))]
        lines += [f"{name}: {request[name]}" for name in ("From", "To", "Call-ID", "CSeq")]
        lines += [f"Contact: <sip:{self.caller}@{host}:{port}>"]
        lines += ["Content-Type: application/sdp"] if body else []
        lines += [f"Content-Length: {len(body)}"]
        self._sip.sendto(("\r\n".join(lines) + "\r\n\r\n" + body).encode(), self._to)

    def _heard_sip(self, data: bytes) -> None:
        message = SipMessage.read(data)
        if message.method == "SIP/2.0":
            self._answers.put_nowait(message)
            return
        again = any(known["CSeq"] == message["CSeq"] and known.method == message.method for known in self.requests)
        if not again and message.method != "ACK":
            self.requests.append(message)
        match message.method:
            case "BYE":
                self._answer(message, "200 OK")
                self._over.set()
            case "REFER":
                self._answer(message, self._refer_answer)
                if not again and self._refer_answer.startswith("2"):
                    self.tell_transfer(self._refer_status)
            case "INVITE":
                self._answer(message, "200 OK", self._sdp("sendrecv"))
            case "ACK":
                pass
            case _:
                self._answer(message, "200 OK")

    def _sdp(self, direction: str) -> str:
        host, port = self._rtp.get_extra_info("sockname")
        lines = [
            "v=0",
            f"o=phone 1 {self._cseq + 1} IN IP4 {host}",
            "s=-",
            f"c=IN IP4 {host}",
            "t=0 0",
            f"m=audio {port} RTP/AVP 0 13 {_EVENT_TYPE}",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:13 CN/8000",
            f"a=rtpmap:{_EVENT_TYPE} telephone-event/8000",
            f"a=fmtp:{_EVENT_TYPE} 0-16",
            "a=ptime:20",
            f"a={direction}",
        ]
        return "\r\n".join(lines) + "\r\n"

    # RTP

    def _talk_to(self, answer: SipMessage) -> None:
        host = re.search(r"^c=IN IP4 (\S+)", answer.body, re.MULTILINE)
        port = re.search(r"^m=audio (\d+)", answer.body, re.MULTILINE)
        if host and port:
            self._rtp_to = (host[1], int(port[1]))

    async def _keep_sending(self, stream: Stream) -> None:
        at = time.monotonic()
        while True:
            self._timestamp += round(stream.every * 8000)
            self._packet(stream.payload_type, stream.payload, self._timestamp)
            at += stream.every
            await asyncio.sleep(max(0.0, at - time.monotonic()))

    def _packet(self, payload_type: int, payload: bytes, timestamp: int) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        if self._rtp_to is not None:
            header = struct.pack("!BBHII", 0x80, payload_type, self._sequence, timestamp & 0xFFFFFFFF, self._source)
            self._rtp.sendto(header + payload, self._rtp_to)

    def _heard_rtp(self, data: bytes) -> None:
        self.frames_heard += 1
        if data[1] & 0x7F == SILENCE.payload_type:
            self.heard += data[12:]


def linear(payload: bytes) -> Samples:
    """PCMU as samples (ITU-T G.711)."""
    code = ~np.frombuffer(payload, np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    size = (((mantissa << 3) + 0x84) << exponent) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int16)


def _authorization(challenge: SipMessage, user: str, password: str, method: str, uri: str) -> str:
    """RFC 3261 §22.4, as of RFC 2617 with qop=auth."""
    proxy = challenge.status == 407
    asked = dict(re.findall(r'(\w+)="?([^",]*)"?', challenge["Proxy-Authenticate" if proxy else "WWW-Authenticate"]))
    nonce_count, client_nonce = "00000001", secrets.token_hex(8)

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode(), usedforsecurity=False).hexdigest()

    first, second = md5(user, asked["realm"], password), md5(method, uri)
    response = md5(first, asked["nonce"], nonce_count, client_nonce, "auth", second)
    quoted = user.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'{"Proxy-" if proxy else ""}Authorization: Digest username="{quoted}", realm="{asked["realm"]}", nonce="{asked["nonce"]}", '
        f'uri="{uri}", response="{response}", algorithm=MD5, qop=auth, nc={nonce_count}, cnonce="{client_nonce}"'
        + (f', opaque="{asked["opaque"]}"' if "opaque" in asked else "")
    )


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[bytes], None]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, _address: SipAddress) -> None:
        self._heard(data)
