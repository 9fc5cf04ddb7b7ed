"""A node behind its Unix socket: the same face from outside, a controller that goes and comes back, and a node that dies or freezes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge.media.node_server
from bridge.errors import ConfigurationError, NodeGone, RemoteProtocolError, Superseded, Unavailable
from bridge.media import messages as m
from bridge.media import node_server
from bridge.media.epoch import Epoch
from bridge.media.node import InProcessNode
from bridge.media.node_server import NodeServer
from bridge.media.options import NodeOptions
from bridge.media.port import Clip, ClipName, Node, NodeLoad
from bridge.media.remote import Presence, RemoteNode, RemoteNodeOptions, RemoteSound
from bridge.media.unicast import IN_HAND
from bridge.model.ending import EndReason
from bridge.model.media_address import Datagrams, Stream
from bridge.model.ticket import DigitsToSend, RoomTicket, SeatEvent, SeatGone
from bridge.rooms.local import LocalRooms
from tests.media.channel import Channel
from tests.media.datagram_pbx import DatagramPbx
from tests.media.test_node import CLIPS, numbered, silence_told_after

QUICK = RemoteNodeOptions(Path(), ping_interval=0.05, ping_timeout=0.5, longest_wait=0.1)


def options(path: Path, epoch: Epoch | None = None) -> RemoteNodeOptions:
    return replace(QUICK, path=path, epoch=epoch or Epoch.now())


@pytest.fixture
def rooms() -> LocalRooms:
    return LocalRooms()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run" / "node.sock"


@pytest.fixture
async def served(rooms: LocalRooms, place: Path) -> AsyncIterator[InProcessNode]:
    async with InProcessNode(NodeOptions(port=0, max_calls=3), rooms, CLIPS) as node, NodeServer(node, place, orphan_limit=60.0):
        yield node


@asynccontextmanager
async def controller(place: Path, epoch: Epoch | None = None) -> AsyncIterator[RemoteNode]:
    remote = RemoteNode(options(place, epoch))
    running = asyncio.create_task(remote.run())
    try:
        await eventually(lambda: remote.presence is Presence.THERE)
        yield remote
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def eventually(check: Callable[[], object], within: float = 5) -> None:
    async with asyncio.timeout(within):
        while not check():  # noqa: ASYNC110  (what is waited for is not ours to signal)
            await asyncio.sleep(0.005)


class Breakable:
    """`async with Breakable(place, path)`: a way to the node that can be cut, and closed: who comes then is let in and hears nothing."""

    def __init__(self, place: Path, path: Path) -> None:
        self.path = path
        self.open = True
        self._place = place
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Breakable":
        self._server = await asyncio.start_unix_server(self._carry, self.path)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while not self.open and not writer.is_closing():  # noqa: ASYNC110  (a test's attribute)
            await asyncio.sleep(0.01)
        if writer.is_closing():
            return
        far_reader, far_writer = await asyncio.open_unix_connection(self._place)
        self._writers.append(far_writer)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.transport.abort()


def ticket(call_id: str, room: str = "lobby") -> RoomTicket:
    return RoomTicket(call_id, room, f"phone-{call_id}", call_id, metadata="🦄" * 3000, attributes={"sip.callStatus": "active"})


async def on_air(remote: RemoteNode, call_id: str) -> tuple[RemoteSound, Channel]:
    sound = await remote.open(call_id, 8_000)
    channel = await Channel.connect(await sound.invite())
    await sound.connected()
    return sound, channel


def test_given_a_remote_node_when_typed_then_it_is_what_the_story_asks_for() -> None:
    node: Node = RemoteNode(QUICK)
    assert node.load() == NodeLoad(calls=0, room_for=0, lost=True)


async def test_given_two_calls_when_they_are_seated_from_afar_then_they_hear_each_other_and_their_events(
    served: InProcessNode, rooms: LocalRooms, place: Path
) -> None:
    async with controller(place) as remote:
        (one, first), (two, second) = await on_air(remote, "one"), await on_air(remote, "two")
        async with first, second:
            seat, other = await one.take_seat(ticket("one")), await two.take_seat(ticket("two"))
            events: list[SeatEvent] = []
            listening = asyncio.create_task(collect(seat.events(), events))
            await seat.company()
            await seat.open()
            await other.open()
            for number in range(1, 6):
                first.say(numbered(number))
                await asyncio.sleep(0.02)
            await second.until_heard(numbered(3))
            state = await one.snapshot()
            assert (state.connected, state.seated_in, state.opened, state.playing) == (True, "lobby", True, None)
            await other.publish_digit("7")
            await eventually(lambda: events == [DigitsToSend("7")])
            await rooms.delete_room("lobby")
            await listening
            assert events == [DigitsToSend("7"), SeatGone("room_deleted")]
        await one.close()
        await two.close()
        assert await remote.sounds() == {}
        await eventually(lambda: remote.load() == NodeLoad(calls=0, room_for=3))


async def test_given_a_caller_who_hung_up_between_two_controllers_then_nothing_of_their_call_stays(
    served: InProcessNode, rooms: LocalRooms, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next controller has no call to ask about: no sound may stay for it, and no seat."""
    monkeypatch.setattr(node_server, "UNCLAIMED_LIMIT", 0.3)
    async with controller(place) as remote:
        sound, channel = await on_air(remote, "gone")
        await sound.take_seat(ticket("gone"))
        ringing = await remote.open("ringing", 8_000)
        await ringing.take_seat(ticket("ringing"))
    await channel.__aexit__(None, None, None)
    async with controller(place) as newer:
        (await newer.sounds())["ringing"]
        assert not (await (await newer.sounds())["ringing"].snapshot()).connected  # asked about, though it has no line: wanted
        await eventually(lambda: newer.load().calls == 1)
        assert set(await newer.sounds()) == {"ringing"}
        await asyncio.sleep(0.5)
        assert set(await newer.sounds()) == {"ringing"}
    assert served.load().calls == 1


