"""What an operator limits: calls at once, wrong PINs, callers of no trunk. And a number of their own, which needs no trunk."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from bridge.media.port import ClipName
from bridge.model.ending import EndReason
from bridge.testing.carrier import CarrierCall
from bridge.testing.clips import until_heard as until_clip
from bridge.testing.pbx_config import FALLBACK_HZ
from bridge.testing.stack import Stack
from tests.real.scenario import PIN, assert_nothing_secret_logged, direct, hears_itself, the_record, until_heard
from tests.real.scenarios.conftest import Parts

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_call_left"), pytest.mark.timeout(90)]

OWN, OWN_PIN, FOREIGN = "+15553000", "+15553001", "+15553002"

CONFIGURATION: dict[str, Any] = {
    "calls": {"limit": 2},
    "unknown_trunks": "reject",
    "pin": {"attempts": 3, "throttle": {"source": {"burst": 4, "refill": 3600}}},
    "rooms": {"kind": "local", "participants": [{"rooms": "echo*", "kind": "echo"}]},
    "phone_numbers": [{"e164_format": OWN}, {"e164_format": OWN_PIN}],
    "dispatch_rules": [direct(OWN, "echo"), direct(OWN_PIN, "echo-behind-a-pin", PIN), direct(FOREIGN, "echo-for-nobody")],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(CONFIGURATION, **parts(), keep=tmp_path_factory.mktemp("limits")) as stack:
        yield stack
        await stack.nothing_left()
        assert_nothing_secret_logged(stack)


async def test_given_a_number_of_our_own_then_it_needs_no_trunk(stack: Stack) -> None:
    call = await stack.carrier.call(OWN)
    await call.answered()
    await hears_itself(call)
    await call.hang_up()
    assert (await the_record(stack, call)).trunk_id == ""


async def test_given_another_number_and_no_trunk_then_the_caller_is_rejected_as_the_operator_wants(stack: Stack) -> None:
    call = await stack.carrier.call(FOREIGN)
    assert (await call.ended()).sip_status == 404
    assert (await the_record(stack, call)).end_reason is EndReason.NO_TRUNK


async def test_given_as_many_calls_as_allowed_then_one_more_gets_exactly_503(stack: Stack) -> None:
    calls = [await stack.carrier.call(OWN) for _ in range(2)]
    await asyncio.gather(*(call.answered() for call in calls))
    one_more = await stack.carrier.call(OWN)
    ending = await one_more.ended()
    assert (ending.sip_status, ending.exact) == (503, True)
    assert one_more.ringing_at is None
    assert (await the_record(stack, one_more)).end_reason is EndReason.NO_CAPACITY
    for call in calls:
        await hears_itself(call)
        await call.hang_up()
        await the_record(stack, call)
    again = await stack.carrier.call(OWN)
    await again.answered()
    await again.hang_up()


async def test_given_as_many_calls_as_allowed_when_the_operator_wants_the_fallback_then_one_more_is_the_operators(
    parts: Parts,
) -> None:
    configuration = CONFIGURATION | {"calls": {"limit": 1, "over_limit": "fallback"}}
    async with Stack(configuration, **parts()) as stack:
        first = await stack.carrier.call(OWN)
        await first.answered()
        second = await stack.carrier.call(OWN)
        await second.answered()
        await until_heard(second, (FALLBACK_HZ,), since=second.placed_at, within=5.0)
        await second.hang_up()
        assert (await the_record(stack, second)).end_reason is EndReason.NO_CAPACITY
        await first.hang_up()
        await stack.nothing_left()


async def test_given_three_attempts_then_a_wrong_pin_is_asked_for_again_and_the_right_one_counts(stack: Stack) -> None:
    call = await stack.carrier.call(OWN_PIN)
    await call.answered()
    await call.press("999#")
    await asyncio.sleep(1.3)  # the tone
    await until_clip(call.heard, ClipName.ENTER_PIN, since=call.placed_at + 1.5, within=8.0, seconds=1.0)
    await call.press(f"{PIN}#")
    await hears_itself(call, within=8.0)
    await call.hang_up()
    record = await the_record(stack, call)
    assert (record.end_reason, record.pin_tries) == (EndReason.HANGUP, 2)


async def guess(call: CarrierCall, times: int) -> None:
    for _ in range(times):
        await call.press("999#")
        await asyncio.sleep(1.4)


async def test_given_too_many_wrong_pins_then_the_next_caller_from_there_is_turned_away_even_after_a_restart(stack: Stack) -> None:
    """Four wrong ones are allowed: one is spent above."""
    guesser = await stack.carrier.call(OWN_PIN)
    await guesser.answered()
    await guess(guesser, 3)
    await guesser.ended()
    assert (await the_record(stack, guesser)).end_reason is EndReason.WRONG_PIN
    for _ in range(2):
        turned_away = await stack.carrier.call(OWN_PIN)
        ending = await turned_away.ended()
        assert (ending.sip_status, turned_away.answered_at) == (480, None)
        assert (await the_record(stack, turned_away)).end_reason is EndReason.PIN_THROTTLED
        await stack.server.restart()
    unhindered = await stack.carrier.call(OWN)
    await unhindered.answered()
    await unhindered.hang_up()
