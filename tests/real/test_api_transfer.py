"""A real call, asked for over HTTP: LiveKit's client hands it on, Roomline's own API shows it and ends it. The server is a process of its
own, and so is the node that carries the sound."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from bridge.model.ending import EndReason
from bridge.testing.carrier_config import TRANSFERRED, TRANSFERRED_HZ
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.listening import is_tone, level
from bridge.testing.phone import SILENCE, Phone
from bridge.testing.stack import Stack
from tests.real.scenario import CONFIGURATION, ECHO, PIN, PIN_EMPTY, assert_nothing_secret_logged, hears_itself, the_record, until_heard

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_call_left"), pytest.mark.timeout(60)]

SECRET = "a-secret-of-thirty-two-characters!"
TARGET = "sip:nurse@192.0.2.1"
SECOND = 8000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    allow = ["*@192.0.2.1", "*@127.*", "+1*"]
    served = {"api": {"keys": {"devkey": SECRET}}, "outbound": {"allow": allow}, "media": {"workers": 1}}
    async with Stack(CONFIGURATION | served, asterisk=asterisk, keep=tmp_path_factory.mktemp("transfer")) as stack:
        yield stack
        await stack.pbx.quiet()
        assert_nothing_secret_logged(stack, SECRET)


@pytest_asyncio.fixture(loop_scope="module")
async def livekit(stack: Stack) -> AsyncIterator[Any]:
    async with api.LiveKitAPI(f"http://{stack.api_address}", "devkey", SECRET) as client:
        yield client.sip


class Control:
    """Roomline's own API, as an administrator."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def ask(self, verb: str, path: str, body: Any = None) -> Any:
        async with self._session.request(verb, self._url + path, json=body) as answer:
            return {**await answer.json(), "status": answer.status}

    async def the_call(self, number: str, state: str = "talking") -> dict[str, Any]:
        """The live call of that caller, once it is in this state."""
        async with asyncio.timeout(5):
            while True:
                for call in (await self.ask("GET", "/calls"))["calls"]:
                    if (call["number"], call["state"]) == (number, state):
                        return dict(call)
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="module")
async def control(stack: Stack) -> AsyncIterator[Control]:
    token = make_token("devkey", SecretStr(SECRET), Grants(sip_admin=True), 600)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        yield Control(session, f"http://{stack.api_address}{PREFIX}")