async def test_given_a_remote_node_then_its_figures_and_its_processs_are_told(served: InProcessNode, place: Path) -> None:
    served.figures.frames_missing = 7
    served.figures.refusals["unannounced"] += 3
    async with controller(place) as remote:
        told = {(each.name, *each.labels.values()): each.value for family in await remote.metrics() for each in family.samples}
    assert told["roomline_media_frames_missing_total",] == 7
    assert told["roomline_media_connections_refused_total", "unannounced"] == 3
    assert told["roomline_media_beat_lateness_seconds_bucket", "+Inf"] == told["roomline_media_beat_lateness_seconds_count",]
    assert told["process_threads",] >= 1
    assert told["process_resident_memory_bytes",] > 1e6


async def test_given_calls_at_the_same_moment_then_each_counts_before_the_node_says_so(served: InProcessNode, place: Path) -> None:
    """Or all of them would choose the same node."""
    async with controller(place) as remote:
        await eventually(lambda: remote.load() == NodeLoad(calls=0, room_for=3))
        opening = [asyncio.create_task(remote.open(f"call {number}", 8000)) for number in range(2)]
        await asyncio.sleep(0)
        assert remote.load() == NodeLoad(calls=2, room_for=1)
        sounds = await asyncio.gather(*opening)
        for sound in sounds:
            await sound.close()
        await eventually(lambda: remote.load() == NodeLoad(calls=0, room_for=3))


async def collect(events: AsyncIterator[SeatEvent], into: list[SeatEvent]) -> None:
    async for event in events:
        into.append(event)


async def test_given_a_clip_when_played_from_afar_then_its_end_and_its_stop_are_told(served: InProcessNode, place: Path) -> None:
    async with controller(place) as remote:
        sound, channel = await on_air(remote, "call")
        async with channel:
            assert await sound.play(Clip(ClipName.WRONG_PIN)) is True
            playing = asyncio.create_task(sound.play(Clip(ClipName.RINGBACK, loop=True)))
            await channel.until_heard(CLIPS.frames(ClipName.RINGBACK, 8_000)[3])
            assert (await sound.snapshot()).playing is ClipName.RINGBACK
            await sound.stop()
            assert await playing is False
        await sound.disconnected()


