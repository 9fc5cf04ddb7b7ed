"""One audio connection on the beat: short queue, exact frames, and a peer that floods, stalls, errs or goes."""

import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from bridge.errors import RemoteProtocolError
from bridge.media.audiosocket import Decoder, Identified
from bridge.media.figures import QUEUE_FRAMES, Figures
from bridge.media.line import Line, LineEnded
from bridge.media.waiting_frames import PATIENCE


def message(frame: bytes, kind: int = 0x10) -> bytes:
    return struct.pack(">BH", kind, len(frame)) + frame


def numbered(number: int) -> bytes:
    return struct.pack("<h", number) * 160


class Call:
    """A line and the PBX's end of it, over TCP."""

    def __init__(self, rate: int = 8_000) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * 1024)
            self.pbx = socket.socket()
            self.pbx.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024)
            self.pbx.connect(server.getsockname())
            self.pbx.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.pbx.settimeout(5)
            self.ours, _ = server.accept()
        self.ours.setblocking(False)
        decoder = Decoder()
        decoder.receive(b"\x01\x00\x10" + bytes(16))
        assert isinstance(decoder.next_event(), Identified)
        self.figures = Figures()
        self.line = Line(self.ours, decoder, rate, self.figures)

    def say(self, *frames: bytes) -> None:
        self.pbx.sendall(b"".join(message(frame) for frame in frames))

    def close(self) -> None:
        self.line.hang_up()
        self.pbx.close()


@pytest.fixture
def call() -> Iterator[Call]:
    call = Call()
    yield call
    call.close()


def test_given_a_frame_a_beat_when_taken_then_it_is_the_same_and_nothing_waits(call: Call) -> None:
    for number in range(20):
        call.say(numbered(number))
        assert call.line.receive() == numbered(number)
    assert call.figures.depths == [0, 20, 0, 0]


def test_given_nothing_when_a_beat_comes_then_there_is_nothing_and_it_is_counted(call: Call) -> None:
    assert call.line.receive() is None
    assert call.figures.frames_missing == 1
    call.say(numbered(1))
    assert call.line.receive() == numbered(1)


def test_given_two_frames_at_once_when_taken_then_one_a_beat(call: Call) -> None:
    call.say(numbered(1), numbered(2))
    assert [call.line.receive() for _ in range(3)] == [numbered(1), numbered(2), None]


def test_given_frames_in_pieces_when_taken_then_they_are_whole(call: Call) -> None:
    stream = b"".join(message(numbered(number)) for number in range(6))
    heard = []
    for at in range(0, len(stream), 200):
        call.pbx.sendall(stream[at : at + 200])
        heard.append(call.line.receive())
    assert [frame for frame in heard if frame] == [numbered(number) for number in range(6)]


def test_given_a_burst_when_taken_then_the_oldest_are_dropped_and_counted(call: Call) -> None:
    call.say(*(numbered(number) for number in range(10)))
    heard = [call.line.receive() for _ in range(QUEUE_FRAMES + 1)]
    assert heard == [numbered(7), numbered(8), numbered(9), None]
    assert call.figures.frames_dropped == 7


def test_given_one_second_in_one_message_when_taken_then_only_the_latest_is_heard(call: Call) -> None:
    call.pbx.sendall(message(b"".join(numbered(number) for number in range(50))))
    heard = [frame for frame in (call.line.receive() for _ in range(10)) if frame is not None]
    assert heard[-1] == numbered(49)
    assert len(heard) + call.figures.frames_dropped == 50


def test_given_delay_that_nothing_needs_when_it_stays_for_five_seconds_then_one_frame_is_left_out(call: Call) -> None:
    call.say(numbered(0))
    for number in range(1, PATIENCE + 1):
        call.say(numbered(number))
        assert call.line.receive() == numbered(number - 1)
    call.say(numbered(PATIENCE + 1))
    assert call.line.receive() == numbered(PATIENCE + 1)
    assert call.figures.frames_trimmed == 1
    assert call.figures.frames_dropped == 0


def test_given_delay_that_was_needed_once_when_five_seconds_pass_then_it_is_kept(call: Call) -> None:
    call.say(numbered(0))
    for number in range(1, PATIENCE + 20):
        if number % 200:
            call.say(numbered(number))
        else:  # a late frame: the one that waits fills its place, the next beat brings two
            assert call.line.receive() == numbered(number - 1)
            call.say(numbered(number))
            continue
        assert call.line.receive() is not None
    assert call.figures.frames_trimmed == 0


