"""Trunks with a user and a password, kept by LiveKit's client: their callers are asked for them, and get in by nothing else."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from livekit.api import LiveKitAPI
from livekit.protocol import sip

from bridge.model.ending import EndedBy, EndReason
from bridge.testing.stack import Stack
from tests.real.credentials import KEY, PASSWORD, SECRET, USER, becomes, made, record_of, status
from tests.real.scenario import assert_nothing_secret_logged
from tests.real.scenarios.conftest import Parts, not_scripted

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(60),
    not_scripted("no SIP goes over a wire there, and so no password"),
]

NUMBER = "+15550200"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    configuration = {
        "rooms": {"kind": "local", "participants": [{"rooms": "echo*", "kind": "echo"}]},
        "api": {"keys": {KEY: SECRET}},
    }
    async with Stack(configuration, **parts(), keep=tmp_path_factory.mktemp("credentials")) as stack:
        yield stack
        await stack.nothing_left()
        assert_nothing_secret_logged(stack, PASSWORD, SECRET)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def livekit(stack: Stack) -> AsyncIterator[Any]:
    async with LiveKitAPI(f"http://{stack.api_address}", KEY, SECRET) as client:
        yield client.sip


async def test_given_a_trunk_with_credentials_then_who_has_them_is_in_the_room_and_nobody_else_until_they_change(
    stack: Stack, livekit: Any
) -> None:
    door = stack.pbx.passwords
    trunk = await made(livekit, NUMBER)
    await becomes(door, NUMBER, (USER, PASSWORD), 200)
    answered, call_id = await status(door, "15550200", (USER, PASSWORD))
    record = await record_of(stack, call_id)
    assert (answered, record.trunk_id, record.room) == (200, trunk.sip_trunk_id, f"echo-{NUMBER}")

    answered, call_id = await status(door, NUMBER, (USER, "another"))
    refused = await record_of(stack, call_id)
    assert (answered, refused.sip_status, refused.end_reason, refused.ended_by) == (
        door.turns_away_with,
        door.turns_away_with,
        EndReason.UNAUTHORIZED,
        EndedBy.PBX,
    )
    assert (refused.trunk_id, refused.source_address) == (trunk.sip_trunk_id, "127.0.0.1")
    assert refused.detail == "the user or the password is another one"
    assert (await status(door, NUMBER, ("another", PASSWORD)))[0] == door.turns_away_with
    assert (await status(door, NUMBER, None))[0] == door.asks_with

    await livekit.update_inbound_trunk_fields(trunk.sip_trunk_id, auth_password="new")
    await becomes(door, NUMBER, (USER, "new"), 200)
    assert (await status(door, NUMBER, (USER, PASSWORD)))[0] == door.turns_away_with
    await livekit.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id=trunk.sip_trunk_id))
    await becomes(door, NUMBER, (USER, "new"), door.knows_nobody_with)
