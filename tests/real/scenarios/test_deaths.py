"""Who dies, and what the caller notices: the cells of DESIGN §5's table for the rows controller, node, AMI / ESL connection and PBX.

Each death strikes four callers at once, one in each state; each cell is a test of its own on what its caller heard. What differs from PBX
to PBX is a figure that the PBX brings along (`DeathLimits`).
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bridge.model.ending import EndReason
from bridge.model.record import CallRecord
from bridge.testing.carrier import CarrierCall
from bridge.testing.listening import tone
from bridge.testing.pbx_config import FALLBACK_HZ
from bridge.testing.stack import Stack
from tests.real.scenario import (
    CONFIGURATION,
    EMPTY,
    OWN_ECHO,
    PIN,
    PIN_EMPTY,
    RINGBACK_HZ,
    SPEECH_HZ,
    State,
    assert_nothing_secret_logged,
    caller_in,
    heard_tone,
    hears_itself,
    the_record,
    until_heard,
)
from tests.real.scenarios.conftest import Parts, not_scripted
from tests.real.wire_tap import WireTap

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180), pytest.mark.slow]

ANSWERED = (State.PIN, State.WAITING, State.TALKING)
RINGING_FALLS_BACK = (3.0, 8.0)
"""Seconds after which a caller who has not been answered is the operator's: the same at each PBX."""


@dataclass
class Death:
    """One death that struck: when, whom, and what can still be asked."""

    stack: Stack
    calls: dict[State, CarrierCall]
    struck_at: float
    over_at: float = 0.0
    """When what came of it was there: what the caller heard is looked at until then."""
    facts: dict[str, float] = field(default_factory=dict)


Strike = Callable[[Death, WireTap], Awaitable[None]]


PATIENT: dict[str, Any] = {
    **CONFIGURATION,
    # Who waits or is asked for a PIN is to wait and be asked still when their turn to be looked at has come.
    "pin": {"first_digit_timeout": 300},
    "trunks": [{"sip_trunk_id": "ST_patient", "numbers": [EMPTY, PIN_EMPTY], "ringing_timeout": "600s"}],
}


@asynccontextmanager
async def _before(parts: Parts, folder: Path, strike: Strike) -> AsyncIterator[tuple[Death, WireTap]]:
    """A stack with a caller in each state."""
    stack = Stack({**PATIENT, "media": MEDIA.get(strike, {})}, **parts(), keep=folder, with_server=False)
    async with stack, WireTap(lambda: stack.pbx.control_port) as tap:
        stack.control_by(tap.port)
        await stack.server.start()
        states = list(State)
        calls = dict(zip(states, await asyncio.gather(*(caller_in(stack, state) for state in states)), strict=True))
        yield Death(stack, calls, time.monotonic()), tap
        for call in calls.values():
            await call.hang_up()
    assert_nothing_secret_logged(stack)


async def _killed(death: Death, _tap: WireTap) -> None:
    await death.stack.server.kill()
    await _until_all_fell_back(death, death.stack.pbx.death_limits.fallback[1])


async def _killed_beside_a_node(death: Death, _tap: WireTap) -> None:
    """The node lives on, and hands back by itself whom nobody asks for."""
    await death.stack.server.kill()
    await _until_all_fell_back(death, NODE_HANDS_BACK[1])


async def _until_all_fell_back(death: Death, within: float) -> None:
    """Or the time is over, which is for the tests to say."""
    while time.monotonic() - death.struck_at < within + 0.5:
        if all(heard_tone(call, (FALLBACK_HZ,), death.struck_at) is not None for call in death.calls.values()):
            return
        await asyncio.sleep(0.3)


async def _node_killed(death: Death, _tap: WireTap) -> None:
    await _node_struck(death, signal.SIGKILL)


async def _node_frozen(death: Death, _tap: WireTap) -> None:
    await _node_struck(death, signal.SIGSTOP)


async def _node_struck(death: Death, how: signal.Signals) -> None:
    (worker,) = death.stack.server.workers()
    os.kill(worker, how)
    await asyncio.sleep(6.0)
    assert worker not in death.stack.server.workers(), "a frozen node is ended"
    assert len(death.stack.server.workers()) == 1


