"""Whole calls through the scripted FreeSWITCH when it, its connection or its operator does what no other PBX of the list does."""

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bridge.model.ending import EndReason
from bridge.testing.carrier import CarrierCall
from bridge.testing.freeswitch import FreeSwitchServer
from bridge.testing.freeswitch_caller import SwitchCall
from bridge.testing.freeswitch_scripted import ScriptedSwitchPbx
from bridge.testing.pbx_config import FALLBACK_HZ
from bridge.testing.stack import Stack
from tests.real.scenario import CONFIGURATION, PIN, PIN_ECHO, State, caller_in, heard_tone, hears_itself, the_record, until_heard

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_call_left"), pytest.mark.timeout(90)]

PLAYED_HZ = 1500.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(CONFIGURATION, scripted=True, keep=tmp_path_factory.mktemp("scripted")) as stack:
        yield stack
        await stack.nothing_left()


@pytest.fixture
def pbx(stack: Stack) -> ScriptedSwitchPbx:
    assert isinstance(stack.pbx, ScriptedSwitchPbx)
    return stack.pbx


@pytest.fixture
def server(pbx: ScriptedSwitchPbx) -> FreeSwitchServer:
    return pbx.server


async def test_given_a_talk_when_the_operator_plays_into_it_then_its_sound_is_back_seconds_after_that(
    stack: Stack, pbx: ScriptedSwitchPbx
) -> None:
    """Danger 2 (freeswitch.md): whatever resets the session ends unicast without a word, and not again in this park loop."""
    call = await caller_in(stack, State.TALKING)
    assert isinstance(call, SwitchCall)
    channel = call.switch_channel
    assert channel is not None
    played_at = time.monotonic()
    await pbx.admin.api(f"uuid_broadcast {channel.unique_id} tone_stream://%(800,0,{PLAYED_HZ:g}) aleg")
    assert channel.unicast is None
    await until_heard(call, (PLAYED_HZ,), since=played_at, within=3.0)
    await hears_itself(call, within=20.0)
    assert 2.0 < call.heard.longest_gap(played_at, time.monotonic()) < 12.0, "the node's 2 s of silence, then the look and a new park loop"
    assert heard_tone(call, (FALLBACK_HZ,), played_at) is None
    await the_end(stack, call)


async def test_given_all_that_is_said_torn_in_the_middle_of_a_header_then_a_whole_call_goes_through(
    stack: Stack, server: FreeSwitchServer
) -> None:
    server.torn = True
    try:
        await a_whole_call(stack)
    finally:
        server.torn = False
    assert server.open_connections == 2, "the server's and the administrator's"


async def test_given_answers_out_of_order_then_a_whole_call_goes_through(stack: Stack, server: FreeSwitchServer) -> None:
    """A connection whose answers are not those to its commands is given up for a new one; the call waits for it."""
    before = len(server.connected_at)
    call = await stack.carrier.call(PIN_ECHO)
    await call.answered()
    server.swaps = True
    await server.until(lambda: len(server.connected_at) > before, timeout=20.0)
    await until_asked_and_in(stack, call)


async def test_given_a_connection_that_ends_in_the_middle_of_a_header_then_a_whole_call_goes_through(
    stack: Stack, pbx: ScriptedSwitchPbx
) -> None:
    call = await stack.carrier.call(PIN_ECHO)
    await call.answered()
    before = len(pbx.server.connected_at)
    pbx.server.send(b"Content-Length: 1234\nContent-Ty")
    pbx.server.cut()
    await pbx.server.until(lambda: len(pbx.server.connected_at) > before, timeout=20.0)
    await pbx.forget_admin()
    await pbx.connect_admin()
    await until_asked_and_in(stack, call)


async def a_whole_call(stack: Stack) -> None:
    call = await stack.carrier.call(PIN_ECHO)
    await call.answered()
    await until_asked_and_in(stack, call)


async def until_asked_and_in(stack: Stack, call: CarrierCall) -> None:
    """Keys that are pressed while nobody hears them are asked for again: the caller tries once more."""
    for _ in range(4):
        await call.press(f"{PIN}#")
        try:
            await hears_itself(call, within=4.0)
        except AssertionError:
            continue
        break
    await hears_itself(call)
    await the_end(stack, call)


async def the_end(stack: Stack, call: CarrierCall) -> None:
    await call.hang_up()
    assert (await the_record(stack, call)).end_reason is EndReason.HANGUP