def test_given_frames_when_sent_then_header_and_payload_are_one_piece(call: Call) -> None:
    for number in range(5):
        call.line.send(numbered(number))
        assert call.pbx.recv(10_000) == message(numbered(number))


def test_given_a_wideband_call_when_sent_then_it_is_marked_so() -> None:
    call = Call(rate=16_000)
    call.line.send(bytes(640))
    assert call.pbx.recv(10_000) == message(bytes(640), 0x12)
    call.close()


def test_given_a_peer_that_does_not_read_when_sent_to_then_little_is_kept_and_the_rest_is_left_out(call: Call) -> None:
    for number in range(2000):
        call.line.send(numbered(number))
    assert call.figures.frames_unsent > 1500
    heard = b""
    call.pbx.setblocking(False)
    beats = 0
    while beats < 100:  # it reads on, while the beat goes on
        try:
            heard += call.pbx.recv(1 << 16)
        except BlockingIOError:
            call.line.send(numbered(5000 + beats))
            beats += 1
    frames = [heard[at : at + 323] for at in range(0, len(heard) - 322, 323)]
    assert all(frame[:3] == b"\x10\x01\x40" for frame in frames), "no message is torn"
    numbers = [struct.unpack_from("<h", frame, 3)[0] for frame in frames]
    assert numbers == sorted(numbers)
    assert numbers[-1] >= 5090, "what it hears is fresh again"


def test_given_wideband_call_when_the_pbx_sends_8_khz_then_it_is_converted() -> None:
    call = Call(rate=16_000)
    tone = (10_000 * np.sin(2 * np.pi * 1_000 * np.arange(1600) / 8_000)).astype("<i2").tobytes()
    heard = b""
    for at in range(0, len(tone), 320):
        call.say(tone[at : at + 320])
        frame = call.line.receive()
        assert frame is not None
        assert len(frame) == 640
        heard += frame
    spectrum = np.abs(np.fft.rfft(np.frombuffer(heard, "<i2")[640:]))
    assert int(spectrum.argmax()) * 16_000 / (2 * (spectrum.size - 1)) == pytest.approx(1_000, abs=10)
    call.close()


def test_given_a_narrowband_call_when_the_pbx_sends_16_khz_then_it_is_converted(call: Call) -> None:
    call.pbx.sendall(message(bytes(640), 0x12))
    assert call.line.receive() == bytes(320)


def test_given_the_pbx_ends_the_connection_when_the_beat_comes_then_the_line_has_ended(call: Call) -> None:
    call.pbx.close()
    with pytest.raises(LineEnded, match="ended"):
        call.line.receive()


def test_given_the_pbx_resets_the_connection_when_the_beat_comes_then_the_line_has_ended(call: Call) -> None:
    call.pbx.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.pbx.close()
    with pytest.raises(LineEnded, match="broke"):
        call.line.receive()
    with pytest.raises(LineEnded, match="broke"):
        call.line.send(numbered(1))


def test_given_a_hang_up_when_it_comes_then_the_line_has_ended(call: Call) -> None:
    call.pbx.sendall(b"\x00\x00\x00")
    with pytest.raises(LineEnded, match="hung"):
        call.line.receive()


@pytest.mark.parametrize("bad", [b"\x11\x00\x02ab", b"\x10\x00\x01a", b"\xff\xff\xff", b"\x01\x00\x10" + bytes(16)])
def test_given_bytes_that_are_no_audio_when_the_beat_comes_then_it_is_the_remote_sides_error(call: Call, bad: bytes) -> None:
    call.pbx.sendall(bad)
    with pytest.raises(RemoteProtocolError):
        call.line.receive()


def test_given_digits_when_they_come_then_the_audio_goes_on(call: Call) -> None:
    call.pbx.sendall(b"\x03\x00\x01" + b"5" + message(numbered(1)))
    assert call.line.receive() == numbered(1)


def test_given_a_line_when_hung_up_then_the_pbx_is_told_and_sees_the_end(call: Call) -> None:
    call.say(numbered(1))
    call.line.hang_up()
    call.line.hang_up()
    assert call.pbx.recv(100) == b"\x00\x00\x00"
    assert call.pbx.recv(100) == b"", "an end, not a reset"
    assert call.ours.fileno() == -1