async def _killed_and_back(death: Death, _tap: WireTap) -> None:
    await death.stack.server.kill()
    await death.stack.server.start()
    death.facts["back_at"] = time.monotonic()
    await asyncio.sleep(7.0)


async def _frozen(death: Death, _tap: WireTap) -> None:
    death.stack.server.freeze()
    await asyncio.sleep(19.0)
    death.stack.server.thaw()
    await asyncio.sleep(3.0)


async def _frozen_briefly(death: Death, _tap: WireTap) -> None:
    death.stack.server.freeze()
    await asyncio.sleep(2.5)
    death.stack.server.thaw()
    death.facts["back_at"] = time.monotonic()
    await asyncio.sleep(6.0)


async def _control_cut(death: Death, tap: WireTap) -> None:
    tap.cut()
    await asyncio.sleep(2.0)
    tap.mend()
    death.facts["back_at"] = time.monotonic()
    await asyncio.sleep(7.0)


async def _control_silent(death: Death, tap: WireTap) -> None:
    """Packets silently dropped: the connection is up, and nothing comes or goes."""
    tap.swallow()
    await asyncio.sleep(18.0)
    await hears_itself(death.calls[State.TALKING])
    tap.mend()
    await asyncio.sleep(6.0)


async def _pbx_killed(death: Death, _tap: WireTap) -> None:
    await death.stack.pbx.kill()
    await asyncio.sleep(12.0)


async def _pbx_frozen(death: Death, _tap: WireTap) -> None:
    death.stack.pbx.freeze()
    await asyncio.sleep(2.0)
    death.stack.pbx.thaw()
    death.facts["back_at"] = time.monotonic()
    await asyncio.sleep(7.0)


async def _pbx_frozen_long(death: Death, _tap: WireTap) -> None:
    """Longer than anything waits for it: our side has given its calls up when it wakes."""
    death.stack.pbx.freeze()
    await asyncio.sleep(18.0)
    death.stack.pbx.thaw()
    await asyncio.sleep(10.0)


MEDIA: dict[Strike, dict[str, int]] = {
    # A frozen server is told from a silent one by nobody: here the shortest limit, elsewhere the default.
    _frozen: {"orphan_limit": 10},
    # Nor is a node that is gone from one that only has no controller, where the PBX does not notice.
    _killed: {"orphan_limit": 10},
    _killed_beside_a_node: {"orphan_limit": 10, "workers": 1},
    _node_killed: {"workers": 1},
    _node_frozen: {"workers": 1},
}
"""What each is configured with besides."""

NODE_HANDS_BACK = (4.0, 16.0)
"""Seconds after its server's death within which a node that lives on has given its callers back: the same at each PBX."""

LONG: Sequence[Strike] = (_killed, _killed_beside_a_node, _frozen, _control_silent, _pbx_frozen_long)
SHORT: Sequence[Strike] = (_frozen_briefly, _control_cut, _pbx_killed, _pbx_frozen)
"""Deaths that strike at the same time, each in a stack of its own: their time is waiting."""

REPLACED: Sequence[Strike] = (_killed_and_back, _node_killed, _node_frozen)
"""Who is struck is started anew at once, which takes a core for itself, and is what the caller waits for: one after the other."""

Struck = Mapping[str, Death | BaseException]


def _name(strike: Strike) -> str:
    return strike.__name__.strip("_")


