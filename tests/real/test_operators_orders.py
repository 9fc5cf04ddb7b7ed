"""What an Asterisk's operator does to a call that is ours, and what its REFER can carry: the PBX's own, and no scenario for every one."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bridge.app import Application
from bridge.model.ending import EndedBy, EndReason
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.pbx_config import FALLBACK_HZ
from bridge.testing.phone import SILENCE, Phone
from bridge.testing.stack import Stack
from tests.real.scenario import CONFIGURATION, ECHO, hears_itself, records_of, the_record, until_heard
from tests.real.scenarios.test_orders import application

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_call_left"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(CONFIGURATION, asterisk=asterisk, keep=tmp_path_factory.mktemp("operator"), with_server=False) as stack:
        yield stack
        await stack.nothing_left()


async def test_given_headers_when_handed_on_then_the_refer_says_who_refers_and_no_more(stack: Stack) -> None:
    """More than Referred-By cannot be put on a REFER by Asterisk 22.10 (docs/differences.md)."""
    async with application(stack) as app, Phone(stack.pbx.sip_address) as phone:
        assert (await phone.call(ECHO)).status == 200
        phone.send(SILENCE)
        await talks(app)
        (call,) = app.registry.calls()
        headers = {"Referred-By": '"Desk, 1" <sip:desk@example.net>', "X-Reason": "lunch"}
        result = await app.registry.transfer(call.call_id, "sip:nurse@192.0.2.1", headers)
        assert result.ok, result
        refer = await phone.asked("REFER")
        assert (refer["Refer-To"], refer["Referred-By"], refer["X-Reason"]) == ("sip:nurse@192.0.2.1", headers["Referred-By"], "")
        await phone.ended(5.0)
        assert (await the_record(stack, phone)).end_reason is EndReason.TRANSFERRED


async def talks(app: Application) -> None:
    """Returns once the one call there is does."""
    opened = False
    async with asyncio.timeout(5.0):
        while not opened:
            opened = any([(await sound.snapshot()).opened for sound in (await app.node.sounds()).values()])
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("codec", ["ulaw", "g722"])
async def test_given_a_talk_when_the_operator_moves_it_elsewhere_then_it_ends_here_and_goes_on_there_without_our_time_limit(
    stack: Stack, codec: str
) -> None:
    async with application(stack) as app:
        call = await stack.carrier.call(ECHO, codec=codec)
        await call.answered()
        await hears_itself(call)
        channel = await channel_at_pbx(stack, "roomline-media")
        await stack.asterisk.admin.ask("Redirect", Channel=channel, Context="lab", Exten="tone", Priority="1")
        moved_at = time.monotonic()
        record = await the_record(stack, call)
        assert (record.end_reason, record.ended_by) == (EndReason.TAKEN_AWAY, EndedBy.PBX)
        assert time.monotonic() - moved_at < 5.0
        assert app.registry.calls() == []
        await until_variable(stack, "TIMEOUT(absolute)", channel, "0")
        await until_heard(call, (FALLBACK_HZ,), since=moved_at, within=5.0)  # the lab's tone is the same milliwatt
        await call.hang_up()
        await stack.nothing_left()


@pytest.mark.parametrize("codec", ["ulaw", "g722"])
async def test_given_a_talk_when_the_operator_bridges_it_and_that_ends_then_the_caller_is_the_operators(stack: Stack, codec: str) -> None:
    async with application(stack):
        call = await stack.carrier.call(ECHO, codec=codec)
        await call.answered()
        await hears_itself(call)
        other = await stack.carrier.call("lab-quiet")
        await other.answered()
        channel, others = await channel_at_pbx(stack, "roomline-media"), await channel_at_pbx(stack, "lab")
        await stack.asterisk.admin.ask("Bridge", Channel1=channel, Channel2=others)
        assert (await the_record(stack, call)).end_reason is EndReason.TAKEN_AWAY
        await until_variable(stack, "TIMEOUT(absolute)", channel, "0")
        assert call.ending is None
        await other.hang_up()
        # Not what is heard there: after a bridge of two calls of one carrier, this Asterisk's tones do not always reach the phone.
        assert await channel_at_pbx(stack, "operator") == channel
        assert len(records_of(stack, call)) == 1
        await call.hang_up()
        await stack.nothing_left()


async def channel_at_pbx(stack: Stack, context: str) -> str:
    """The one call there."""
    async with asyncio.timeout(5.0):
        while not (found := [one["Channel"] for one in await stack.asterisk.channels() if one["Context"] == context]):  # noqa: ASYNC110  (as below)
            await asyncio.sleep(0.05)
    (channel,) = found
    return channel


async def until_variable(stack: Stack, name: str, channel: str, value: str) -> None:
    async with asyncio.timeout(5.0):
        while await stack.asterisk.variable(name, channel) != value:  # noqa: ASYNC110  (the PBX's, and no event tells of it)
            await asyncio.sleep(0.05)