async def test_given_a_caller_who_stops_when_waited_for_from_afar_then_their_silence_is_told(served: InProcessNode, place: Path) -> None:
    async with controller(place) as remote:
        sound, channel = await on_air(remote, "call")
        async with channel:
            async with asyncio.timeout(5):
                assert await silence_told_after(sound, channel, 0.2) >= 0.2 - 0.04
        with pytest.raises(Unavailable):
            await RemoteSound(remote, "another").silent_for(0.0)


async def test_given_what_cannot_be_had_then_the_nodes_words_come_back(served: InProcessNode, place: Path) -> None:
    async with controller(place) as remote:
        for number in range(3):
            await remote.open(f"call-{number}", 8_000)
        with pytest.raises(Unavailable, match="as many calls as it may"):
            await remote.open("one too many", 8_000)
        with pytest.raises(Unavailable, match="does not carry"):
            await RemoteSound(remote, "nobody").invite()
        with pytest.raises(Unavailable, match="a fault in the node"):
            await remote.open("call-9", 44_100)
        assert await RemoteSound(remote, "nobody").play(Clip(ClipName.WELCOME)) is False


# --- the controller goes ------------------------------------------------------------------------------------------------


async def test_given_a_controller_that_goes_then_the_next_finds_the_call_its_seat_and_what_happened_there(
    served: InProcessNode, rooms: LocalRooms, place: Path
) -> None:
    async with controller(place) as remote:
        sound, channel = await on_air(remote, "call")
        seat = await sound.take_seat(ticket("call"))
        await seat.open()
        playing = asyncio.create_task(sound.play(Clip(ClipName.WELCOME)))
        await channel.until_heard(CLIPS.frames(ClipName.WELCOME, 8_000)[0])
    assert await playing is False, "for the controller that has gone"
    await channel.until_heard(CLIPS.frames(ClipName.WELCOME, 8_000)[9])
    await rooms.delete_room("lobby")
    async with controller(place) as remote:
        found = (await remote.sounds())["call"]
        assert (await found.snapshot()).connected
        same = await found.take_seat(ticket("call"))
        events: list[SeatEvent] = []
        await collect(same.events(), events)
        assert events == [SeatGone("room_deleted")]
        await found.close()
    await channel.close()


async def test_given_a_seat_when_the_next_controller_takes_it_then_nobody_in_the_room_notices(
    served: InProcessNode, rooms: LocalRooms, place: Path
) -> None:
    async with controller(place) as remote:
        sound, channel = await on_air(remote, "call")
        await (await sound.take_seat(ticket("call"))).open()
        before = rooms.occupants()
    async with controller(place) as remote:
        found = (await remote.sounds())["call"]
        seat = await found.take_seat(ticket("call"))
        assert rooms.occupants() == before
        assert (await found.snapshot()).opened
        await seat.leave(EndReason.HANGUP)
        assert rooms.occupants() == {}
        again = await found.take_seat(ticket("call"))
        assert rooms.occupants() == before
        await again.leave(EndReason.HANGUP)
        await found.close()
    await channel.close()


async def test_given_no_controller_for_long_then_who_waits_goes_back_and_who_talks_talks_on_for_a_while(
    rooms: LocalRooms, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge.media.node_server, "DIALOGUE_LIMIT", 0.3)
    async with InProcessNode(NodeOptions(port=0), rooms, CLIPS) as node, NodeServer(node, place, orphan_limit=1.0):
        async with controller(place) as remote:
            waiting, first = await on_air(remote, "waiting")
            await waiting.take_seat(ticket("waiting"))
            talking, second = await on_air(remote, "talking")
            await (await talking.take_seat(ticket("talking"))).open()
        await asyncio.wait_for(first.ended.wait(), 5)
        assert not second.ended.is_set()
        assert rooms.occupants() == {"lobby": ("phone-talking",)}
        await asyncio.wait_for(second.ended.wait(), 5)
        await eventually(lambda: rooms.occupants() == {})
        await first.close()
        await second.close()