def _at_once(strikes: Sequence[Strike], name: str, *, in_turn: bool = False) -> Callable[..., object]:
    @pytest_asyncio.fixture(scope="module", loop_scope="module", name=name)
    async def struck(request: pytest.FixtureRequest, parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Struck]:
        wanted = {fixture for item in request.session.items for fixture in getattr(item, "fixturenames", ())}
        chosen = [strike for strike in strikes if _name(strike) in wanted]
        starting = asyncio.Semaphore(2)  # what starts takes a core for itself

        async def begin(strike: Strike) -> tuple[Death, WireTap]:
            async with starting:
                return await left.enter_async_context(_before(parts, tmp_path_factory.mktemp(_name(strike)), strike))

        async with AsyncExitStack() as left:
            before = await asyncio.gather(*(begin(strike) for strike in chosen))
            await asyncio.sleep(0.3)
            turn = asyncio.Semaphore(1 if in_turn else len(strikes))

            async def fall(strike: Strike, death: Death, tap: WireTap) -> None:
                async with turn:
                    death.struck_at = time.monotonic()
                    await strike(death, tap)
                    death.over_at = time.monotonic()

            ways = await asyncio.gather(*(fall(strike, *each) for strike, each in zip(chosen, before, strict=True)), return_exceptions=True)
            yield {_name(strike): way or death for strike, way, (death, _) in zip(chosen, ways, before, strict=True)}

    return struck


long_ones, short_ones, replaced_ones = (
    _at_once(LONG, "long_ones"),
    _at_once(SHORT, "short_ones"),
    _at_once(REPLACED, "replaced_ones", in_turn=True),
)


def _of(struck: Struck, name: str) -> Death:
    found = struck[name]
    if isinstance(found, BaseException):
        raise found
    return found


def _long(strike: Strike) -> Callable[..., object]:
    @pytest.fixture(scope="module", name=_name(strike))
    def death(long_ones: Struck) -> Death:
        return _of(long_ones, _name(strike))

    return death


def _replaced(strike: Strike) -> Callable[..., object]:
    @pytest.fixture(scope="module", name=_name(strike))
    def death(replaced_ones: Struck) -> Death:
        return _of(replaced_ones, _name(strike))

    return death


def _short(strike: Strike) -> Callable[..., object]:
    @pytest.fixture(scope="module", name=_name(strike))
    def death(short_ones: Struck) -> Death:
        return _of(short_ones, _name(strike))

    return death


killed, killed_beside_a_node, frozen, control_silent, pbx_frozen_long = map(_long, LONG)
frozen_briefly, control_cut, pbx_killed, pbx_frozen = map(_short, SHORT)
killed_and_back, node_killed, node_frozen = map(_replaced, REPLACED)


def _falls_back(death: Death, state: State, between: tuple[float, float]) -> None:
    """The operator's fallback was heard in that window of seconds after the death, and on the way there what this PBX plays."""
    call = death.calls[state]
    assert call.answered_at is not None, "the fallback answers"
    heard_at = heard_tone(call, (FALLBACK_HZ,), death.struck_at)
    assert heard_at is not None, "the fallback was not heard"
    assert between[0] <= heard_at - death.struck_at <= between[1], f"after {heard_at - death.struck_at:.1f} s"
    if state in ANSWERED:
        for frequencies in death.stack.pbx.death_limits.heard_before:
            assert heard_tone(call, frequencies, death.struck_at) is not None, f"{frequencies} Hz were not heard before the fallback"


def _longest_gap_after(death: Death, state: State) -> float:
    return death.calls[state].heard.longest_gap(death.struck_at, death.over_at)


@pytest.mark.parametrize("state", list(State))
async def test_given_a_killed_server_when_none_comes_then_the_caller_gets_the_fallback(killed: Death, state: State) -> None:
    limits = killed.stack.pbx.death_limits
    if state in ANSWERED:
        _falls_back(killed, state, limits.fallback)
        assert _longest_gap_after(killed, state) < limits.silence
    else:
        _falls_back(killed, state, RINGING_FALLS_BACK)


@pytest.mark.parametrize("state", list(State))
async def test_given_a_killed_server_whose_node_lives_on_when_none_comes_then_the_caller_gets_the_fallback_at_any_pbx(
    killed_beside_a_node: Death, state: State
) -> None:
    _falls_back(killed_beside_a_node, state, NODE_HANDS_BACK if state in ANSWERED else RINGING_FALLS_BACK)