@asynccontextmanager
async def talking(stack: Stack, control: Control, **phone: Any) -> AsyncIterator[tuple[Phone, dict[str, Any]]]:
    """A phone in the echo's room, and its call as the API shows it."""
    async with Phone(stack.pbx.sip_address, **phone) as caller:
        assert (await caller.call(ECHO)).status == 200
        caller.send(SILENCE)
        call = await control.the_call(caller.caller)
        await until(lambda: len(caller.heard) > SECOND // 2)
        yield caller, call


def asked(call: dict[str, Any], to: str = TARGET, **more: Any) -> sip.TransferSIPParticipantRequest:
    return sip.TransferSIPParticipantRequest(participant_identity=call["identity"], room_name=call["room"], transfer_to=to, **more)


async def until(true: Any, limit: float = 5.0) -> None:
    async with asyncio.timeout(limit):
        while not true():  # noqa: ASYNC110  (what a phone hears has no event)
            await asyncio.sleep(0.02)


async def test_given_a_talk_when_livekits_client_hands_it_on_and_the_carrier_takes_it_then_the_caller_is_there(
    stack: Stack, livekit: Any, control: Control
) -> None:
    # The carrier hands on who is bridged: with a wideband codec its own leg is.
    call = await stack.carrier.call(ECHO, codec="g722")
    await call.answered()
    await hears_itself(call)
    shown = await control.the_call(call.caller)
    to = "sip:{}@{}:{}".format(TRANSFERRED, *stack.carrier.sip_address)
    answer = await livekit.transfer_sip_participant(asked(shown, to))
    assert (answer.status, answer.reason, answer.HasField("sip_status")) == (sip.STS_TRANSFER_SUCCESSFUL, sip.STR_COMPLETED, False)
    assert (await the_record(stack, call)).end_reason is EndReason.TRANSFERRED
    await until_heard(call, (TRANSFERRED_HZ,), since=call.placed_at, within=8.0)
    await stack.carrier.hang_up_all()


@pytest.mark.parametrize(
    ("phone", "status", "code"),
    [
        ({"refer_status": 486}, 486, "resource_exhausted"),
        ({"refer_status": 404}, 404, "not_found"),
        ({"refer_answer": "603 Decline"}, 603, "permission_denied"),
    ],
)
async def test_given_a_talk_when_the_transfer_is_refused_then_the_error_has_the_status_and_the_caller_is_back(
    stack: Stack, livekit: Any, control: Control, phone: dict[str, Any], status: int, code: str
) -> None:
    async with talking(stack, control, **phone) as (caller, call):
        with pytest.raises(api.SipCallError) as refused:
            await livekit.transfer_sip_participant(asked(call))
        error = refused.value
        assert (error.sip_status_code, error.code, error.sip_transfer_reason) == (status, code, "STR_REJECTED")
        before = len(caller.heard)
        await until(lambda: len(caller.heard) > before + SECOND)
        assert (await control.the_call(caller.caller))["transfer_to"] == ""
        await caller.hang_up()
        assert (await the_record(stack, caller)).end_reason is EndReason.HANGUP


async def test_given_a_talk_when_nobody_takes_it_in_time_then_canceled_with_the_dial_tone_meanwhile_and_the_caller_is_back(
    stack: Stack, livekit: Any, control: Control
) -> None:
    async with talking(stack, control, refer_status=100) as (caller, call):
        before, began = len(caller.heard), time.monotonic()
        asking = asyncio.create_task(livekit.transfer_sip_participant(asked(call, play_dialtone=True, ringing_timeout=Duration(seconds=3))))
        refer = await caller.asked("REFER")
        assert refer["Refer-To"] == f"<{TARGET}>"
        assert (await control.the_call(caller.caller))["transfer_to"] == f"<{TARGET}>"
        with pytest.raises(api.SipCallError) as failed:
            await asking
        assert (failed.value.code, failed.value.sip_status_code, failed.value.sip_transfer_reason) == (
            "canceled",
            None,
            "STR_RINGING_TIMEOUT",
        )
        assert 3.0 <= time.monotonic() - began < 4.5
        meanwhile = caller.heard_samples(before)[: int(2.5 * SECOND)]
        assert is_tone(meanwhile[SECOND // 4 : SECOND * 3 // 4], SECOND, [425.0])
        assert level(meanwhile[SECOND * 3 // 2 :]) < -60
        before = len(caller.heard)
        await until(lambda: len(caller.heard) > before + SECOND)
        assert level(caller.heard_samples(before)[SECOND // 2 :]) < -40, "the tone is over"
        caller.tell_transfer(408)  # or Asterisk keeps the ended channel for half a minute (22.10)
        await caller.hang_up()
        assert (await the_record(stack, caller)).end_reason is EndReason.HANGUP


async def test_given_a_transfer_under_way_then_the_same_is_shared_another_is_refused_and_the_end_of_the_call_ends_it(
    stack: Stack, livekit: Any, control: Control
) -> None:
    async with talking(stack, control, refer_status=100) as (caller, call):
        both = [asyncio.create_task(livekit.transfer_sip_participant(asked(call))) for _ in range(2)]
        await caller.asked("REFER")
        with pytest.raises(api.TwirpError) as refused:
            await livekit.transfer_sip_participant(asked(call, "tel:+15105550100"))
        assert refused.value.code == "invalid_argument"
        assert len([request for request in caller.requests if request.method == "REFER"]) == 1
        assert (await control.ask("POST", f"/calls/{call['call_id']}/hangup"))["status"] == 202
        assert {(await each).reason for each in both} == {sip.STR_CALL_ENDED}
        await caller.ended(5.0)
        caller.tell_transfer(487)  # as above


async def test_given_targets_that_are_not_allowed_then_nothing_is_asked_of_the_phone(stack: Stack, livekit: Any, control: Control) -> None:
    async with talking(stack, control) as (caller, call):
        for to, code in (
            ("sip:nurse@198.51.100.1", "permission_denied"),
            ("tel:+49301234", "permission_denied"),
            ("sip:a&PJSIP/b@192.0.2.1", "invalid_argument"),
            ("sip:a@192.0.2.1,Local/s@outbound", "invalid_argument"),
        ):
            with pytest.raises(api.TwirpError) as refused:
                await livekit.transfer_sip_participant(asked(call, to))
            assert refused.value.code == code
        assert not [request for request in caller.requests if request.method == "REFER"]


async def test_given_a_tel_uri_then_the_phone_is_asked_to_call_it(stack: Stack, livekit: Any, control: Control) -> None:
    async with talking(stack, control, refer_status=200) as (caller, call):
        answer = await livekit.transfer_sip_participant(asked(call, "tel:+1-510-555-0100"))
        assert answer.status == sip.STS_TRANSFER_SUCCESSFUL
        assert (await caller.asked("REFER"))["Refer-To"] == "tel:+15105550100"
        await caller.ended(5.0)
        assert (await the_record(stack, caller)).end_reason is EndReason.TRANSFERRED


@pytest.mark.parametrize("taken", [True, False])
async def test_given_a_transfer_when_the_node_of_the_call_is_killed_then_nobody_calls_the_caller_back_before_it_is_decided(
    stack: Stack, control: Control, taken: bool
) -> None:
    async with talking(stack, control, refer_status=100) as (caller, call):
        asking = asyncio.create_task(control.ask("POST", f"/calls/{call['call_id']}/transfer", {"to": TARGET}))
        await caller.asked("REFER")
        await asyncio.sleep(0.3)
        before, workers = len(caller.heard), stack.server.workers()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        await until(lambda: stack.server.workers() and stack.server.workers() != workers, 15.0)
        await asyncio.sleep(4.0)
        assert len(caller.heard) == before, "the caller is still with whom they are being handed on to"
        assert (await control.the_call(caller.caller))["transfer_to"] == f"<{TARGET}>"
        caller.tell_transfer(200 if taken else 486)
        answer = await asking
        assert answer["status"] == (200 if taken else 429)
        if not taken:
            await until(lambda: len(caller.heard) > before + SECOND, 8.0)
            await caller.hang_up()
        record = await the_record(stack, caller)
        assert record.end_reason is (EndReason.TRANSFERRED if taken else EndReason.HANGUP)


async def test_given_a_live_call_then_it_is_shown_with_its_trace_and_hung_up_and_its_record_follows(stack: Stack, control: Control) -> None:
    call = await stack.carrier.call(PIN_EMPTY)
    await call.answered()
    asked_for = await control.the_call(call.caller, "pin")
    assert (asked_for["answered"], asked_for["room"]) == (True, "")
    await call.press(f"{PIN}#", gap_ms=150)
    shown = await control.the_call(call.caller, "waiting")
    one = await control.ask("GET", f"/calls/{shown['call_id']}")
    assert (one["room"], one["pin_tries"], one["status"]) == ("nobody-behind-a-pin", 1, 200)
    assert one["trace"]["decision"]["summary"].startswith("rule SDR_")
    assert PIN not in str(one)
    explained = await control.ask("POST", "/explain", {"from": call.caller, "to": PIN_EMPTY, "pin": PIN})
    assert (explained["decision"], explained["room"]) == ("accept", one["room"])
    assert (await control.ask("POST", f"/calls/{one['call_id']}/hangup"))["status"] == 202
    ending = await call.ended(5.0)
    assert not ending.by_us
    record = await the_record(stack, call)
    kept = await control.ask("GET", f"/calls/{one['call_id']}")
    assert (kept["end_reason"], kept["ended_by"]) == ("rpc", "roomline")
    found = await control.ask("GET", f"/records?number={call.caller.replace('+', '%2B')}")
    assert [each["call_id"] for each in found["records"]] == [record.call_id]
    assert (await control.ask("POST", f"/calls/{one['call_id']}/hangup"))["status"] == 404
    ready = await control.ask("GET", "/ready")
    assert (ready["status"], ready["ready"], ready["pbx"]["pbx"]["connected"]) == (200, True, True)


async def test_given_a_live_call_then_the_command_line_shows_it_and_ends_it(stack: Stack, control: Control) -> None:
    async with talking(stack, control) as (caller, call):
        status, said = await roomline(stack, "calls", "--live")
        assert (status, call["call_id"] in said, "room echo" in said, "talking" in said) == (0, True, True, True), said
        status, said = await roomline(stack, "transfer", call["call_id"], "tel:+4930123456")
        assert (status, "outbound.allow" in said) == (2, True), said
        assert (await roomline(stack, "hangup", call["call_id"]))[0] == 0
        await caller.ended(5.0)


async def roomline(stack: Stack, *arguments: str) -> tuple[int | None, str]:
    """The command of an operator beside the server."""
    command = [sys.executable, "-m", "bridge", *arguments, "--config", str(stack.server.config)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    out, _ = await process.communicate()
    return process.returncode, out.decode()
