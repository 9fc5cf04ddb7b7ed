"""LiveKit's client has Roomline call somebody: seated while it rings, answered, refused with their status."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from livekit import api
from livekit.protocol import sip
from pydantic import SecretStr

from bridge.api.auth import Grants, make_token
from bridge.api.control import PREFIX
from bridge.model.ending import EndedBy, EndReason
from bridge.model.record import CallRecord
from bridge.model.trunk import OutboundTrunk
from bridge.store.port import Edit
from bridge.store.sqlite_objects import SqliteObjects
from bridge.testing.pbx_config import OUT_ENDPOINT
from bridge.testing.stack import Stack
from tests.real.scenarios.conftest import Parts

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

KEY, SECRET = "devkey", "a-secret-of-thirty-two-characters!"
TRUNK = OutboundTrunk(sip_trunk_id="ST_out", address="pbx.example.com", numbers=("+15550100",))
ELSEWHERE = OutboundTrunk(sip_trunk_id="ST_elsewhere", address="pbx.example.com", numbers=("+15550100",))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    configuration = {
        "pbx": [{"outbound_endpoints": {"ST_out": OUT_ENDPOINT}}],
        "outbound": {"allow": ["lab-*"], "max_calls": 3},
        "rooms": {"kind": "local", "participants": [{"rooms": "speaks", "kind": "announcer", "loop": True}]},
        "api": {"keys": {KEY: SECRET}},
    }
    async with Stack(configuration, **parts(), keep=tmp_path_factory.mktemp("stack")) as stack:
        async with SqliteObjects(stack.server.store) as store:
            await store.change(lambda _: Edit(put=(TRUNK, ELSEWHERE)))
        yield stack
        await stack.nothing_left()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def livekit(stack: Stack) -> AsyncIterator[Any]:
    async with api.LiveKitAPI(f"http://{stack.api_address}", KEY, SECRET) as client:
        yield client.sip


def asked(to: str, room: str = "speaks", **fields: Any) -> sip.CreateSIPParticipantRequest:
    return sip.CreateSIPParticipantRequest(**{"sip_trunk_id": "ST_out", "sip_call_to": to, "room_name": room, **fields})


async def record_of(stack: Stack, call_id: str, within: float = 10.0) -> CallRecord:
    deadline = time.monotonic() + within
    while not (found := [record for record in stack.server.call_records() if record.call_id == call_id]):
        assert time.monotonic() < deadline, "no record"
        await asyncio.sleep(0.1)
    assert len(found) == 1
    return found[0]


async def test_given_somebody_who_answers_then_they_are_in_the_room_until_they_hang_up(stack: Stack, livekit: Any) -> None:
    made = await livekit.create_sip_participant(asked("lab-leave", wait_until_answered=True))
    assert (made.room_name, made.participant_identity) == ("speaks", "sip_lab-leave")
    record = await record_of(stack, made.sip_call_id)
    assert (record.end_reason, record.ended_by, record.answered) == (EndReason.HANGUP, EndedBy.CALLER, True)
    assert (record.number, record.called, record.trunk_id) == ("lab-leave", "+15550100", "ST_out")


@pytest.mark.parametrize(
    ("to", "status", "code"), [("lab-reject-486", 486, "resource_exhausted"), ("lab-reject-603", 603, "permission_denied")]
)
async def test_given_somebody_who_declines_then_their_status_is_in_the_error(
    stack: Stack, livekit: Any, to: str, status: int, code: str
) -> None:
    with pytest.raises(api.TwirpError) as raised:
        await livekit.create_sip_participant(asked(to, wait_until_answered=True))
    assert (raised.value.code, raised.value.metadata["sip_status_code"]) == (code, str(status))
    record = await record_of(stack, raised.value.metadata["sip_call_id"])
    assert (record.end_reason, record.sip_status, record.answered) == (EndReason.DECLINED, status, False)


async def test_given_nobody_in_time_then_no_answer_and_a_request_that_does_not_wait_for_it_is_answered_while_it_rings(
    stack: Stack, livekit: Any
) -> None:
    made = await livekit.create_sip_participant(asked("lab-ring", ringing_timeout=Duration(seconds=2)))
    assert not [record for record in stack.server.call_records() if record.call_id == made.sip_call_id]
    waits = asked("lab-ring", participant_identity="another", wait_until_answered=True, ringing_timeout=Duration(seconds=2))
    with pytest.raises(api.TwirpError) as raised:
        await livekit.create_sip_participant(waits)
    record = await record_of(stack, raised.value.metadata["sip_call_id"])
    assert (record.end_reason, record.ended_at - record.started_at < 5) == (EndReason.NO_ANSWER, True)
    assert (await record_of(stack, made.sip_call_id)).end_reason is EndReason.NO_ANSWER


async def test_given_who_asked_hangs_up_while_it_rings_then_it_rings_no_longer(stack: Stack, livekit: Any) -> None:
    asking = asyncio.create_task(
        livekit.create_sip_participant(asked("lab-ring", wait_until_answered=True, ringing_timeout=Duration(seconds=60)))
    )
    async with asyncio.timeout(10):
        while not await stack.pbx.channels():  # noqa: ASYNC110  (nothing tells of the moment)
            await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await stack.pbx.quiet(within=15.0)


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        (asked("+15550123"), "permission_denied", "outbound.allow"),
        (asked("lab-echo&Local/1@internal"), "invalid_argument", "sip_call_to"),
        (asked("lab-echo", sip_trunk_id="ST_nobody"), "not_found", "does not exist"),
        (asked("lab-echo", sip_trunk_id="ST_elsewhere"), "failed_precondition", "outbound_endpoints"),
        (asked("lab-echo", room=""), "invalid_argument", "room"),
        (asked("lab-echo", dtmf="1,2"), "invalid_argument", "dtmf"),
    ],
)
async def test_given_what_may_not_be_then_nobody_is_called(
    stack: Stack, livekit: Any, request_: sip.CreateSIPParticipantRequest, code: str, says: str
) -> None:
    with pytest.raises(api.TwirpError) as raised:
        await livekit.create_sip_participant(request_)
    assert (raised.value.code, says in raised.value.message) == (code, True), raised.value.message
    assert await stack.pbx.channels() == []


async def test_given_more_than_the_operator_allows_then_the_next_is_refused_until_one_ends(stack: Stack, livekit: Any) -> None:
    called = [asked("lab-quiet", participant_identity=name, wait_until_answered=True) for name in ("one", "two", "three")]
    made = [await livekit.create_sip_participant(each) for each in called]
    with pytest.raises(api.TwirpError) as raised:
        await livekit.create_sip_participant(asked("lab-quiet", participant_identity="four"))
    assert raised.value.code == "resource_exhausted"
    assert "outbound.max_calls" in raised.value.message
    await stack.pbx.callees_hang_up()
    for each in made:
        assert (await record_of(stack, each.sip_call_id)).end_reason is EndReason.HANGUP


async def test_given_a_server_that_restarts_while_it_rings_then_the_next_one_sees_them_answer(stack: Stack, livekit: Any) -> None:
    made = await livekit.create_sip_participant(asked("lab-late"))
    await stack.server.restart()
    await until_talking(stack, made.sip_call_id)
    await stack.pbx.callees_hang_up()
    record = await record_of(stack, made.sip_call_id)
    assert (record.end_reason, record.answered, record.taken_over) == (EndReason.HANGUP, True, True)


async def test_given_nobody_who_knows_of_the_call_when_they_answer_then_it_ends_within_seconds(stack: Stack, livekit: Any) -> None:
    made = await livekit.create_sip_participant(asked("lab-late"))
    await stack.server.kill()
    await stack.pbx.quiet(within=15.0)
    await stack.server.start()
    assert (await record_of(stack, made.sip_call_id, within=20.0)).end_reason is EndReason.UNSEEN


async def test_given_a_call_longer_than_the_operator_allows_then_it_ends(stack: Stack, livekit: Any) -> None:
    made = await livekit.create_sip_participant(asked("lab-quiet", max_call_duration=Duration(seconds=2), wait_until_answered=True))
    record = await record_of(stack, made.sip_call_id)
    assert (record.end_reason, 2 <= record.ended_at - record.started_at < 5) == (EndReason.MAX_DURATION, True)


async def until_talking(stack: Stack, call_id: str, within: float = 15.0) -> None:
    token = make_token(KEY, SecretStr(SECRET), Grants(sip_admin=True), 600)
    url = f"http://{stack.api_address}{PREFIX}/calls/{call_id}"
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session, asyncio.timeout(within):
        state = ""
        while state != "talking":
            await asyncio.sleep(0.1)
            async with session.get(url) as answer:
                state = (await answer.json()).get("state", "")