async def test_given_a_second_controller_when_it_comes_then_the_first_leaves_the_node_to_it(served: InProcessNode, place: Path) -> None:
    async with controller(place) as first:
        sound = await first.open("call", 8_000)
        waiting = asyncio.create_task(sound.connected())
        await asyncio.sleep(0)
        async with controller(place) as second:
            with pytest.raises(Superseded, match="newer controller"):
                await waiting
            for ask in (sound.snapshot(), sound.close(), first.open("another", 8_000), first.sounds()):
                with pytest.raises(Superseded):
                    await ask
            assert (first.presence, first.load()) == (Presence.LEFT, NodeLoad(calls=0, room_for=0, lost=True))
            await asyncio.sleep(0.3)
            assert list(await second.sounds()) == ["call"], "nobody has thrown it out again"
            assert second.presence is Presence.THERE


@pytest.mark.parametrize("there", [True, False])
async def test_given_a_controller_that_froze_while_a_newer_one_came_when_it_is_back_then_it_is_turned_away(
    served: InProcessNode, place: Path, there: bool
) -> None:
    older, newer = Epoch.now(), Epoch.now()
    async with contextlib.AsyncExitStack() as stack:
        serving = await stack.enter_async_context(contextlib.AsyncExitStack())
        successor = await serving.enter_async_context(controller(place, newer))
        await successor.open("call", 8_000)
        if not there:
            await serving.aclose()
        back = RemoteNode(options(place, older))
        await asyncio.wait_for(back.run(), 5)
        assert back.presence is Presence.LEFT
        with pytest.raises(Superseded):
            await back.sounds()
        if there:
            assert list(await successor.sounds()) == ["call"]
            assert successor.presence is Presence.THERE


async def test_given_a_controller_whose_connection_broke_when_it_is_back_then_it_is_the_same_one(
    served: InProcessNode, place: Path
) -> None:
    epoch = Epoch.now()
    async with controller(place, epoch) as one:
        await one.open("call", 8_000)
        async with controller(place, epoch) as again:
            assert list(await again.sounds()) == ["call"]
            await eventually(lambda: one.presence is not Presence.LEFT)


async def test_given_a_controller_that_was_stopped_in_the_middle_of_a_ping_then_the_silence_is_not_the_nodes(place: Path) -> None:
    """Its own time limit is over when it thaws, and the answer is there, unread."""
    place.parent.mkdir(parents=True)
    pings, writers = 0, []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal pings
        writers.append(writer)
        writer.write(m.encode(m.Hello(version=m.VERSION)) + m.encode(m.Welcome()))
        while line := await reader.readline():
            if isinstance(ping := m.read_from_controller(line), m.Ping):
                pings += 1
                if pings == 2:
                    time.sleep(QUICK.ping_timeout + 0.5)  # noqa: ASYNC251  (the whole process stands still, as with SIGSTOP)
                writer.write(m.encode(m.Answer(id=ping.id)))

    server = await asyncio.start_unix_server(serve, place)
    async with controller(place) as remote:
        await eventually(lambda: pings >= 5)
        assert remote.presence is Presence.THERE
        assert len(writers) == 1, "the connection is still the first"
    server.close()
    for writer in writers:
        writer.transport.abort()


async def test_given_two_nodes_for_one_place_then_the_first_one_serves(served: InProcessNode, place: Path) -> None:
    async with controller(place) as remote:
        with pytest.raises(ConfigurationError, match="another node serves there"):
            async with NodeServer(served, place):
                pass
        assert await remote.sounds() == {}
    async with controller(place) as remote:
        assert await remote.sounds() == {}, "its socket is where it was"


