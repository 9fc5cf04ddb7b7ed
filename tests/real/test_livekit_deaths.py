"""Who dies, and what caller and room notice, with LiveKit's rooms: the rows node, LiveKit and controller of DESIGN §5's table.

Each death strikes four callers at once, one in each state; each cell is a test of its own on what its caller heard and the others saw. The
cells wait for what is to come, so that they take no longer than it does; they look back to the blow, so that their order does not matter.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import yaml

from bridge.media.port import ClipName
from bridge.model.ending import EndReason
from bridge.testing.carrier import CarrierCall
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.hearing import WINDOW
from bridge.testing.human import RATE, Human
from bridge.testing.listening import is_tone, seconds_of_tone, tone
from bridge.testing.livekit_server import LiveKitServer
from bridge.testing.pbx_config import FALLBACK_HZ, HOLD_MUSIC_HZ
from bridge.testing.stack import Stack
from tests.real.livekit_scenario import (
    COMPANY,
    EMPTY,
    PIN_EMPTY,
    PIN_FIRST,
    death_configuration,
    hears,
    hears_clip,
    identity_of,
    in_words,
    seconds_of_comfort,
)
from tests.real.scenario import PIN, RINGBACK_HZ, State, assert_nothing_secret_logged, heard_tone, the_record
from tests.real.scenarios.conftest import SCRIPTED, Parts, parts_of
from tests.real.wire_tap import WireTap

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120), pytest.mark.slow]

HUMAN_HZ, CALLER_HZ = 600.0, 1000.0
ROOMS = {State.RINGING: "nobody", State.PIN: "first", State.WAITING: "nobody-behind-a-pin", State.TALKING: "company"}
ROOM_PATIENCE = 4.0
"""Seconds that a lost room has to come back while its caller still waits (`bridge.call.world`)."""
SLACK = 2.0
"""Seconds that a busy machine takes beyond what is promised."""


@dataclass
class Death:
    """One death that struck: when, whom, and what can still be asked."""

    stack: Stack
    livekit: LiveKitServer
    tap: WireTap
    others: dict[State, Human]
    """In each caller's room. Only who is in the room with company says anything; the rest look on, and are no company."""
    calls: dict[State, CarrierCall]
    struck_at: float
    back_after: float = 0.0
    """Seconds for which nobody commanded."""
    saying: asyncio.Task[float] | None = None
    """Of who talks, where they speak through it all."""

    @property
    def human(self) -> Human:
        return self.others[State.TALKING]


Strike = Callable[[Death], Awaitable[None]]

SILENT_BY = 0.4
"""Seconds after its node's death by which a caller has heard the last of it."""

HARDLY_A_MOMENT = 1.5
"""Seconds within which a new node may be there: music that is cut off by what follows is no clean tone for long."""


async def caller_in(stack: Stack, human: Human, state: State) -> CarrierCall:
    """A new caller, brought into this state."""
    match state:
        case State.RINGING:
            call = await stack.carrier.call(EMPTY)
            await call.ringing()
        case State.PIN:
            call = await stack.carrier.call(PIN_FIRST)
            await call.answered()
        case State.WAITING:
            call = await stack.carrier.call(PIN_EMPTY)
            await call.answered()
            await call.press(f"{PIN}#")
            await hears(call, RINGBACK_HZ, since=time.monotonic(), within=8.0)
        case State.TALKING:
            call = await stack.carrier.call(COMPANY)
            await call.answered()
            await human.until("published", identity_of(call))
            await hears(call, (HUMAN_HZ,), since=time.monotonic(), within=5.0)
    return call


