"""The sound of calls in a process of its own: controllers come and go, and nobody who talks notices; a node that dies costs hold music."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from bridge.model.ending import EndReason
from bridge.testing.child import Child
from bridge.testing.pbx_config import FALLBACK_HZ, HOLD_MUSIC_HZ
from bridge.testing.ports import LOOPBACK, free_port
from bridge.testing.server import Server
from bridge.testing.stack import Stack
from tests.real.scenario import (
    CONFIGURATION,
    PIN,
    State,
    assert_nothing_secret_logged,
    caller_in,
    heard_tone,
    hears_itself,
    the_record,
    until_heard,
)
from tests.real.scenarios.conftest import Parts

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_call_left"), pytest.mark.timeout(90)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    configuration = CONFIGURATION | {"media": {"workers": 1, "orphan_limit": 10}}
    async with Stack(configuration, **parts(), keep=tmp_path_factory.mktemp("workers")) as stack:
        yield stack
        await stack.pbx.quiet()
        assert_nothing_secret_logged(stack)
    assert stack.server.workers() == []


async def test_given_a_talk_when_the_controller_is_killed_and_back_then_the_caller_notices_nothing(stack: Stack) -> None:
    call = await caller_in(stack, State.TALKING)
    workers = stack.server.workers()
    assert len(workers) == 1
    struck_at = time.monotonic()
    await stack.server.kill()
    await hears_itself(call)
    await stack.server.start()
    await asyncio.sleep(13.0)  # longer than the lease that the controller before has left
    await hears_itself(call)
    assert stack.server.workers() == workers
    assert call.heard.longest_gap(struck_at, time.monotonic()) < 0.5
    assert heard_tone(call, HOLD_MUSIC_HZ, struck_at) is None
    await call.hang_up()
    record = await the_record(stack, call)
    assert (record.taken_over, record.end_reason) == (True, EndReason.HANGUP)


async def test_given_a_caller_who_hangs_up_while_no_server_watches_then_the_next_one_keeps_a_record(stack: Stack) -> None:
    call = await caller_in(stack, State.TALKING)
    await stack.server.kill()
    await call.hang_up()
    await stack.server.start()
    record = await the_record(stack, call, within=20.0)
    assert (record.end_reason, record.answered, bool(record.room)) == (EndReason.UNSEEN, True, True)


async def test_given_a_talk_then_its_workers_figures_are_in_the_servers_metrics(stack: Stack) -> None:
    call = await caller_in(stack, State.TALKING)
    before = await metrics(stack)
    await asyncio.sleep(1.0)
    after = await metrics(stack)
    assert after['roomline_node_up{node="0"}'] == 1
    assert after['roomline_node_calls{node="0"}'] == 1
    beats = 'roomline_media_beats_total{node="0"}'
    assert 25 < after[beats] - before[beats] < 200
    assert after['process_resident_memory_bytes{node="0"}'] > 1e7
    await call.hang_up()
    await the_record(stack, call)


async def test_given_a_frozen_worker_then_a_scrape_says_so_and_does_not_hang(stack: Stack) -> None:
    (worker,) = stack.server.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        async with asyncio.timeout(4):
            assert (await metrics(stack))['roomline_node_up{node="0"}'] == 0
    finally:
        os.kill(worker, signal.SIGCONT)
    async with asyncio.timeout(15):
        while (await metrics(stack))['roomline_node_up{node="0"}'] == 0:  # noqa: ASYNC110  (a scrape is what is waited for)
            await asyncio.sleep(0.2)


async def metrics(stack: Stack) -> dict[str, float]:
    """Each sample of /metrics by its name and labels."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{stack.http_address}/metrics") as answer:
        lines = [line for line in (await answer.text()).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_given_a_pin_dialogue_when_the_controller_is_killed_and_back_then_it_asks_again(stack: Stack) -> None:
    call = await caller_in(stack, State.PIN)
    await stack.server.kill()
    await stack.server.start()
    await asyncio.sleep(1.0)
    await call.press(f"{PIN}#")
    await hears_itself(call, within=8.0)
    await call.hang_up()
    assert (await the_record(stack, call)).taken_over


async def test_given_no_controller_when_none_comes_then_who_waits_gets_the_fallback(stack: Stack) -> None:
    call = await caller_in(stack, State.WAITING)
    struck_at = time.monotonic()
    await stack.server.kill()
    await until_heard(call, (FALLBACK_HZ,), struck_at, within=16.0)
    for frequencies in stack.pbx.death_limits.heard_before:
        assert heard_tone(call, frequencies, struck_at) is not None
    await call.hang_up()
    await stack.server.start()


async def test_given_a_talk_and_a_server_that_froze_when_it_thaws_after_a_newer_one_came_then_it_ends_and_touches_nothing(
    stack: Stack, tmp_path: Path
) -> None:
    call = await caller_in(stack, State.TALKING)
    workers, frozen = stack.server.workers(), stack.server.child
    struck_at = time.monotonic()
    stack.server.freeze()
    config = tmp_path / "roomline.yaml"
    text = stack.server.config.read_text()
    for address in (stack.http_address, stack.api_address):
        text = text.replace(address, f"{LOOPBACK}:{free_port()}")
    config.write_text(text)
    async with Server(config, stack.server.store, stack.pbx, stack.server.log) as newer:
        await hears_itself(call)
        frozen.send(signal.SIGCONT)
        assert await asyncio.wait_for(frozen.wait(), 8.0) == 3
        await asyncio.sleep(2.0)
        await hears_itself(call)
        assert (stack.server.workers(), newer.workers()) == (workers, [])
        assert heard_tone(call, HOLD_MUSIC_HZ, struck_at) is None
        assert call.heard.longest_gap(struck_at, time.monotonic()) < 0.5
        await call.hang_up()
        record = await the_record(stack, call)
        assert (record.taken_over, record.end_reason) == (True, EndReason.HANGUP)
    await stack.server.start()


async def test_given_a_node_of_the_operators_when_it_stalls_for_two_seconds_then_its_call_goes_on_there(
    parts: Parts, tmp_path: Path
) -> None:
    media = {"workers": 1, "start_workers": False, "orphan_limit": 10}
    async with Stack(CONFIGURATION | {"media": media}, **parts(), keep=tmp_path, with_server=False) as stack:
        command = [sys.executable, "-m", "bridge", "node", "0", "--config", str(stack.server.config)]
        async with Child(command, log=tmp_path / "node.log", folder=tmp_path) as node:
            await stack.server.start()
            call = await caller_in(stack, State.TALKING)
            struck_at = time.monotonic()
            node.send(signal.SIGSTOP)
            await asyncio.sleep(2.0)
            node.send(signal.SIGCONT)
            await hears_itself(call)
            assert "the call has lost its node" in stack.server.log.read_text()
            assert heard_tone(call, HOLD_MUSIC_HZ, struck_at) is None
            assert call.heard.longest_gap(struck_at, time.monotonic()) < 2.5, "the stall, and no more"
            await asyncio.sleep(3.0)
            await hears_itself(call)
            await call.hang_up()
            assert (await the_record(stack, call)).end_reason is EndReason.HANGUP
