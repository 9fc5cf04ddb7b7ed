"""Audio as datagrams: exact frames, a pace that is the PBX's, one believed peer, and the ends that nobody announces."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import ConfigurationError, Unavailable
from bridge.media import unicast
from bridge.media.figures import QUEUE_FRAMES, Figures
from bridge.media.line import LineEnded
from bridge.media.packing import SIZES
from bridge.media.unicast import IN_HAND, MOST_OWED, SILENT_BEATS, UnicastLine, UnicastReception, private_address
from bridge.model.media_address import Datagrams, MediaAddress
from tests.media.datagram_pbx import DatagramPbx

FILLER = b"\xff" * 320
"""What FreeSWITCH sends while the caller sends nothing, is on hold or presses keys (freeswitch.md, Media)."""

PEER = Datagrams("127.0.0.1")


def numbered(number: int, size: int = 320) -> bytes:
    return struct.pack("<h", number) * (size // 2)


@dataclass
class Clock:
    time: float = 100.0

    def __call__(self) -> float:
        return self.time


class Call:
    """A line, and the PBX's socket that it is connected to. The first datagram has been said, and those before it that do not count."""

    def __init__(self, rate: int = 8_000, first: bytes = FILLER) -> None:
        self.pbx = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.pbx.bind(("127.0.0.1", 0))
        self.pbx.setblocking(False)
        ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        ours.connect(self.pbx.getsockname())
        ours.setblocking(False)
        self.pbx.connect(ours.getsockname())
        self.figures = Figures()
        self.clock = Clock()
        self.line = UnicastLine(ours, first, rate, self.figures, self.clock)

    def say(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.pbx.send(datagram)

    def heard(self) -> list[bytes]:
        heard = []
        while True:
            try:
                heard.append(self.pbx.recv(10_000))
            except BlockingIOError:
                return heard

    def beat(self, frame: bytes) -> bytes | None:
        self.clock.time += 0.02
        came = self.line.receive()
        self.line.send(frame)
        return came

    def close(self) -> None:
        self.line.hang_up()
        self.pbx.close()


@pytest.fixture
def call() -> Iterator[Call]:
    call = Call()
    yield call
    call.close()


def test_given_a_frame_a_beat_when_taken_then_it_is_the_same_and_one_goes_back_for_each(call: Call) -> None:
    for number in range(20):
        call.say(numbered(number))
        assert call.beat(numbered(1000 + number)) == numbered(number)
        assert call.heard() == [numbered(1000 + number)]
    assert call.figures.frames_unsent == 0


def test_given_no_datagram_when_the_beat_comes_then_nothing_is_sent_ahead(call: Call) -> None:
    for number in range(IN_HAND + 11):
        call.beat(numbered(number))
    assert call.heard() == [numbered(number) for number in range(IN_HAND + 1)]
    assert call.figures.frames_unsent == 10


def test_given_late_datagrams_when_they_come_on_a_later_beat_then_the_pace_of_the_beat_is_kept_and_no_frame_is_left_out(call: Call) -> None:
    heard = []
    for number, come in enumerate([0, 0, 2, 1, 0, 2, 1, 0, 0, 3, 1]):
        call.say(*[FILLER] * come)
        call.beat(numbered(number))
        heard.append(call.heard())
    assert heard == [[numbered(number)] for number in range(11)]
    assert call.figures.frames_unsent == 0


@given(st.lists(st.integers(0, 6), max_size=60))
@settings(max_examples=40, deadline=None)
def test_given_datagrams_in_any_rhythm_when_the_beat_goes_on_then_never_more_is_sent_than_came(rhythm: list[int]) -> None:
    call = Call()
    came, sent = 1 + IN_HAND, 0
    try:
        for count in rhythm:
            call.say(*[FILLER] * count)
            came += count
            call.beat(bytes(320))
            heard = call.heard()
            assert all(len(datagram) == 320 for datagram in heard)
            sent += len(heard)
            assert sent <= came
    finally:
        call.close()


def test_given_a_burst_when_it_is_over_then_the_oldest_are_dropped_and_no_burst_goes_back(call: Call) -> None:
    call.say(*(numbered(number) for number in range(25)))
    heard = [call.beat(numbered(1000)) for _ in range(QUEUE_FRAMES + 1)]
    assert heard == [numbered(22), numbered(23), numbered(24), None]
    assert call.figures.frames_dropped == 22
    for _ in range(10):
        call.beat(numbered(1000))
    assert len(call.heard()) == MOST_OWED


def test_given_filler_when_it_comes_then_the_caller_has_said_nothing_and_the_pace_goes_on(call: Call) -> None:
    for number in range(10):
        call.say(FILLER)
        assert call.beat(numbered(number)) is None
        assert call.heard() == [numbered(number)]


def test_given_a_wideband_call_when_frames_come_then_they_are_640_bytes_both_ways() -> None:
    call = Call(16_000, numbered(1, 640))
    assert call.beat(numbered(2, 640)) == numbered(1, 640)
    assert call.heard() == [numbered(2, 640)]
    call.close()


@pytest.mark.parametrize("bad", [b"", b"\x00", bytes(319), bytes(322), bytes(1_000), bytes(9_000)])
def test_given_a_datagram_of_no_frames_size_when_it_comes_then_it_is_no_audio_and_nothing_goes_back_for_it(call: Call, bad: bytes) -> None:
    for _ in range(IN_HAND + 1):
        call.beat(bytes(320))
    assert len(call.heard()) == IN_HAND + 1
    call.say(bad)
    assert call.beat(bytes(320)) is None
    assert call.heard() == []
    assert call.figures.refusals["size"] == 1
    call.say(numbered(5))
    assert call.beat(bytes(320)) == numbered(5)


@given(st.lists(st.binary(max_size=700) | st.sampled_from(sorted(SIZES)).map(bytes), max_size=30))
@settings(max_examples=60, deadline=None)
def test_given_any_datagrams_when_they_come_then_the_line_goes_on_and_every_frame_is_whole(datagrams: list[bytes]) -> None:
    call = Call()
    try:
        for datagram in datagrams:
            call.say(datagram)
            came = call.beat(bytes(320))
            assert came is None or len(came) == 320
            assert all(len(piece) in SIZES for piece in call.heard())
    finally:
        call.close()


def tone(rate: int, hertz: int, seconds: float) -> bytes:
    return (10_000 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype("<i2").tobytes()


def pitch(sound: bytes, rate: int) -> float:
    samples = np.frombuffer(sound, "<i2")
    return float(np.abs(np.fft.rfft(samples * np.hanning(samples.size))).argmax()) * rate / samples.size


@pytest.mark.parametrize(
    ("rate", "size", "milliseconds", "their_rate"),
    [  # freeswitch.md, Media: ptime 10, 30, 40 and 60 at 8 kHz, G.722 and Opus
        (8_000, 160, 10, 8_000),
        (8_000, 320, 20, 8_000),
        (8_000, 480, 30, 8_000),
        (8_000, 640, 40, 8_000),
        (8_000, 960, 60, 8_000),
        (8_000, 640, 20, 16_000),
        (8_000, 1920, 20, 48_000),
        (16_000, 320, 20, 8_000),
        (16_000, 640, 40, 8_000),
        (16_000, 640, 20, 16_000),
        (16_000, 1920, 20, 48_000),
        (16_000, 1920, 60, 16_000),
    ],
)
def test_given_frames_of_another_length_or_rate_when_the_call_goes_on_then_it_sounds_right_both_ways(
    rate: int, size: int, milliseconds: int, their_rate: int
) -> None:
    theirs = tone(their_rate, 1_000, 3)
    ours = tone(rate, 700, 3)
    pieces = [theirs[at : at + size] for at in range(0, len(theirs) - size + 1, size)]
    call = Call(rate, pieces.pop(0))
    frame_size = rate // 50 * 2
    came, went, counted, said = b"", b"", 0, 1
    for beat in range(140):
        while pieces and said * milliseconds <= (beat + 1) * 20:
            call.say(pieces.pop(0))
            said += 1
        frame = call.beat(ours[beat * frame_size : (beat + 1) * frame_size])
        datagrams = call.heard()
        assert all(len(datagram) == size for datagram in datagrams)
        if beat >= 40:  # the first 600 ms tell the pace
            came += frame or b""
            went += b"".join(datagrams)
            counted += len(datagrams)
    assert len(came) == pytest.approx(100 * frame_size, abs=4 * frame_size)
    assert counted == pytest.approx(100 * 20 / milliseconds, abs=3)
    assert pitch(came, rate) == pytest.approx(1_000, abs=15)
    assert pitch(went, their_rate) == pytest.approx(700, abs=15)
    call.close()


def test_given_a_codec_that_changes_when_its_frames_come_then_the_call_goes_on_with_them(call: Call) -> None:
    call.beat(bytes(320))
    call.heard()
    for _ in range(40):
        call.say(numbered(7, 640))
        came = call.beat(bytes(320))
    assert came is not None
    assert len(came) == 320
    assert {len(datagram) for datagram in call.heard()} == {640}


def test_given_no_datagram_for_two_seconds_when_the_beat_comes_then_the_line_has_ended(call: Call) -> None:
    for _ in range(SILENT_BEATS - 1):
        call.line.receive()
    with pytest.raises(LineEnded, match="no audio from the PBX for 2 s"):
        call.line.receive()


def test_given_filler_only_when_two_seconds_pass_then_the_line_is_there(call: Call) -> None:
    for _ in range(3 * SILENT_BEATS):
        call.say(FILLER)
        call.beat(bytes(320))
    call.say(numbered(1))
    assert call.beat(bytes(320)) == numbered(1)


def test_given_what_is_no_audio_only_when_two_seconds_pass_then_the_line_has_ended(call: Call) -> None:
    for _ in range(SILENT_BEATS - 1):
        call.say(b"")
        call.line.receive()
    call.say(b"")
    with pytest.raises(LineEnded):
        call.line.receive()


def test_given_the_pbx_closes_its_socket_when_it_is_sent_to_then_the_line_has_ended_at_once(call: Call) -> None:
    call.pbx.close()
    call.beat(bytes(320))
    with pytest.raises(LineEnded, match="no audio any more"):
        call.beat(bytes(320))


def test_given_a_line_when_hung_up_then_nothing_was_sent_not_even_an_empty_datagram(call: Call) -> None:
    call.line.hang_up()
    call.line.hang_up()
    assert call.heard() == []


# The reception


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def reception(clock: Clock) -> AsyncIterator[UnicastReception]:
    reception = UnicastReception("127.0.0.1", figures=Figures(), now=clock)
    yield reception
    reception.close()


async def eventually(check: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110  (what is waited for is not ours to signal)
            await asyncio.sleep(0.002)


class Arrivals(list[UnicastLine]):
    def __hash__(self) -> int:  # type: ignore[override]  # bound methods of it are compared
        return id(self)


async def test_given_an_address_when_its_peer_sends_then_the_line_is_there_once_and_keeps_to_that_port(
    reception: UnicastReception,
) -> None:
    lines: list[UnicastLine] = []
    address = await reception.announce(8_000, PEER, lines.append)
    with DatagramPbx(address) as pbx, DatagramPbx(address) as other:
        for number in range(-IN_HAND, 1):
            assert not lines
            pbx.say(numbered(number))
            await asyncio.sleep(0.01)
        await eventually(lambda: lines)
        other.say(numbered(2))
        pbx.say(numbered(3))
        await asyncio.sleep(0.01)
        (line,) = lines
        assert [line.receive() for _ in range(3)] == [numbered(0), numbered(3), None]
        line.send(numbered(4))
        assert pbx.heard() == [numbered(4)]
        assert other.heard() == []
        line.hang_up()
    assert len(lines) == 1


async def test_given_strangers_before_the_peer_when_they_send_then_they_are_no_part_of_the_call() -> None:
    figures, lines = Figures(), list[UnicastLine]()
    reception = UnicastReception("127.0.0.1", figures=figures)
    address = await reception.announce(8_000, PEER, lines.append)
    with DatagramPbx(address, "127.0.0.2") as stranger, DatagramPbx(address) as pbx, DatagramPbx(address) as late:
        stranger.say(numbered(1))
        await eventually(lambda: figures.refusals["stranger"])
        assert not lines
        pbx.say(b"")  # never audio
        for _ in range(IN_HAND):
            pbx.say(numbered(1))
        await eventually(lambda: figures.refusals["size"])
        late.say(numbered(1))  # from the right address, and not who has begun
        await eventually(lambda: figures.refusals["stranger"] == 2)
        pbx.say(numbered(2))
        late.say(numbered(3))  # queued before the kernel is told whom to let in
        stranger.say(numbered(4))
        await eventually(lambda: lines)
        assert [lines[0].receive() for _ in range(3)] == [numbered(2), None, None]
        lines[0].hang_up()
    assert figures.refusals == {"stranger": 2, "size": 1}
    assert figures.connections == 1
    reception.close()


async def test_given_an_address_when_five_seconds_pass_then_it_is_good_for_nothing(reception: UnicastReception, clock: Clock) -> None:
    lines: list[UnicastLine] = []
    address = await reception.announce(8_000, PEER, lines.append)
    clock.time += 5.0
    reception.sweep()
    with DatagramPbx(address) as pbx:
        for _ in range(IN_HAND + 1):
            pbx.say(numbered(1))
        await asyncio.sleep(0.02)
    assert not lines


async def test_given_two_addresses_when_one_is_withdrawn_then_the_other_is_good(reception: UnicastReception) -> None:
    one, two = Arrivals(), Arrivals()
    for_one, for_two = one.append, two.append
    address_one = await reception.announce(8_000, PEER, for_one)
    address_two = await reception.announce(8_000, PEER, for_two)
    assert address_one.port != address_two.port
    assert address_one.token != address_two.token
    reception.withdraw(for_one)
    with DatagramPbx(address_one) as pbx, DatagramPbx(address_two) as other:
        for _ in range(IN_HAND + 1):
            pbx.say(numbered(1))
            other.say(numbered(2))
        await eventually(lambda: two)
    assert not one
    two[0].hang_up()


async def test_given_audio_of_another_call_when_it_still_comes_to_a_fresh_port_then_that_port_is_told_to_nobody(
    reception: UnicastReception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node has died, and FreeSWITCH goes on sending its calls to their ports; the kernel gives one of those to a new call."""
    given_out: list[socket.socket] = []
    bound = unicast._bound  # the kernel's choice is the test's here

    def watched(host: str) -> socket.socket:
        given_out.append(bound(host))
        return given_out[-1]

    monkeypatch.setattr(unicast, "_bound", watched)
    asked = asyncio.create_task(reception.announce(8_000, PEER, list[UnicastLine]().append))
    await eventually(lambda: given_out)
    stale = given_out[0].getsockname()
    with DatagramPbx(MediaAddress(stale[0], stale[1], "", 8_000)) as forgotten:
        forgotten.say(numbered(1))
        address = await asked
    assert address.port != stale[1]
    assert len(given_out) == 2


async def test_given_a_reception_that_closes_when_an_address_is_on_its_way_then_none_is_told(reception: UnicastReception) -> None:
    asked = asyncio.create_task(reception.announce(8_000, PEER, list[UnicastLine]().append))
    await asyncio.sleep(0.01)
    reception.close()
    with pytest.raises(Unavailable, match="stops"):
        await asked


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "172.16.0.9", "fd00::1", "localhost"])
async def test_given_a_host_that_no_stranger_reaches_when_asked_then_it_is_taken(address: str) -> None:
    assert await private_address(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "203.0.112.9", "8.8.8.8", "2001:4860::8", "100.64.0.1"])
async def test_given_a_host_that_strangers_reach_when_asked_then_it_is_the_operators_to_change(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"media\.public_host"):
        await private_address(address)
    with pytest.raises(ConfigurationError):
        await UnicastReception(address, figures=Figures()).announce(8_000, PEER, list[UnicastLine]().append)


async def test_given_a_host_without_an_address_when_asked_then_it_is_unavailable_for_now() -> None:
    with pytest.raises(Unavailable, match="has no address"):
        await private_address("nowhere.invalid")


async def test_given_a_private_host_that_is_not_ours_when_an_address_is_wanted_then_there_is_none() -> None:
    with pytest.raises(Unavailable, match="no socket"):
        await UnicastReception("10.255.255.1", figures=Figures()).announce(8_000, PEER, list[UnicastLine]().append)