@pytest.mark.parametrize("state", list(State))
async def test_given_a_killed_server_when_another_starts_at_once_then_the_call_goes_on(killed_and_back: Death, state: State) -> None:
    death, call = killed_and_back, killed_and_back.calls[state]
    await _goes_on(death, state)
    await call.hang_up()
    record = await the_record(death.stack, call)
    assert record.taken_over
    assert record.end_reason is (EndReason.CANCELLED if state is State.RINGING else EndReason.HANGUP)


async def _goes_on(death: Death, state: State) -> None:
    """No fallback, and the caller can do what this state is for."""
    call, back_at = death.calls[state], death.facts["back_at"]
    assert call.ending is None, f"the call ended: {call.ending}"
    assert heard_tone(call, (FALLBACK_HZ,), death.struck_at) is None, "the caller was taken to the fallback"
    match state:
        case State.RINGING:
            assert call.answered_at is None, "a ringing caller rings on"
        case State.PIN:
            await call.press(f"{PIN}#")
            await asyncio.sleep(2.5)
            await hears_itself(call)
        case State.WAITING:
            assert heard_tone(call, RINGBACK_HZ, back_at) is not None, "no ringback after the take-over"
        case State.TALKING:
            await hears_itself(call)
    if state in ANSWERED:
        assert _longest_gap_after(death, state) < death.stack.pbx.death_limits.silence_of_server


@pytest.mark.parametrize("state", list(State))
async def test_given_a_frozen_server_when_it_stays_frozen_then_the_caller_gets_the_fallback(frozen: Death, state: State) -> None:
    _falls_back(frozen, state, RINGING_FALLS_BACK if state is State.RINGING else (5.0, 18.0))
    assert frozen.calls[state].ending is None, "the server that woke up left the operator's call alone"
    record = await the_record(frozen.stack, frozen.calls[state])
    assert record.end_reason is EndReason.FELL_BACK


@pytest.mark.parametrize("state", list(State))
async def test_given_a_server_frozen_for_a_moment_when_it_wakes_then_the_call_goes_on(frozen_briefly: Death, state: State) -> None:
    call = frozen_briefly.calls[state]
    assert call.ending is None
    assert heard_tone(call, (FALLBACK_HZ,), frozen_briefly.struck_at) is None
    if state is State.TALKING:
        await hears_itself(call)
    await call.hang_up()
    record = await the_record(frozen_briefly.stack, call)
    assert not record.taken_over


async def _goes_on_in_a_new_node(death: Death, state: State) -> None:
    call = death.calls[state]
    assert call.ending is None
    assert heard_tone(call, (FALLBACK_HZ,), death.struck_at) is None
    if state in ANSWERED:
        assert _longest_gap_after(death, state) < death.stack.pbx.death_limits.silence_of_node
    match state:
        case State.RINGING:
            assert call.answered_at is None, "a ringing caller notices nothing"
        case State.PIN:
            await call.press(f"{PIN}#")
            await hears_itself(call, within=8.0)
        case State.WAITING:
            await until_heard(call, RINGBACK_HZ, since=death.struck_at + 1.0, within=time.monotonic() - death.struck_at + 4.0)
        case State.TALKING:
            await hears_itself(call)
    await call.hang_up()
    record = await the_record(death.stack, call)
    assert record.end_reason is (EndReason.CANCELLED if state is State.RINGING else EndReason.HANGUP)


@pytest.mark.parametrize("state", list(State))
async def test_given_a_node_that_dies_then_the_call_goes_on_in_a_new_one(node_killed: Death, state: State) -> None:
    await _goes_on_in_a_new_node(node_killed, state)


@pytest.mark.parametrize("state", list(State))
async def test_given_a_node_that_freezes_then_the_call_goes_on_in_a_new_one(node_frozen: Death, state: State) -> None:
    await _goes_on_in_a_new_node(node_frozen, state)


@pytest.mark.parametrize("state", list(State))
async def test_given_a_cut_control_connection_when_it_is_back_then_the_call_goes_on(control_cut: Death, state: State) -> None:
    await _goes_on(control_cut, state)
    if state is State.TALKING:
        assert _longest_gap_after(control_cut, state) < 0.5, "a talking caller notices nothing"
    await control_cut.calls[state].hang_up()
    await the_record(control_cut.stack, control_cut.calls[state])


