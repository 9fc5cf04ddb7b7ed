"""A node behind its Unix socket: the same face from outside, a controller that goes and comes back, and a node that dies or freezes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge.media.node_server
from bridge.errors import NodeGone, RemoteProtocolError, Unavailable
from bridge.media import messages as m
from bridge.media.node import InProcessNode, NodeOptions
from bridge.media.node_server import NodeServer
from bridge.media.port import Clip, ClipName, Node, NodeLoad
from bridge.media.remote import RemoteNode, RemoteNodeOptions, RemoteSound
from bridge.model.ending import EndReason
from bridge.model.ticket import DigitsToSend, RoomTicket, SeatEvent, SeatGone
from bridge.rooms.local import LocalRooms
from tests.media.channel import Channel
from tests.media.test_node import CLIPS, numbered

QUICK = RemoteNodeOptions(Path(), ping_interval=0.05, ping_timeout=0.5, longest_wait=0.1)


def options(path: Path) -> RemoteNodeOptions:
    return RemoteNodeOptions(path, ping_interval=QUICK.ping_interval, ping_timeout=QUICK.ping_timeout, longest_wait=QUICK.longest_wait)


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
async def controller(place: Path) -> AsyncIterator[RemoteNode]:
    remote = RemoteNode(options(place))
    running = asyncio.create_task(remote.run())
    try:
        await eventually(lambda: not remote.load().lost)
        yield remote
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def eventually(check: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110  (what is waited for is not ours to signal)
            await asyncio.sleep(0.005)


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


async def test_given_a_second_controller_when_it_comes_then_the_first_has_lost_the_node(served: InProcessNode, place: Path) -> None:
    async with controller(place) as first:
        sound = await first.open("call", 8_000)
        async with controller(place) as second:
            assert list(await second.sounds()) == ["call"]
            with contextlib.suppress(Unavailable):
                await sound.connected()


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
        writer.write(m.encode(m.Hello(version=m.VERSION)) + m.encode(m.Load(calls=0, room_for=5, draining=False)))

    server = await asyncio.start_unix_server(greet, place)
    async with controller(place) as remote:
        asking = asyncio.create_task(remote.open("call", 8_000))
        await eventually(lambda: remote.load().lost)
        with pytest.raises(Unavailable):
            await asking
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
async def test_given_a_controller_that_talks_nonsense_then_it_is_left_and_the_calls_stay(
    served: InProcessNode, place: Path, line: bytes
) -> None:
    async with controller(place) as remote:
        await remote.open("call", 8_000)
    reader, writer = await asyncio.open_unix_connection(place)
    writer.write(line)
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
    ):
        line = m.encode(message)
        assert line.count(b"\n") == 1
        assert m.read_from_controller(line) == message