@given(st.tuples(st.integers(0, 9), st.text(max_size=2)), st.tuples(st.integers(0, 9), st.text(max_size=2)))
def test_given_two_controllers_then_the_later_start_is_the_newer_and_the_wire_keeps_it_so(
    one: tuple[int, str], other: tuple[int, str]
) -> None:
    first, second = (m.read_from_controller(m.encode(m.Greeting(epoch=Epoch(*each)))) for each in (one, other))
    assert isinstance(first, m.Greeting)
    assert isinstance(second, m.Greeting)
    assert (first.epoch < second.epoch) == (one < other)


async def test_given_a_connection_that_breaks_when_the_call_is_looked_for_then_the_node_is_waited_for(
    served: InProcessNode, place: Path, tmp_path: Path
) -> None:
    """Of two nodes the one that has the call was away for a moment: it is not carried on in the other."""
    async with Breakable(place, tmp_path / "way") as way, controller(way.path) as remote:
        sound, channel = await on_air(remote, "call")
        seat = await sound.take_seat(ticket("call"))
        await seat.open()
        listening = asyncio.create_task(collect(seat.events(), []))
        for pause in (0.0, 0.5):
            way.open = False
            way.cut()
            await eventually(lambda: remote.presence is not Presence.THERE)
            with pytest.raises(NodeGone):
                await sound.invite()
            looking = asyncio.create_task(remote.sounds())
            await asyncio.sleep(pause)
            assert not looking.done()
            way.open = True
            found = (await looking)["call"]
            assert (await found.snapshot()).connected
            assert (await found.snapshot()).opened
        assert not channel.ended.is_set()
        with pytest.raises(NodeGone):
            await listening
        await found.close()
        await channel.close()


async def test_given_a_node_that_does_not_come_back_then_its_calls_are_looked_for_elsewhere_in_time(
    served: InProcessNode, place: Path, tmp_path: Path
) -> None:
    async with Breakable(place, tmp_path / "way") as way, controller(way.path) as remote:
        way.open = False
        way.cut()
        await eventually(lambda: remote.presence is not Presence.THERE)
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(NodeGone):
                await remote.sounds()
        assert 1.0 < time.monotonic() - began < 2.5, "waited for once"


