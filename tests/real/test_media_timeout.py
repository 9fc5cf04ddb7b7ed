"""A caller who is no SIP phone, from inside a real Asterisk: nothing that comes of them could be counted. The others are scenarios."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bridge.testing.get_asterisk import Asterisk
from bridge.testing.stack import Stack
from tests.real.scenarios.test_media_timeout import BY_RULE, CONFIGURATION, INITIAL, SLACK
from tests.real.scenarios.test_orders import application

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("media-timeout")
    async with Stack(CONFIGURATION, asterisk=asterisk, keep=folder, with_server=False) as stack:
        yield stack
        await stack.nothing_left()


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
