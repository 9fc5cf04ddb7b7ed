"""Callers of whom nothing comes any more, at a real Asterisk: hung up in time; and those of whom something comes, which are not.

The server runs in the test's own process. Each caller is a phone of its own that sends what the test wants it to.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from bridge.model.ending import EndedBy, EndReason
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.phone import COMFORT_NOISE, SILENCE, UNKNOWN, Phone, Stream
from bridge.testing.stack import Stack
from tests.real.scenario import PIN, direct, the_record
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
        direct(BY_RULE, "by-rule") | {"media": {"media_timeout": f"{LIMIT:g}s"}},
        direct(BY_TRUNK, "by-trunk"),
        direct(WITH_PIN, "with-a-pin", PIN) | {"media": {"media_timeout": f"{LIMIT:g}s"}},
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("media-timeout")
    async with Stack(CONFIGURATION, asterisk=asterisk, keep=folder, with_server=False) as stack:
        yield stack
        await stack.nothing_left()


@pytest.mark.parametrize("number", [BY_RULE, BY_TRUNK])
async def test_given_a_talk_when_the_phone_sends_no_more_then_it_gets_a_bye_in_time(stack: Stack, number: str) -> None:
    async with application(stack) as app, Phone(stack.pbx.sip_address) as phone:
        assert (await phone.call(number)).status == 200
        phone.send(SILENCE)
        await asyncio.sleep(2 * LIMIT)
        assert not phone.ended_by_pbx, "who is muted is there"
        phone.stop_sending()
        await ended_in_time(phone, LIMIT)
        record = await the_record(stack, phone)
        assert (record.end_reason, record.ended_by) == (EndReason.MEDIA_TIMEOUT, EndedBy.ROOMLINE)
        assert app.rooms.occupants() == {}


async def ended_in_time(phone: Phone, limit: float) -> None:
    began = time.monotonic()
    await phone.ended(limit + SLACK)
    assert phone.ended_by_pbx
    assert time.monotonic() - began >= limit - 0.1


async def test_given_a_phone_that_never_sends_when_answered_then_it_gets_a_bye_after_the_initial_time(stack: Stack) -> None:
    async with application(stack), Phone(stack.pbx.sip_address) as phone:
        assert (await phone.call(BY_RULE)).status == 200
        await ended_in_time(phone, INITIAL)
        assert (await the_record(stack, phone)).detail == "nothing came from the caller at all for 5 s"


async def test_given_a_pin_prompt_when_the_phone_sends_no_more_then_it_gets_a_bye_in_time(stack: Stack) -> None:
    async with application(stack), Phone(stack.pbx.sip_address) as phone:
        assert (await phone.call(WITH_PIN)).status == 200
        phone.send(SILENCE)
        await asyncio.sleep(1.0)
        phone.stop_sending()
        await ended_in_time(phone, LIMIT)
        assert (await the_record(stack, phone)).end_reason is EndReason.MEDIA_TIMEOUT


async def test_given_phones_that_send_anything_or_are_on_hold_then_they_are_left_alone(stack: Stack) -> None:
    async with application(stack), asyncio.TaskGroup() as phones:
        for stream in (SILENCE, COMFORT_NOISE, UNKNOWN):
            phones.create_task(left_alone(stack, stream))
            phones.create_task(left_alone(stack, stream, hold="sendonly"))
        # Silent, but held: a PBX's operator expects such a call to stay (docs/differences.md).
        phones.create_task(left_alone(stack, None, hold="inactive"))
        phones.create_task(left_alone(stack, None, keys=True))


async def left_alone(stack: Stack, stream: Stream | None, *, hold: str = "", keys: bool = False) -> None:
    async with Phone(stack.pbx.sip_address) as phone:
        assert (await phone.call(BY_RULE)).status == 200
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


async def test_given_a_call_that_is_no_sip_call_then_its_silence_ends_nothing(stack: Stack) -> None:
    async with application(stack) as app:
        # A caller from inside the PBX: no RTP that could be counted, and no frame either.
        await stack.asterisk.admin.ask(
            "Originate", Channel="Local/quiet@lab/n", Context="from-outside", Exten=BY_RULE, Priority="1", Async="true", CallerID="<200>"
        )
        await asyncio.sleep(INITIAL + SLACK + 1.0)
        (call,) = app.registry.calls()
        assert call.answered
        app.registry.hang_up(call.call_id)
        await stack.pbx.quiet()