async def test_given_a_node_that_has_died_then_nobody_waits_for_it(rooms: LocalRooms, place: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        dying = await stack.enter_async_context(contextlib.AsyncExitStack())
        node = await dying.enter_async_context(InProcessNode(NodeOptions(port=0), rooms, CLIPS))
        await dying.enter_async_context(NodeServer(node, place))
        remote = await stack.enter_async_context(controller(place))
        await dying.aclose()
        began = time.monotonic()
        with pytest.raises(NodeGone):
            await remote.sounds()
        assert time.monotonic() - began < 1.0


async def test_given_a_call_that_ended_while_the_node_was_away_then_it_is_closed_when_the_node_is_back(
    served: InProcessNode, rooms: LocalRooms, place: Path, tmp_path: Path
) -> None:
    async with Breakable(place, tmp_path / "way") as way, controller(way.path) as remote:
        over, channel = await on_air(remote, "over")
        await over.take_seat(ticket("over"))
        await remote.open("goes on", 8_000)
        way.open = False
        way.cut()
        await eventually(lambda: remote.presence is not Presence.THERE)
        await over.close()
        await over.close()
        way.open = True
        await eventually(lambda: rooms.occupants() == {})
        assert list(await remote.sounds()) == ["goes on"]
        await remote.open("over", 8_000)
        await asyncio.sleep(0.1)
        assert set(await remote.sounds()) == {"goes on", "over"}, "a new one is not taken for the old one"
        await channel.close()


# --- the node goes ------------------------------------------------------------------------------------------------------


async def test_given_a_node_that_dies_then_all_that_waits_is_told_and_the_node_counts_as_lost(rooms: LocalRooms, place: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        dying = await stack.enter_async_context(contextlib.AsyncExitStack())
        node = await dying.enter_async_context(InProcessNode(NodeOptions(port=0), rooms, CLIPS))
        await dying.enter_async_context(NodeServer(node, place))
        remote = await stack.enter_async_context(controller(place))
        sound, channel = await on_air(remote, "call")
        seat = await sound.take_seat(ticket("call"))
        company = asyncio.create_task(seat.company())
        listening = asyncio.create_task(collect(seat.events(), []))
        playing = asyncio.create_task(sound.play(Clip(ClipName.RINGBACK, loop=True)))
        gone = asyncio.create_task(sound.disconnected())
        await asyncio.sleep(0.05)
        await dying.aclose()
        await eventually(lambda: remote.load().lost)
        for waiting in (company, listening):
            with pytest.raises(NodeGone):
                await waiting
        assert await playing is False
        await gone
        with pytest.raises(NodeGone):
            await sound.invite()
        assert not (await sound.snapshot()).connected
        await sound.stop()
        await sound.close()
        await seat.leave(EndReason.HANGUP)
        await channel.close()


async def test_given_a_node_that_is_frozen_then_its_silence_is_noticed(place: Path) -> None:
    """It accepts, greets, and says nothing more."""
    place.parent.mkdir(parents=True)
    writers: list[asyncio.StreamWriter] = []

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        for word in (m.Hello(version=m.VERSION), m.Welcome(), m.Load(calls=0, room_for=5, draining=False, worn=False)):
            writer.write(m.encode(word))

    server = await asyncio.start_unix_server(greet, place)
    async with controller(place) as remote:
        asking = asyncio.create_task(remote.open("call", 8_000))
        await eventually(lambda: remote.load().lost)
        assert remote.presence is Presence.SILENT
        with pytest.raises(Unavailable):
            await asking
    server.close()
    for writer in writers:
        writer.transport.abort()


async def test_given_a_node_that_accepts_and_never_greets_then_it_is_silent(place: Path) -> None:
    place.parent.mkdir(parents=True)
    writers: list[asyncio.StreamWriter] = []

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_unix_server(accept, place)
    remote = RemoteNode(replace(options(place), connect_timeout=0.2))
    running = asyncio.create_task(remote.run())
    await eventually(lambda: remote.presence is Presence.SILENT)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    server.close()
    for writer in writers:
        writer.transport.abort()


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0\r\n", b'{"kind":"hello","version":99}\n', b"\x00" * 100 + b"\n", b'{"kind":"load"}\n'])
async def test_given_a_place_that_is_no_node_of_ours_then_it_is_said_and_tried_again(place: Path, greeting: bytes) -> None:
    place.parent.mkdir(parents=True)
    came = 0

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_unix_server(greet, place)
    remote = RemoteNode(options(place))
    running = asyncio.create_task(remote.run())
    await eventually(lambda: came >= 2)
    assert remote.load().lost
    assert remote.presence is Presence.UNKNOWN
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    server.close()


async def test_given_no_socket_then_it_is_tried_until_there_is_one(rooms: LocalRooms, place: Path) -> None:
    remote = RemoteNode(options(place))
    running = asyncio.create_task(remote.run())
    await asyncio.sleep(0.1)
    assert remote.load().lost
    async with InProcessNode(NodeOptions(port=0), rooms, CLIPS) as node, NodeServer(node, place):
        await eventually(lambda: not remote.load().lost)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# --- what is said -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"x" * (m.LINE_LIMIT + 10) + b"\n", b'{"kind":"ping","id":1,"more":2}\n', b"\xff\xfe\n"])
@pytest.mark.parametrize("greeting", [b"", m.encode(m.Greeting(epoch=Epoch(1 << 62, "")))])
async def test_given_a_controller_that_talks_nonsense_then_it_is_left_and_the_calls_stay(
    served: InProcessNode, place: Path, line: bytes, greeting: bytes
) -> None:
    async with controller(place) as remote:
        await remote.open("call", 8_000)
    reader, writer = await asyncio.open_unix_connection(place)
    writer.write(greeting + line)
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.readline(), 5):
            pass
    writer.transport.abort()
    assert list(await served.sounds()) == ["call"]


def test_given_a_socket_then_only_its_user_may_use_it(place: Path) -> None:
    def rights() -> tuple[int, int]:
        return place.stat().st_mode & 0o777, place.parent.stat().st_mode & 0o777

    async def serve() -> None:
        async with NodeServer(InProcessNode(NodeOptions(port=0), LocalRooms(), CLIPS), place):
            assert rights() == (0o600, 0o700)

    asyncio.run(serve())
    assert not place.exists()


@given(st.binary(max_size=200))
def test_given_any_bytes_then_they_are_a_message_or_the_other_sides_fault(line: bytes) -> None:
    for read in (m.read_from_controller, m.read_from_node):
        with contextlib.suppress(RemoteProtocolError):
            assert isinstance(read(line), m.Message)


def test_given_any_request_then_it_is_read_as_it_was_said() -> None:
    for message in (
        m.Open(id=1, call_id="c", rate=8000),
        m.Play(id=2, call_id="c", clip=ClipName.WELCOME, loop=True),
        m.TakeSeat(id=3, call_id="c", ticket=ticket("c")),
        m.SetAttributes(id=4, seat=1, changes={"a": "\n🦄"}),
        m.Leave(id=5, seat=1, reason=EndReason.HANGUP),
        m.Cancel(id=5),
        m.Greeting(epoch=Epoch.now()),
    ):
        line = m.encode(message)
        assert line.count(b"\n") == 1
        assert m.read_from_controller(line) == message


async def test_given_a_caller_who_hangs_up_while_their_sound_is_opened_then_it_does_not_stay(served: InProcessNode, place: Path) -> None:
    async with controller(place) as remote:
        opening = asyncio.create_task(remote.open("gone", 8_000))
        while not served.load().calls:  # noqa: ASYNC110  (the very moment, before the answer is on its way)
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await eventually(lambda: served.load().calls == 0)


async def test_given_an_answer_that_was_lost_on_its_way_then_the_call_is_opened_there_anew(served: InProcessNode, place: Path) -> None:
    async with controller(place) as remote:
        await served.open("again", 8_000)
        with pytest.raises(Unavailable, match="already"):
            await remote.open("again", 8_000)
        sound = await remote.open("again", 8_000)
        assert not (await sound.snapshot()).connected
        assert set(await remote.sounds()) == {"again"}


async def test_given_something_to_play_and_a_stop_in_one_breath_then_nothing_is_played(served: InProcessNode, place: Path) -> None:
    async with controller(place) as remote:
        sound, channel = await on_air(remote, "one")
        async with channel:
            playing = asyncio.create_task(sound.play(Clip(ClipName.RINGBACK, loop=True)))
            await asyncio.sleep(0)
            stopping = asyncio.create_task(sound.stop())
            await stopping
            assert not await asyncio.wait_for(playing, 5)
            assert (await sound.snapshot()).playing is None
        await sound.close()


async def test_given_a_fault_while_the_node_looks_after_its_calls_then_it_goes_on_looking(
    served: InProcessNode, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with controller(place) as remote:
        sounds, faults = served.sounds, [RuntimeError("a fault")] * 3

        async def faulty() -> object:
            if faults:
                raise faults.pop()
            return await sounds()

        monkeypatch.setattr(served, "sounds", faulty)
        await eventually(lambda: not faults)
        monkeypatch.undo()
        await remote.open("later", 8_000)
        await eventually(lambda: remote.load() == NodeLoad(calls=1, room_for=2))


async def test_given_a_leg_that_speaks_datagrams_when_its_node_is_far_then_the_address_is_of_the_same_kind(
    served: InProcessNode, place: Path
) -> None:
    async with controller(place) as remote:
        sound = await remote.open("call", 8_000)
        stream, datagrams = await sound.invite(), await sound.invite(Datagrams("127.0.0.1"))
        assert stream.carriage == Stream()
        assert datagrams.carriage == Datagrams("127.0.0.1")
        assert datagrams.port not in (stream.port, served.port)
        with DatagramPbx(datagrams) as pbx:
            for _ in range(IN_HAND + 1):
                pbx.say(numbered(1))
            async with asyncio.timeout(5):
                await sound.connected()
