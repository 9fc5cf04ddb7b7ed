"""One connected AudioSocket channel, served on the beat: read whatever is there, give one frame, take one frame.

The socket is polled by the beat and not watched by the event loop. Nothing waits longer for that (a frame is wanted on the beat
only), it costs half the CPU of a transport with its wake-up per frame (0.06 against 0.11 % of a core per call, 100 calls, uvloop),
and a peer that floods us is read at our pace, never at its own.
"""

import socket
from contextlib import suppress

from bridge.errors import RoomlineError
from bridge.media.audiosocket import HANG_UP_MESSAGE, Audio, Decoder, HungUp, audio_header
from bridge.media.figures import Figures
from bridge.media.frames import bytes_per_frame
from bridge.media.halfband import Doubler, Halver
from bridge.media.waiting_frames import WaitingFrames

_MOST_PER_BEAT = 16_384  # half a second of wideband in 20 ms: more than any stall leaves behind, far less than a flood


class LineEnded(RoomlineError):  # noqa: N818  (an ordinary event in a call's life)
    """The PBX ended the connection, or it broke."""


class Line:
    """Audio to and from one channel. After any error it is of no more use, but for `hang_up`."""

    __slots__ = (
        "_connection",
        "_convert",
        "_decoder",
        "_figures",
        "_header",
        "_in_step",
        "_message_size",
        "_rate",
        "_unsent",
        "_waiting",
    )

    def __init__(self, connection: socket.socket, decoder: Decoder, rate: int, figures: Figures) -> None:
        """`connection` is non-blocking and becomes ours; `decoder` may hold what came right behind the UUID."""
        self._connection = connection
        self._decoder = decoder
        self._rate = rate
        self._figures = figures
        self._header = audio_header(rate)
        self._message_size = len(self._header) + bytes_per_frame(rate)
        self._waiting = WaitingFrames(figures)
        self._convert: Doubler | Halver | None = None
        self._in_step = False
        self._unsent = b""

    def receive(self) -> bytes | None:
        """The caller's next 20 ms, None when there is nothing. Raises `LineEnded`, and `RemoteProtocolError` for bytes that are no
        AudioSocket."""
        try:
            data = self._connection.recv(_MOST_PER_BEAT)
        except BlockingIOError:
            frame = self._waiting.take()
            self._in_step = not self._waiting and self._decoder.between_messages
            return frame
        except OSError as error:
            raise LineEnded(f"the audio connection broke: {error.strerror}") from error
        if not data:
            raise LineEnded("the PBX ended the audio connection")
        if self._in_step and len(data) == self._message_size and data.startswith(self._header):  # nearly always
            self._figures.depths[1] += 1
            return data[3:]
        self._decoder.receive(data)
        self._collect()
        frame = self._waiting.take()
        self._in_step = not self._waiting and self._decoder.between_messages
        return frame

    def send(self, frame: bytes) -> None:
        """Give the PBX 20 ms, in one piece with its header (a gap of 5 ms between them kills the call in Asterisk). While it does
        not read, frames are left out and counted. Raises `LineEnded`."""
        try:
            if self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
                if self._unsent:
                    raise BlockingIOError
            message = self._header + frame
            sent = self._connection.send(message)
        except BlockingIOError:
            self._figures.frames_unsent += 1
            return
        except OSError as error:
            raise LineEnded(f"the audio connection broke: {error.strerror}") from error
        if sent != self._message_size:
            self._unsent = message[sent:]

    def hang_up(self) -> None:
        """Tell the PBX that this is over, and close. Idempotent. What is unread is read, or the end would become a reset."""
        with suppress(OSError):
            if not self._unsent:
                self._connection.send(HANG_UP_MESSAGE)
            self._connection.recv(_MOST_PER_BEAT)
        self._connection.close()

    def _collect(self) -> None:
        while (event := self._decoder.next_event()) is not None:
            if isinstance(event, Audio):
                self._waiting.put(event.frame if event.rate == self._rate else self._converted(event))
            elif isinstance(event, HungUp):
                raise LineEnded("the PBX hung the audio connection up")

    def _converted(self, audio: Audio) -> bytes:
        """Asterisk's AudioSocket() takes 16 kHz but gives 8."""
        if self._convert is None:
            self._convert = Doubler() if audio.rate < self._rate else Halver()
        return self._convert(audio.frame)
