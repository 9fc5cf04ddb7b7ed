"""The stack as a whole: what an operator's callers get while Roomline is away, and that nothing is left when all ends."""

import asyncio
from pathlib import Path

import pytest

from bridge.testing.demo_config import CONFIGURATION, PIN_NUMBER
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.listening import is_tone
from bridge.testing.pbx_config import FALLBACK_HZ
from bridge.testing.stack import Stack


async def test_given_no_controller_when_somebody_calls_then_they_hear_the_operators_fallback(asterisk: Asterisk) -> None:
    async with Stack(CONFIGURATION, asterisk=asterisk, lease=1, with_server=False) as stack:
        folder = stack.folder
        call = await stack.carrier.call(PIN_NUMBER)
        waited = await call.answered()
        await asyncio.sleep(0.5)
        await call.hang_up()
        await stack.pbx.quiet()
        assert 0.9 < waited < 3.0
        assert is_tone(call.heard.samples(), call.heard.rate, [FALLBACK_HZ])
        processes = [stack.pbx.child, stack.asterisk_carrier.process.child]
    assert not any(process.running for process in processes)
    assert not await asyncio.to_thread(folder.exists)


async def test_given_a_part_that_does_not_start_then_nothing_is_left_running(
    asterisk: Asterisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(CONFIGURATION, asterisk=asterisk, keep=tmp_path)
    monkeypatch.setattr("bridge.testing.stack.Server.start", _fails)
    with pytest.raises(RuntimeError, match="on purpose"):
        await stack.start()
    assert not stack.pbx.child.running
    assert not stack.asterisk_carrier.process.child.running
    assert (tmp_path / "roomline.yaml").stat().st_mode & 0o777 == 0o600


async def _fails(self: object) -> None:
    raise RuntimeError("on purpose")


async def test_given_the_server_is_killed_and_started_again_then_it_commands_the_pbx_and_nothing_is_left(asterisk: Asterisk) -> None:
    async with Stack(CONFIGURATION, asterisk=asterisk) as stack:
        before = stack.server.pid
        await stack.server.kill()
        assert not stack.server.child.running
        await stack.server.start()
        assert stack.server.pid != before
        call = await stack.carrier.call(PIN_NUMBER)
        await call.answered()
        await call.hang_up()
        record = await stack.server.call_record(call.caller)
        assert record.answered
        await stack.nothing_left()


async def test_given_a_call_is_up_then_the_stack_is_not_at_rest(asterisk: Asterisk) -> None:
    """What says that nothing is left must be able to say that something is."""
    async with Stack(CONFIGURATION, asterisk=asterisk) as stack:
        call = await stack.carrier.call(PIN_NUMBER)
        await call.answered()
        with pytest.raises(AssertionError, match="channels left"):
            await stack.nothing_left(within=0.2)
        await call.hang_up()
        await stack.nothing_left()
