"""Whatever bytes a manager sends, in whatever pieces: they are accepted, or end the connection with its reason; never anything else."""

import asyncio
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from panoramisk.actions import Action
from panoramisk.message import Message

from bridge.errors import RoomlineError, Unavailable
from bridge.pbx.asterisk.wire import GuardedProtocol
from bridge.testing.ami_server import GREETING, AmiServer, silence
from bridge.testing.time_travel import PATIENCE, travel
from tests.pbx.asterisk.stage import SECRET, until, wired

ASKED, LISTED = "action/asked", "action/listed"

WORDS = [
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b":", b": ", b" "),
    *(b"Event: ", b"Event", b"event: ", b"Response: ", b"response: ", b"ActionID: ", b"actionid: ", b"CommandID: ", b"commandid: "),
    *(b"Message: ", b"Success", b"Error", b"Follows", b"Goodbye", b"Shutdown", b"DTMFEnd", b"StatusComplete", b"EventList: start"),
    *(b"SubEvent: Start", b"SubEvent: End", b"Value: ", b"Output: ", b"content: ", b"x" * 70_000),
    *("😀".encode(), b"\xf0\x9f", b"\xff\xfe", ASKED.encode(), LISTED.encode(), GREETING),
]
BYTES = st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(WORDS), max_size=24).map(b"".join), st.sampled_from(WORDS))
HEADER = st.tuples(st.sampled_from([b"Event: ", b"Response: ", b"ActionID: ", b"actionid: ", b"Message: ", b"X: "]), st.sampled_from(WORDS))
MESSAGES = st.lists(HEADER, min_size=1, max_size=5).map(lambda headers: b"".join(n + v + b"\r\n" for n, v in headers) + b"\r\n")
STREAM = st.lists(st.one_of(BYTES, MESSAGES), max_size=6).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=12)

Outcome = tuple[list[dict[str, Any]], str | None, list[str]]


class Transport(asyncio.Transport):
    """Takes everything, sends nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(places) if end > start]


async def receive(chunks: list[bytes]) -> Outcome:
    """The events that came, why the connection ended (None: it stands), what became of two actions that were waiting."""
    protocol, transport = GuardedProtocol(), Transport()
    events: list[Message] = []
    protocol.deliver = events.append
    protocol.connection_made(transport)
    futures = [
        protocol.send(Action({"Action": "Getvar", "ActionID": ASKED}, as_list=False), as_list=False),
        protocol.send(Action({"Action": "Status", "ActionID": LISTED}, as_list=True), as_list=True),
    ]
    for chunk in chunks:
        if not transport.closed:
            protocol.data_received(chunk)
    lost = protocol.lost.result() if protocol.lost.done() else None
    assert (lost is not None) == transport.closed == protocol.closed
    if lost is not None:
        assert all(future.done() for future in futures)
        assert protocol.responses == {}
    return [dict(event.items()) for event in events], lost, [what_became_of(future) for future in futures]


def what_became_of(future: "asyncio.Future[Any]") -> str:
    if not future.done():
        return "waiting"
    error = future.exception()
    assert error is None or isinstance(error, Unavailable)
    return str(error or future.result())


@settings(max_examples=300, deadline=None)
@given(greeted=st.booleans(), data=STREAM, cuts=CUTS)
@example(greeted=True, data=b"Event: Shutdown\r\n\r\nEvent: DTMFEnd\r\n\r\n", cuts=[3])
@example(greeted=True, data=b"Event: A\r\nEvent: B\r\n\r\n", cuts=[])
@example(greeted=True, data=b"Event: A\r\nCommandID: a\r\nCommandID: b\r\n\r\n", cuts=[])
@example(greeted=True, data=b"Response: Error\r\nActionID: action/listed\r\n\r\n" * 2, cuts=[20])
@example(greeted=False, data=GREETING[:-1], cuts=[5])
def test_given_any_bytes_in_any_pieces_then_they_are_accepted_or_end_the_connection_with_a_reason(
    greeted: bool, data: bytes, cuts: list[int]
) -> None:
    data = GREETING + data if greeted else data
    whole = travel(receive([data]))
    # How the network cut it must not matter.
    assert travel(receive(pieces(data, cuts))) == whole
    assert travel(receive([bytes([byte]) for byte in data] if len(data) < 300 else [data])) == whole
    assert whole[1] is None or whole[1]


async def survive(data: bytes, cuts: list[int]) -> None:
    async with AmiServer(secret=SECRET) as server, wired(server, action_timeout=1.0) as on:
        server.script("Status", silence)
        asked = asyncio.create_task(on.wire.list_action("Status"))
        await server.until(lambda: server.named("Status"))
        # Some of it is for the very action that waits.
        await server.send_pieces(data.replace(LISTED.encode(), server.actions[-1]["ActionID"].encode()), cuts)
        try:
            await asked
        except RoomlineError as error:
            assert isinstance(error, Unavailable)  # noqa: PT017  (an answer is as good)
        server.cut()
        await until(lambda: on.ups >= 2 and on.wire.connected)
        assert await on.works()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=STREAM, cuts=CUTS)
def test_given_any_bytes_when_they_are_over_then_the_wire_still_runs_and_comes_back(data: bytes, cuts: list[int]) -> None:
    travel(survive(data, cuts), PATIENCE)
