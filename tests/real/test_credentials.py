"""Trunks with a user and a password as an Asterisk keeps them: by number, by objects that ARI makes, and told of whoever was asked. Who
gets in and who does not is a scenario."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from livekit.api import LiveKitAPI
from livekit.protocol import sip

from bridge.model.credentials import TrunkCredentials
from bridge.model.ending import EndedBy, EndReason
from bridge.model.trunk import InboundTrunk
from bridge.pbx.asterisk.ari import Ari
from bridge.pbx.asterisk.credentials_check import check_credentials
from bridge.pbx.asterisk.options import AriOptions, AsteriskOptions
from bridge.settings import Settings
from bridge.store.port import Edit
from bridge.store.sqlite_objects import SqliteObjects
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.pbx_config import CARRIER_ENDPOINT
from bridge.testing.stack import Stack
from tests.real.credentials import KEY, PASSWORD, SECRET, USER, WITHIN, becomes, made, record_of, status

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLER = "+15550111"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    configuration = {
        "rooms": {"kind": "local", "participants": [{"rooms": "echo*", "kind": "echo"}]},
        "api": {"keys": {KEY: SECRET}},
        "phone_numbers": [{"e164_format": "+15550999"}, {"e164_format": "+15550998", "sip_dispatch_rule_id": "SDR_own"}],
        "dispatch_rules": [
            # By priority the call would be this one's, which names the caller too.
            {"numbers": ["+15550998"], "inbound_numbers": [CALLER], "rule": {"dispatch_rule_direct": {"room_name": "echo-another"}}},
            {"sip_dispatch_rule_id": "SDR_own", "numbers": ["+15550998"], "rule": {"dispatch_rule_direct": {"room_name": "echo-own"}}},
        ],
    }
    async with Stack(configuration, asterisk=asterisk, keep=tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def livekit(stack: Stack) -> AsyncIterator[Any]:
    async with LiveKitAPI(f"http://{stack.api_address}", KEY, SECRET) as client:
        yield client.sip


async def test_given_a_trunk_with_credentials_then_its_calls_alone_are_asked_for_them(stack: Stack, livekit: Any) -> None:
    door = stack.pbx.passwords
    trunk = await made(livekit, "+15550200")
    await becomes(door, "+15550200", (USER, PASSWORD), 200)
    # A call to another number is asked for nothing.
    assert (await status(door, "+15550999", None))[0] == 404
    # And whoever calls himself as the trunk's endpoint is asked all the same.
    assert (await status(door, "+15550999", None, caller=f"roomline-trunk-{trunk.sip_trunk_id}"))[0] == 401


async def is_told(stack: Stack, call_id: str, trunk: sip.SIPInboundTrunkInfo, why: str) -> None:
    refused = await record_of(stack, call_id)
    assert (refused.end_reason, refused.ended_by, refused.sip_status) == (EndReason.UNAUTHORIZED, EndedBy.PBX, 401)
    assert (refused.trunk_id, refused.source_address, refused.detail) == (trunk.sip_trunk_id, "127.0.0.1", why)
    assert trunk.sip_trunk_id in refused.trace["verdict"]["summary"]


async def test_given_a_user_whom_nobody_knows_then_that_is_told(stack: Stack, livekit: Any) -> None:
    trunk = await made(livekit, "+15550206")
    await becomes(stack.pbx.passwords, "+15550206", (USER, PASSWORD), 200)
    answered, call_id = await status(stack.pbx.passwords, "+15550206", ("another", PASSWORD))
    assert answered == 401
    await is_told(stack, call_id, trunk, "the user or the password is another one")


async def test_given_a_phone_number_with_a_rule_of_its_own_then_only_that_one_is_asked(stack: Stack) -> None:
    answered, call_id = await status(stack.pbx.passwords, "+15550998", None, caller=CALLER)
    record = await record_of(stack, call_id)
    assert (answered, record.rule_id, record.room, record.trunk_id) == (200, "SDR_own", "echo-own", "")


async def test_given_a_caller_without_credentials_then_that_is_told(stack: Stack, livekit: Any) -> None:
    trunk = await made(livekit, "+15550201")
    await asyncio.sleep(WITHIN)
    answered, call_id = await status(stack.pbx.passwords, "+15550201", None)
    assert answered == 401
    await is_told(stack, call_id, trunk, "the caller gave no credentials")


async def test_given_a_trunk_with_another_number_and_then_deleted_then_its_calls_alone_are_asked(stack: Stack, livekit: Any) -> None:
    trunk = await made(livekit, "+15550202")
    await becomes(stack.pbx.passwords, "+15550202", (USER, PASSWORD), 200)
    await livekit.update_inbound_trunk_fields(trunk.sip_trunk_id, numbers=["+15550203"])
    await becomes(stack.pbx.passwords, "+15550203", (USER, PASSWORD), 200)
    assert (await status(stack.pbx.passwords, "+15550202", None))[0] == 404
    await livekit.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id=trunk.sip_trunk_id))
    await becomes(stack.pbx.passwords, "+15550203", None, 404)
    # What identifies its calls goes first, the endpoint after it.
    async with asyncio.timeout(WITHIN):
        while [name for name in await endpoints(stack) if trunk.sip_trunk_id in name]:  # noqa: ASYNC110  (nothing tells of the moment)
            await asyncio.sleep(0.05)


async def test_given_a_restart_of_asterisk_and_of_roomline_then_the_same_are_asked_and_what_was_deleted_meanwhile_is_gone(
    stack: Stack, livekit: Any
) -> None:
    stays, goes = await made(livekit, "+15550204"), await made(livekit, "+15550205")
    await becomes(stack.pbx.passwords, "+15550204", (USER, PASSWORD), 200)
    await stack.pbx.kill()
    await stack.pbx.start()
    # Whether or not Asterisk had written its database when it was killed, nobody gets in unasked: it asks, or Roomline refuses.
    assert (await status(stack.pbx.passwords, "+15550204", None))[0] in (401, 403)
    await becomes(stack.pbx.passwords, "+15550204", (USER, PASSWORD), 200, within=10.0)
    await stack.server.stop()
    await _delete_from_the_store(stack, goes.sip_trunk_id)
    await stack.server.start()
    await becomes(stack.pbx.passwords, "+15550204", (USER, PASSWORD), 200)
    await becomes(stack.pbx.passwords, "+15550205", None, 404)
    async with asyncio.timeout(WITHIN):
        while f"roomline-trunk-{goes.sip_trunk_id}" in (names := await endpoints(stack)):  # noqa: ASYNC110  (as above)
            await asyncio.sleep(0.05)
    assert f"roomline-trunk-{stays.sip_trunk_id}" in names
    assert {CARRIER_ENDPOINT, "anonymous"} <= set(names)  # the operator's own are as they were


async def _delete_from_the_store(stack: Stack, trunk_id: str) -> None:
    async with SqliteObjects(stack.server.store) as store:
        await store.change(lambda _: Edit(delete=((InboundTrunk, trunk_id),)))


async def endpoints(stack: Stack) -> list[str]:
    settings = stack.asterisk.settings
    async with Ari(AriOptions(f"http://127.0.0.1:{settings.http_port}", "roomline", settings.ari_secret)) as ari:
        return await ari.endpoints()


async def test_given_all_of_this_then_no_password_stands_in_any_log(stack: Stack) -> None:
    for log in (*stack.logs(), *(stack.folder / "pbx" / "log").rglob("*")):
        if log.is_file():
            assert PASSWORD not in log.read_text(errors="replace"), log


async def test_given_this_asterisk_then_the_check_finds_that_it_keeps_credentials(stack: Stack) -> None:
    pbx = Settings.load(stack.server.config, {}).settings.pbx[0]
    options = pbx.options()
    assert isinstance(options, AsteriskOptions)
    (found,) = await check_credentials(options, [TrunkCredentials("ST_a", "u", "p", numbers=("+1",))])
    assert (found.ok, found.text) == (True, "ARI keeps the trunks' credentials in Asterisk")
    assert options.ari is not None
    wrong = replace(options, ari=replace(options.ari, secret="wrong"))
    (found,) = await check_credentials(wrong, [])
    assert (found.ok, "the secret is another one" in found.text) == (False, True)
    assert not [name for name in await endpoints(stack) if name.endswith("check")]
