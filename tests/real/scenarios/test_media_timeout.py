"""Callers of whom nothing comes any more: hung up in time; and those of whom something comes, which are not.

The server runs in the test's own process. Each caller is a phone of its own that sends what the test wants it to; as all of them mostly
wait, they wait beside one another.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from bridge.model.ending import EndedBy, EndReason
from bridge.model.record import CallRecord
from bridge.testing.phone import SILENCE, Stream
from bridge.testing.stack import Stack
from bridge.testing.stack_pbx import StackPhone
from tests.real.scenario import PIN, direct, the_record
from tests.real.scenarios.conftest import Parts
from tests.real.scenarios.test_orders import application

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

BY_RULE, BY_TRUNK, WITH_PIN = "+15554001", "+15554002", "+15554003"
LIMIT, INITIAL = 3.0, 5.0
SLACK = 2.0

CONFIGURATION: dict[str, Any] = {
    "calls": {"media_timeout_initial": INITIAL},
    "pin": {"first_digit_timeout": 60, "digit_timeout": 60},
    "rooms": {"kind": "local", "participants": [{"rooms": "*", "kind": "echo"}]},
    "trunks": [{"sip_trunk_id": "ST_impatient", "numbers": [BY_TRUNK], "media": {"media_timeout": f"{LIMIT:g}s"}}],
    "dispatch_rules": [
        # A room for each: nobody's keys are sent to the others.
        {
            "numbers": [BY_RULE],
            "name": "by rule",
            "rule": {"dispatch_rule_individual": {"room_prefix": "by-rule"}},
            "media": {"media_timeout": f"{LIMIT:g}s"},
        },
        direct(BY_TRUNK, "by-trunk"),
        direct(WITH_PIN, "with-a-pin", PIN) | {"media": {"media_timeout": f"{LIMIT:g}s"}},
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("media-timeout")
    async with Stack(CONFIGURATION, **parts(), keep=folder, with_server=False) as stack:
        yield stack
        await stack.nothing_left()


@asynccontextmanager
async def answered(stack: Stack, number: str) -> AsyncIterator[StackPhone]:
    async with stack.carrier.phone() as phone:
        assert (await phone.call(number)).status == 200
        yield phone


async def test_given_phones_then_those_that_send_no_more_get_a_bye_in_time_and_those_that_send_anything_or_hold_are_left_alone(
    stack: Stack,
) -> None:
    async with application(stack), asyncio.TaskGroup() as phones:
        phones.create_task(muted_and_then_gone(stack, BY_RULE))
        phones.create_task(muted_and_then_gone(stack, BY_TRUNK))
        phones.create_task(never_there(stack))
        phones.create_task(gone_while_asked_for_a_pin(stack))
        for stream in (SILENCE, *stack.pbx.counts):
            phones.create_task(left_alone(stack, stream))
            phones.create_task(left_alone(stack, stream, hold="sendonly"))
        # Silent, but held: a PBX's operator expects such a call to stay (docs/differences.md).
        phones.create_task(left_alone(stack, None, hold="inactive"))
        phones.create_task(left_alone(stack, None, keys=True))


async def muted_and_then_gone(stack: Stack, number: str) -> None:
    async with answered(stack, number) as phone:
        phone.send(SILENCE)
        await asyncio.sleep(2 * LIMIT)
        assert not phone.ended_by_pbx, "who is muted is there"
        phone.stop_sending()
        await ended_in_time(stack, phone, LIMIT)


async def never_there(stack: Stack) -> None:
    async with answered(stack, BY_RULE) as phone:
        record = await ended_in_time(stack, phone, INITIAL)
        assert record.detail == "nothing came from the caller at all for 5 s"


async def gone_while_asked_for_a_pin(stack: Stack) -> None:
    async with answered(stack, WITH_PIN) as phone:
        phone.send(SILENCE)
        await asyncio.sleep(1.0)
        phone.stop_sending()
        await ended_in_time(stack, phone, LIMIT)


async def ended_in_time(stack: Stack, phone: StackPhone, limit: float) -> CallRecord:
    began = time.monotonic()
    await phone.ended(limit + SLACK)
    assert phone.ended_by_pbx
    assert time.monotonic() - began >= limit - 0.1
    record = await the_record(stack, phone)
    assert (record.end_reason, record.ended_by) == (EndReason.MEDIA_TIMEOUT, EndedBy.ROOMLINE)
    return record


async def left_alone(stack: Stack, stream: Stream | None, *, hold: str = "", keys: bool = False) -> None:
    async with answered(stack, BY_RULE) as phone:
        if hold:
            assert (await phone.hold(hold)).status == 200
        if stream is not None:
            phone.send(stream)
        for _ in range(5):
            await asyncio.sleep(LIMIT / 2)
            if keys:
                await phone.press("5")
        assert not phone.ended_by_pbx, f"hung up: {stream}, {hold}"
        if hold:
            phone.stop_sending()
            assert (await phone.hold("sendrecv")).status == 200
            await phone.ended(LIMIT + 2 * SLACK)  # back from hold, the time counts
            assert (await the_record(stack, phone)).end_reason is EndReason.MEDIA_TIMEOUT
        else:
            await phone.hang_up()
            assert (await the_record(stack, phone)).end_reason is EndReason.HANGUP