async def strike_all(
    parts: Parts, binary: Path, folder: Path, strike: Strike, *, lost_limit: float = 12, on_one_node: bool = False
) -> AsyncIterator[Death]:
    """`on_one_node`: all four callers on the first of the two nodes, the other one empty."""
    async with AsyncExitStack() as cleaning:
        livekit = await cleaning.enter_async_context(LiveKitServer(binary, folder / "server"))
        tap = await cleaning.enter_async_context(WireTap(lambda: livekit.port))
        stack = Stack(death_configuration(livekit, lost_limit), **parts(), keep=folder, with_server=False)
        await cleaning.enter_async_context(stack)
        config = yaml.safe_load(stack.server.config.read_text())
        config["rooms"]["url"] = f"ws://127.0.0.1:{tap.port}"
        stack.server.config.write_text(yaml.safe_dump(config))
        await stack.server.start()
        others = {state: Human(livekit.access, ROOMS[state], "other", speaks=state is State.TALKING) for state in State}
        cleaning.push_async_callback(leave_all, others)
        await asyncio.gather(*(other.join() for other in others.values()))
        others[State.TALKING].hum(tone(RATE, 1.0, [HUMAN_HZ]))
        calls = await callers(stack, others[State.TALKING], on_one_node=on_one_node)
        await asyncio.sleep(0.5)
        death = Death(stack, livekit, tap, others, calls, time.monotonic())
        await strike(death)
        yield death
        if death.saying is not None:
            death.saying.cancel()
            await asyncio.gather(death.saying, return_exceptions=True)
        tap.mend()
        livekit.thaw()
        await asyncio.gather(*(call.hang_up() for call in calls.values()))
    assert_nothing_secret_logged(stack, livekit.secret, "eyJ")


async def leave_all(others: dict[State, Human]) -> None:
    await asyncio.gather(*(other.leave() for other in others.values()))


async def callers(stack: Stack, human: Human, *, on_one_node: bool) -> dict[State, CarrierCall]:
    """One in each state. Who is asked for a PIN comes last: they are given ten seconds for the first digit.

    A call is given to the node with the most room. So that all are on one, each is followed by a caller who keeps the other one's place.
    """
    states = [State.RINGING, State.WAITING, State.TALKING]
    if not on_one_node:
        calls = dict(zip(states, await asyncio.gather(*(caller_in(stack, human, state) for state in states)), strict=True))
        return calls | {State.PIN: await caller_in(stack, human, State.PIN)}
    calls, fillers = {}, []
    await until_nodes(stack, "roomline_node_up", (1, 1), within=20.0)  # the server commands once the first of them is there
    for number, state in enumerate((*states, State.PIN)):
        calls[state] = await caller_in(stack, human, state)
        await until_nodes(stack, CALLS, (number + 1, number))
        if state is not State.PIN:
            fillers.append(await caller_in(stack, human, State.PIN))
            await until_nodes(stack, CALLS, (number + 1, number + 1))
    await asyncio.gather(*(filler.hang_up() for filler in fillers))
    await until_nodes(stack, CALLS, (4, 0))
    return calls


CALLS = "roomline_node_calls"


async def until_nodes(stack: Stack, name: str, wanted: tuple[int, int], within: float = 8.0) -> None:
    """Returns once this metric has these values of the two nodes. Raises AssertionError."""
    deadline = time.monotonic() + within
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://{stack.http_address}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            found = tuple(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))
            if found == wanted:
                return
            assert time.monotonic() < deadline, f"{name} of the nodes: {found}, not {wanted}"
            await asyncio.sleep(0.05)


async def both_hear(call: CarrierCall, human: Human, within: float = 8.0) -> None:
    """The caller hears the human, the human hears the caller."""
    since = time.monotonic()
    await hears(call, (HUMAN_HZ,), since, within)
    speaking = asyncio.create_task(call.say(tone(8000, 2.0, [CALLER_HZ]), 8000))
    try:
        while time.monotonic() - since < within:
            now = time.monotonic()
            recording = human.heard.get(identity_of(call))
            if recording is not None and is_tone(recording.samples(now - 0.4, now - 0.1), recording.rate, [CALLER_HZ]):
                return
            await asyncio.sleep(0.1)
    finally:
        await asyncio.gather(speaking, return_exceptions=True)
    raise AssertionError("the human does not hear the caller")