@pytest.mark.parametrize("state", list(State))
async def test_given_a_silent_control_connection_when_it_stays_silent_then_who_talks_talks_on_and_the_others_get_the_fallback(
    control_silent: Death, state: State
) -> None:
    death, call = control_silent, control_silent.calls[state]
    if state is State.TALKING:
        assert call.ending is None
        assert heard_tone(call, (FALLBACK_HZ,), death.struck_at) is None
        assert _longest_gap_after(death, state) < 0.5, "a talking caller notices nothing"
        await hears_itself(call)
    else:
        _falls_back(death, state, (3.0, 9.0) if state is State.RINGING else (5.0, 17.0))
    await call.hang_up()
    record = await the_record(death.stack, call)
    assert record.end_reason in ((EndReason.HANGUP,) if state is State.TALKING else (EndReason.FELL_BACK, EndReason.PBX_GONE))


@pytest.mark.parametrize("state", list(State))
async def test_given_a_killed_pbx_when_its_calls_are_gone_then_each_has_its_record(pbx_killed: Death, state: State) -> None:
    record: CallRecord = await the_record(pbx_killed.stack, pbx_killed.calls[state])
    assert record.end_reason is EndReason.PBX_GONE
    after_death = record.ended_at - (time.time() - (time.monotonic() - pbx_killed.struck_at))
    assert after_death < (3.0 if state in ANSWERED else 12.0), "the seat is left at once, or when nobody waits for the PBX any more"


@pytest.mark.parametrize("state", list(State))
async def test_given_a_pbx_frozen_for_a_moment_when_it_wakes_then_the_call_goes_on(pbx_frozen: Death, state: State) -> None:
    call = pbx_frozen.calls[state]
    assert call.ending is None
    assert heard_tone(call, (FALLBACK_HZ,), pbx_frozen.struck_at) is None
    if state is State.TALKING:
        await hears_itself(call)
    await call.hang_up()
    await the_record(pbx_frozen.stack, call)


@pytest.mark.parametrize("state", list(State))
async def test_given_a_pbx_frozen_for_long_when_it_wakes_then_no_call_is_left_to_itself(pbx_frozen_long: Death, state: State) -> None:
    """It may have fallen back or gone on; in either case the caller hears something, and there is one record at the end."""
    death, call = pbx_frozen_long, pbx_frozen_long.calls[state]
    assert call.ending is None
    fell_back = heard_tone(call, (FALLBACK_HZ,), death.struck_at) is not None
    if state is State.TALKING and not fell_back:
        await hears_itself(call)
    await call.hang_up()
    await the_record(death.stack, call)


@not_scripted("fifty callers in the test's own process would be its own load")
@pytest.mark.alone
async def test_given_fifty_talking_callers_when_the_server_is_killed_and_back_then_all_are_adopted_within_three_seconds(
    parts: Parts, tmp_path: Path
) -> None:
    async with Stack({**CONFIGURATION, "calls": {"limit": 60}}, **parts(), keep=tmp_path, calls_at_once=60) as stack:
        calls = [await stack.carrier.call(OWN_ECHO) for _ in range(50)]
        await asyncio.gather(*(call.answered() for call in calls))
        await stack.server.kill()
        await stack.server.start()
        started = time.monotonic()
        await asyncio.gather(*(call.say(tone(8000, 4.0, [SPEECH_HZ])) for call in calls))
        await asyncio.sleep(4.5)
        heard = [heard_tone(call, (SPEECH_HZ,), started) for call in calls]
        assert None not in heard, f"{heard.count(None)} of 50 callers do not hear the echo"
        assert max(moment for moment in heard if moment is not None) - started < 3.0
        assert all(call.ending is None for call in calls)
        await asyncio.gather(*(call.hang_up() for call in calls))
        for call in calls:
            assert (await the_record(stack, call)).taken_over
        await stack.nothing_left()
