"""AudioSocket, Asterisk's TCP framing for a call's audio, as h11 does HTTP: bytes in, typed events out, no socket.

A message is a 1-byte kind, a 2-byte big-endian length and the payload; the first one is the UUID of the call. Asterisk's
res_audiosocket.c and doc/AudioSocket are the specification. Sockets are in `line.py`, who may connect in `reception.py`.
"""

import struct
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from uuid import UUID

from bridge.errors import LocalProtocolError, RemoteProtocolError
from bridge.media.frames import bytes_per_frame

# The states of the other side, and what it may send in each; everything else is a RemoteProtocolError:
#
#              UUID          audio, digit      hang-up
#   NEW        → TALKING     error             → OVER
#   TALKING    error         stays             → OVER
#   OVER       whatever comes is not looked at
#   BROKEN     the same error again
#
# Asterisk itself never sends a hang-up: it ends the connection.

HANG_UP: Final = 0x00
IDENTITY: Final = 0x01
DIGIT: Final = 0x03
AUDIO: Final = {0x10: 8_000, 0x12: 16_000}
"""Kinds of audio by rate. Asterisk has 0x11–0x18 for 8 to 192 kHz; a call here runs at one of these two."""

LARGEST_PAYLOAD: Final = 0xFFFF

_HEADER = struct.Struct(">BH")
_KINDS = {rate: kind for kind, rate in AUDIO.items()}

HANG_UP_MESSAGE: Final = _HEADER.pack(HANG_UP, 0)


@dataclass(frozen=True, slots=True)
class Identified:
    """The first message: which announced connection this is, as the UUID's 16 bytes."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Audio:
    """Exactly 20 ms at `rate`, cut from payloads of whatever length."""

    frame: bytes
    rate: int


@dataclass(frozen=True, slots=True)
class DigitPressed:
    """A printable character: `0-9 * # A-D`, or Asterisk's `e` and `f` for fax tones. The story takes its digits from the PBX's
    control connection; these are the same presses again."""

    digit: str


@dataclass(frozen=True, slots=True)
class HungUp:
    """The other side is done. Nothing comes after it."""


Event = Identified | Audio | DigitPressed | HungUp


class _State(Enum):
    NEW = auto()
    TALKING = auto()
    OVER = auto()
    BROKEN = auto()


class Decoder:
    """What the PBX says. Any bytes are understood or end in `RemoteProtocolError`; how they were chunked makes no difference.

    Never holds more than one message (64 KiB) beyond what was given in the last `receive`.
    """

    __slots__ = ("_buffer", "_error", "_leftover", "_rate", "_ready", "_state")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ready: list[Event] = []  # last first: taken from the end
        self._leftover = b""
        self._rate = 0
        self._state = _State.NEW
        self._error = ""

    @property
    def between_messages(self) -> bool:
        """Nothing is half received or half cut: the next byte begins a message, and a whole frame in it is an event of its own."""
        return not (self._buffer or self._ready or self._leftover) and self._state is _State.TALKING

    def receive(self, data: bytes) -> None:
        """Take what arrived; look at it with `next_event`."""
        if self._state in (_State.NEW, _State.TALKING):
            self._buffer += data

    def next_event(self) -> Event | None:
        """What comes next, None when more bytes are needed. Raises `RemoteProtocolError`, from then on each time."""
        while not self._ready:
            if self._state is _State.BROKEN:
                raise RemoteProtocolError(self._error)
            if self._state is _State.OVER or not self._take_message():
                return None
        return self._ready.pop()

    def _take_message(self) -> bool:
        buffer = self._buffer
        if len(buffer) < _HEADER.size:
            return False
        kind, length = _HEADER.unpack_from(buffer)
        self._check(kind, length)
        end = _HEADER.size + length
        if len(buffer) < end:
            return False
        payload = bytes(buffer[_HEADER.size : end])
        del buffer[:end]
        self._understand(kind, payload)
        return True

    def _check(self, kind: int, length: int) -> None:
        """What a header alone tells: a message that cannot be right is not waited for."""
        new, wrong = self._state is _State.NEW, ""
        if kind == HANG_UP:
            wrong = f"a hang-up with {length} bytes" if length else ""
        elif kind == IDENTITY:
            wrong = f"a UUID of {length} bytes" if length != 16 else "" if new else "a second UUID"
        elif kind != DIGIT and kind not in AUDIO:
            wrong = f"a message of the kind 0x{kind:02x}"
        elif new:
            wrong = f"a message of the kind 0x{kind:02x} before the UUID"
        elif kind == DIGIT:
            wrong = f"a digit of {length} bytes" if length != 1 else ""
        elif length % 2:
            wrong = f"16-bit audio of {length} bytes"
        if wrong:
            self._break(f"AudioSocket: {wrong}")

    def _understand(self, kind: int, payload: bytes) -> None:
        if kind in AUDIO:
            self._cut(AUDIO[kind], payload)
        elif kind == IDENTITY:
            self._state = _State.TALKING
            self._ready.append(Identified(payload))
        elif kind == DIGIT:
            if not 0x20 < payload[0] < 0x7F:
                self._break(f"AudioSocket: a digit 0x{payload[0]:02x}")
            self._ready.append(DigitPressed(payload.decode("ascii")))
        else:
            self._state = _State.OVER
            self._buffer.clear()
            self._ready.append(HungUp())

    def _cut(self, rate: int, payload: bytes) -> None:
        if rate != self._rate:
            self._rate, self._leftover = rate, b""
        audio = self._leftover + payload
        size = bytes_per_frame(rate)
        whole = len(audio) - len(audio) % size
        self._ready.extend(Audio(audio[at : at + size], rate) for at in range(whole - size, -1, -size))
        self._leftover = audio[whole:]

    def _break(self, error: str) -> None:
        self._state, self._error = _State.BROKEN, error
        self._buffer.clear()
        raise RemoteProtocolError(error)


def audio_header(rate: int) -> bytes:
    """The three bytes before each frame of 20 ms at this rate."""
    return _HEADER.pack(_KINDS[rate], bytes_per_frame(rate))


def encode(event: Event) -> bytes:
    """One message. Raises `LocalProtocolError` for one that the other side would not understand."""
    match event:
        case Identified(token):
            if len(token) != 16:
                raise LocalProtocolError(f"AudioSocket: a UUID has 16 bytes, not {len(token)}")
            return _HEADER.pack(IDENTITY, 16) + token
        case Audio(frame, rate):
            if rate not in _KINDS or len(frame) != bytes_per_frame(rate):
                raise LocalProtocolError(f"AudioSocket: {len(frame)} bytes are not 20 ms at {rate} Hz")
            return audio_header(rate) + frame
        case DigitPressed(digit):
            if len(digit) != 1 or not "!" <= digit <= "~":
                raise LocalProtocolError("AudioSocket: a digit is one printable character")
            return _HEADER.pack(DIGIT, 1) + digit.encode("ascii")
        case HungUp():
            return HANG_UP_MESSAGE


def token_text(token: bytes) -> str:
    """A UUID's 16 bytes as the PBX is told them."""
    return str(UUID(bytes=token))