async def hears_company(call: CarrierCall, other: Human, within: float = 10.0) -> None:
    """Whoever has looked on until now begins to publish: the caller hears them."""
    since = time.monotonic()
    other.hum(tone(RATE, 1.0, [HUMAN_HZ]))
    await other.publish()
    await hears(call, (HUMAN_HZ,), since, within)


async def each_has_one_record(death: Death) -> None:
    await asyncio.gather(*(call.hang_up() for call in death.calls.values()))
    await asyncio.gather(*(the_record(death.stack, call) for call in death.calls.values()))


# --- The node --------------------------------------------------------------------------------------------------------

MOVED_WITHIN = 3.0
"""Seconds from a node's death to the call's new sound on another one (DESIGN §8)."""


async def _node_killed(death: Death) -> None:
    os.kill(pid_of_node("0", death.stack), signal.SIGKILL)


async def _node_frozen(death: Death) -> None:
    os.kill(pid_of_node("0", death.stack), signal.SIGSTOP)


def pid_of_node(place: str, stack: Stack) -> int:
    """By its command: `roomline node 0`."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in stack.server.workers()}
    return next(pid for pid, words in commands.items() if words[words.index(b"node") + 1] == place.encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[_node_killed, _node_frozen], ids=["killed", "frozen"])
async def node_death(
    request: pytest.FixtureRequest, asterisk: Asterisk, livekit_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Death]:
    """That of the node which carries all four calls; the other one survives, and has room for them. (The only one that dies, and one that
    comes in its place: test_workers.py.)

    Packets between controller and node cannot be dropped, as both ends are on one Unix socket: a frozen node is what that looks like.
    """
    async for death in strike_all(Parts(asterisk), livekit_binary, tmp_path_factory.mktemp("node"), request.param, on_one_node=True):
        yield death


def heard_music(death: Death, call: CarrierCall, back_at: float) -> None:
    """Until the new node was there; where that took hardly a moment, hardly any is heard."""
    if back_at - death.struck_at > HARDLY_A_MOMENT:
        music_at = heard_tone(call, HOLD_MUSIC_HZ, death.struck_at)
        assert music_at is not None, in_words(call, death.struck_at)
        assert music_at < back_at, in_words(call, death.struck_at)


async def test_given_a_caller_at_the_prompt_when_the_node_dies_then_music_and_they_are_asked_again(node_death: Death) -> None:
    death, limit, state = node_death, MOVED_WITHIN + SLACK, State.PIN
    call, other = death.calls[state], death.others[state]
    heard_music(death, call, await hears_clip(call, ClipName.ENTER_PIN, since=death.struck_at, within=limit + 4.0))
    assert other.happened("joined") == []
    await call.press(f"{PIN}#")
    joined = await other.until("joined", identity_of(call))
    assert joined.details["attributes"]["sip.callStatus"] == "active"
    await hears_company(call, other)


async def test_given_a_talk_when_the_node_dies_then_hold_music_and_a_new_seat_with_the_same_identity(node_death: Death) -> None:
    death, limit, state = node_death, MOVED_WITHIN + SLACK, State.TALKING
    call, human = death.calls[state], death.human
    back_at = await hears(call, (HUMAN_HZ,), since=death.struck_at + SILENT_BY, within=limit)
    assert back_at - death.struck_at < limit
    heard_music(death, call, back_at)
    await both_hear(call, human)
    assert_seated_anew(human, call, "active")
    await call.hang_up()
    record = await the_record(death.stack, call)
    assert record.end_reason is EndReason.HANGUP


async def test_given_a_waiting_caller_when_the_node_dies_then_ringback_is_back_after_hold_music(node_death: Death) -> None:
    death, limit, state = node_death, MOVED_WITHIN + SLACK, State.WAITING
    call, other = death.calls[state], death.others[state]
    back_at = await hears(call, RINGBACK_HZ, since=death.struck_at + SILENT_BY, within=limit)
    assert back_at - death.struck_at < limit
    heard_music(death, call, back_at)
    await other.until("joined", identity_of(call), count=2)
    assert_seated_anew(other, call, "active")
    assert heard_tone(call, (FALLBACK_HZ,), death.struck_at) is None
    await hears_company(call, other)


async def test_given_a_ringing_caller_when_the_node_dies_then_they_ring_on_with_a_new_seat(node_death: Death) -> None:
    death, limit, state = node_death, MOVED_WITHIN + SLACK, State.RINGING
    call, other = death.calls[state], death.others[state]
    joined = await other.until("joined", identity_of(call), count=2)
    assert joined.at - death.struck_at < limit
    assert_seated_anew(other, call, "ringing")
    assert (call.ending, call.answered_at) == (None, None)
    await hears_company(call, other)


def assert_seated_anew(other: Human, call: CarrierCall, status: str) -> None:
    """Once, as the same participant, who looks as before."""
    identity = identity_of(call)
    assert (len(other.happened("joined", identity)), len(other.happened("left", identity))) == (2, 1), other.events
    seen = other.sees(identity)
    assert seen is not None
    first, second = (event.details["attributes"] for event in other.happened("joined", identity))
    assert second | {"sip.callStatus": ""} == first | {"sip.callStatus": ""}
    assert (seen.kind, seen.attributes) == ("sip", second)
    assert seen.attributes["sip.callStatus"] == status


async def test_given_each_call_when_the_node_has_died_then_it_has_exactly_one_record(node_death: Death) -> None:
    await each_has_one_record(node_death)


# --- LiveKit ---------------------------------------------------------------------------------------------------------

ROOM_LOST_LIMIT = 5.0
"""Seconds that a lost room has to come back, in this row; in the next one it does, and has more."""

SDK_NOTICES = 35.0
"""Seconds after which the SDK has noticed a LiveKit that is silent, and has given up coming back by itself: 15 without an answer to its
pings, then those of its own tries and `livekit_seat.SDK_PATIENCE`."""


async def _livekit_killed(death: Death) -> None:
    await death.livekit.kill()
    await death.calls[State.PIN].press(f"{PIN}#")


async def _livekit_frozen(death: Death) -> None:
    death.livekit.freeze()
    await death.calls[State.PIN].press(f"{PIN}#")


async def _signalling_dropped(death: Death) -> None:
    """For good: connections are up and can be made, and nothing passes. Media does, past the tap: a LiveKit that is silent on all its
    sockets is the frozen one."""
    death.tap.swallow()
    await death.calls[State.PIN].press(f"{PIN}#")


LIVEKIT_DEATHS: dict[str, Strike] = {"killed": _livekit_killed, "frozen": _livekit_frozen, "signalling-dropped": _signalling_dropped}

PBXS = ("asterisk", SCRIPTED, "freeswitch")
"""How LiveKit is away makes no difference to a PBX: one death shows that of the PBXs."""


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[*(("asterisk", name) for name in LIVEKIT_DEATHS), *((pbx, "killed") for pbx in PBXS[1:])],
    ids="-".join,
)
async def livekit_death(
    request: pytest.FixtureRequest, livekit_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Death]:
    pbx, name = request.param
    parts, folder = parts_of(pbx, request), tmp_path_factory.mktemp("livekit")
    async for death in strike_all(parts, livekit_binary, folder, LIVEKIT_DEATHS[name], lost_limit=ROOM_LOST_LIMIT):
        yield death


async def test_given_a_ringing_caller_when_livekit_dies_then_the_fallback_within_five_seconds(livekit_death: Death) -> None:
    call = livekit_death.calls[State.RINGING]
    moment = await hears(call, (FALLBACK_HZ,), livekit_death.struck_at, within=10.0)
    assert moment - livekit_death.struck_at < 6.0
    await call.hang_up()
    record = await the_record(livekit_death.stack, call)
    assert record.end_reason is EndReason.ROOM_FAILED


async def test_given_a_waiting_caller_when_livekit_dies_then_an_announcement_and_the_end(livekit_death: Death) -> None:
    call = livekit_death.calls[State.WAITING]
    ending = await call.ended(20.0)
    await hears_clip(call, ClipName.UNAVAILABLE, since=livekit_death.struck_at, within=0.0)
    assert ending.at - livekit_death.struck_at < 12.0  # five seconds, and the announcement
    record = await the_record(livekit_death.stack, call)
    assert record.end_reason is EndReason.ROOM_FAILED


async def test_given_a_caller_at_the_prompt_when_livekit_dies_then_an_announcement_and_the_end(livekit_death: Death) -> None:
    """They were asked before; the right PIN opens nothing now."""
    call = livekit_death.calls[State.PIN]
    ending = await call.ended(25.0)
    await hears_clip(call, ClipName.UNAVAILABLE, since=livekit_death.struck_at, within=0.0)
    assert ending.at - livekit_death.struck_at < 16.0  # the digits, "you are now entering", five seconds, and the announcement
    record = await the_record(livekit_death.stack, call)
    assert (record.end_reason, record.pin_tries) == (EndReason.ROOM_FAILED, 1)
    assert "LiveKit" in record.detail


@pytest.mark.parametrize("number", [EMPTY, PIN_FIRST], ids=["open", "PIN"])
async def test_given_a_new_caller_when_livekit_is_dead_then_the_fallback_and_nobody_is_asked_for_a_pin(
    livekit_death: Death, number: str
) -> None:
    call = await livekit_death.stack.carrier.call(number)
    record = await the_record(livekit_death.stack, call, within=7.0)
    assert (record.end_reason, record.answered_at) == (EndReason.ROOM_FAILED, None), record
    assert "LiveKit" in record.detail
    await hears(call, (FALLBACK_HZ,), call.placed_at, within=7.0)
    await call.hang_up()


async def test_given_a_talk_when_livekit_dies_then_a_comfort_tone_and_the_end_with_its_reason(livekit_death: Death) -> None:
    """The comfort noise begins when the SDK has noticed, and is all that is heard until the announcement."""
    call = livekit_death.calls[State.TALKING]
    ending = await call.ended(SDK_NOTICES + ROOM_LOST_LIMIT + 10.0)
    record = await the_record(livekit_death.stack, call)
    assert record.end_reason is EndReason.ROOM_FAILED
    assert "LiveKit" in record.detail
    announced_at = await hears_clip(call, ClipName.UNAVAILABLE, since=livekit_death.struck_at, within=0.0)
    comfort = seconds_of_comfort(call.heard, livekit_death.struck_at, announced_at)
    assert comfort > ROOM_LOST_LIMIT - 1.0, in_words(call, livekit_death.struck_at)
    assert seconds_of_comfort(call.heard, announced_at - 1.0, announced_at) > 0.75
    assert call.heard.longest_gap(livekit_death.struck_at, ending.at) < 0.5


async def test_given_each_call_when_livekit_has_died_then_it_has_exactly_one_record(livekit_death: Death) -> None:
    await each_has_one_record(livekit_death)


# --- LiveKit, back at once -------------------------------------------------------------------------------------------


LONGEST_BLIP = 2.0
"""Seconds."""


async def _livekit_killed_and_back(death: Death) -> None:
    await death.livekit.kill()
    await asyncio.sleep(1.0)
    await death.livekit.start()


async def _livekit_frozen_briefly(death: Death) -> None:
    death.livekit.freeze()
    await asyncio.sleep(LONGEST_BLIP)
    death.livekit.thaw()


async def _signalling_cut(death: Death) -> None:
    death.tap.cut()
    await asyncio.sleep(1.5)
    death.tap.mend()


async def _signalling_silent(death: Death) -> None:
    """Packets held up: the connection is up, and for a while nothing comes or goes."""
    death.tap.swallow()
    await asyncio.sleep(LONGEST_BLIP)
    death.tap.mend()


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[_livekit_killed_and_back, _livekit_frozen_briefly, _signalling_cut, _signalling_silent],
    ids=["killed", "frozen", "signalling-cut", "signalling-silent"],
)
async def livekit_blip(
    request: pytest.FixtureRequest, asterisk: Asterisk, livekit_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Death]:
    async for death in strike_all(Parts(asterisk), livekit_binary, tmp_path_factory.mktemp("blip"), request.param):
        yield death


async def test_given_a_talk_when_livekit_is_back_at_once_then_both_hear_one_another_again(livekit_blip: Death) -> None:
    call = livekit_blip.calls[State.TALKING]
    async with Human(livekit_blip.livekit.access, "company", "second") as human:
        human.hum(tone(RATE, 1.0, [HUMAN_HZ]))
        await livekit_blip.human.leave()
        await human.until_sees(identity_of(call), within=12.0)
        await both_hear(call, human)
    await call.hang_up()
    assert (await the_record(livekit_blip.stack, call)).end_reason is EndReason.HANGUP


async def test_given_callers_who_wait_when_livekit_is_back_at_once_then_they_wait_on(livekit_blip: Death) -> None:
    """Company that comes finds them. The SDK takes its time to come back, now and then more than who waits is given; but not for both."""
    waited_on = await asyncio.gather(*(waits_on(livekit_blip, state) for state in (State.RINGING, State.WAITING)))
    assert any(waited_on), [in_words(call, livekit_blip.struck_at) for call in livekit_blip.calls.values()]


async def waits_on(death: Death, state: State) -> bool:
    """Whether the caller still waited when company came. Else they have been treated as when LiveKit is dead, and as soon. Raises
    AssertionError."""
    call, struck_at = death.calls[state], death.struck_at
    async with Human(death.livekit.access, ROOMS[state], "company") as company:
        company.hum(tone(RATE, 1.0, [HUMAN_HZ]))
        try:
            if call.ending is None and heard_tone(call, (FALLBACK_HZ,), struck_at) is None:
                await hears(call, (HUMAN_HZ,), since=time.monotonic(), within=15.0)
                await call.hang_up()
                assert (await the_record(death.stack, call)).end_reason is EndReason.HANGUP
                return True
        except AssertionError:
            if call.ending is None and heard_tone(call, (FALLBACK_HZ,), struck_at) is None:
                raise
    match state:
        case State.RINGING:
            given_up_at = await hears(call, (FALLBACK_HZ,), since=struck_at, within=0.0)
        case _:
            given_up_at = await hears_clip(call, ClipName.UNAVAILABLE, since=struck_at, within=0.0)
    # Heard in windows, counted from the strike: one that begins with the patience's end is at its very number, or a rounding before it.
    assert ROOM_PATIENCE - WINDOW < given_up_at - struck_at < LONGEST_BLIP + ROOM_PATIENCE + SLACK
    await call.hang_up()
    assert (await the_record(death.stack, call)).end_reason is EndReason.ROOM_FAILED
    return False


async def test_given_each_call_when_livekit_was_away_then_it_has_exactly_one_record(livekit_blip: Death) -> None:
    await each_has_one_record(livekit_blip)


# --- The controller --------------------------------------------------------------------------------------------------

NO_CONTROLLER = 5.0
"""Seconds without a controller after which who waits gets the fallback (DESIGN §5)."""
TALKED_ON = 8.0
"""Seconds after the blow for which a talk is listened to: longer than the lease that the dead controller has left."""


async def _controller_killed_and_back(death: Death) -> None:
    talking = death.calls[State.TALKING]
    death.saying = asyncio.create_task(talking.say(tone(8000, TALKED_ON + 30.0, [CALLER_HZ]), 8000))
    await asyncio.sleep(0.5)
    death.struck_at = time.monotonic()
    await death.stack.server.kill()
    await death.stack.server.start()
    death.back_after = time.monotonic() - death.struck_at


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def controller_death(asterisk: Asterisk, livekit_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Death]:
    async for death in strike_all(Parts(asterisk), livekit_binary, tmp_path_factory.mktemp("controller"), _controller_killed_and_back):
        yield death


async def test_given_a_caller_at_the_prompt_when_the_controller_is_killed_and_back_then_they_are_asked_again(
    controller_death: Death,
) -> None:
    call, other = controller_death.calls[State.PIN], controller_death.others[State.PIN]
    if fell_back(controller_death, call):
        return
    await hears_clip(call, ClipName.ENTER_PIN, since=controller_death.struck_at + 0.2, within=12.0)
    assert call.heard.longest_gap(controller_death.struck_at, time.monotonic()) < 1.0
    assert other.happened("joined") == []
    await call.press(f"{PIN}#")
    await other.until("joined", identity_of(call))
    await hears_company(call, other)
    await ends_taken_over(controller_death, call)


@pytest.mark.parametrize("state", [State.RINGING, State.WAITING])
async def test_given_a_caller_who_waits_when_the_controller_is_killed_and_back_then_company_still_counts(
    controller_death: Death, state: State
) -> None:
    call, other, struck_at = controller_death.calls[state], controller_death.others[state], controller_death.struck_at
    if fell_back(controller_death, call):
        return
    assert (call.ending, call.answered_at is None) == (None, state is State.RINGING), in_words(call, struck_at)
    await hears_company(call, other)
    assert heard_tone(call, (FALLBACK_HZ,), struck_at) is None
    if controller_death.back_after < NO_CONTROLLER - 1.0:  # after that the node gives who waits back to the dialplan (DESIGN §5)
        assert_never_left(other, call)
    await ends_taken_over(controller_death, call)


async def test_given_a_talk_when_the_controller_is_killed_and_back_then_the_seat_is_the_same_one(controller_death: Death) -> None:
    call, human, struck_at = controller_death.calls[State.TALKING], controller_death.human, controller_death.struck_at
    await asyncio.sleep(max(0.0, struck_at + TALKED_ON - time.monotonic()))
    until = time.monotonic() - 0.5
    assert heard_tone(call, HOLD_MUSIC_HZ, struck_at) is None
    assert call.heard.longest_gap(struck_at, until) < 1.0  # a start of the server fills one of two cores
    room = human.heard[identity_of(call)]
    for recording, hz in ((call.heard, HUMAN_HZ), (room, CALLER_HZ)):
        spoken = seconds_of_tone(recording.samples(struck_at, until), recording.rate, hz)
        assert spoken > 0.9 * (until - struck_at) - 1.0, in_words(call, struck_at)
    assert_never_left(human, call)
    call.ear.silence()
    await both_hear(call, human)
    await ends_taken_over(controller_death, call)


def fell_back(death: Death, call: CarrierCall) -> bool:
    """The table's other half: no controller came within five seconds, as the machine takes longer to start one, and the caller was given
    the fallback then."""
    moment = heard_tone(call, (FALLBACK_HZ,), death.struck_at)
    return moment is not None and death.back_after > NO_CONTROLLER - 1.0 and moment > death.struck_at + NO_CONTROLLER - 1.0


def assert_never_left(other: Human, call: CarrierCall) -> None:
    """Their seat is the one they had before."""
    assert other.happened("left", identity_of(call)) == []
    assert len(other.happened("joined", identity_of(call))) == 1


async def ends_taken_over(death: Death, call: CarrierCall) -> None:
    await call.hang_up()
    record = await the_record(death.stack, call)
    assert (record.taken_over, record.end_reason) == (True, EndReason.HANGUP)
    await next(other for state, other in death.others.items() if death.calls[state] is call).until("left", identity_of(call))


async def test_given_each_call_when_the_controller_is_back_then_it_has_exactly_one_record(controller_death: Death) -> None:
    await each_has_one_record(controller_death)
