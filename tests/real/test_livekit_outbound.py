"""Calls out into a real LiveKit's room: what the others there see and hear of a phone that rings, of a machine, and of who answers."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from livekit import api
from livekit.protocol import sip

from bridge.model.trunk import OutboundTrunk
from bridge.store.port import Edit
from bridge.store.sqlite_objects import SqliteObjects
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.human import RATE, Human
from bridge.testing.listening import dominant_frequency, tone
from bridge.testing.livekit_server import LiveKitServer
from bridge.testing.pbx_config import FALLBACK_HZ, OUT_ENDPOINT
from bridge.testing.stack import Stack
from tests.real.scenario import assert_nothing_secret_logged

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

KEY, SECRET = "devkey", "a-secret-of-thirty-two-characters!"
TRUNK = OutboundTrunk(sip_trunk_id="ST_out", address="pbx.example.com", numbers=("+15550100",))
DIAL_TONE_HZ, HUMAN_HZ = 425.0, 600.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(asterisk: Asterisk, livekit: LiveKitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    configuration = {
        "pbx": [{"outbound_endpoints": {"ST_out": OUT_ENDPOINT}}],
        "outbound": {"allow": ["lab-*"]},
        "rooms": livekit.rooms(),
        "media": {"workers": 1},
        "api": {"keys": {KEY: SECRET}},
    }
    async with Stack(configuration, asterisk=asterisk, keep=tmp_path_factory.mktemp("stack")) as stack:
        async with SqliteObjects(stack.server.store) as store:
            await store.change(lambda _: Edit(put=(TRUNK,)))
        yield stack
        await stack.pbx.quiet()
        assert_nothing_secret_logged(stack, livekit.secret, SECRET, "eyJ")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[Any]:
    async with api.LiveKitAPI(f"http://{stack.api_address}", KEY, SECRET) as client:
        yield client.sip


def asked(to: str, room: str, **fields: Any) -> sip.CreateSIPParticipantRequest:
    return sip.CreateSIPParticipantRequest(sip_trunk_id="ST_out", sip_call_to=to, room_name=room, **fields)


def statuses(human: Human, identity: str) -> list[str]:
    """`sip.callStatus` as it went, without repeats."""
    seen = [event.details["attributes"].get("sip.callStatus") for event in [*human.happened("joined"), *human.happened("changed")]]
    return [status for place, status in enumerate(seen) if place == 0 or seen[place - 1] != status]


async def hears(human: Human, identity: str, frequency: float, since: float, within: float = 8.0) -> float:
    """The moment by which this participant has sounded so for a fifth of a second. Raises AssertionError."""
    deadline = time.monotonic() + within
    while True:
        recording = human.heard.get(identity)
        heard = recording.samples(max(since, time.monotonic() - 0.2)) if recording is not None else ()
        if len(heard) > 2_000 and not isinstance(heard, tuple) and abs(dominant_frequency(heard, 16_000) - frequency) < 15:
            return time.monotonic()
        assert time.monotonic() < deadline, f"no {frequency} Hz from {identity}"
        await asyncio.sleep(0.02)


async def test_given_a_phone_that_rings_then_the_room_sees_it_and_hears_it_ring(stack: Stack, livekit: LiveKitServer, client: Any) -> None:
    async with Human(livekit.access, "rings") as human:
        began = time.monotonic()
        made = await client.create_sip_participant(
            asked("lab-ring", "rings", play_dialtone=True, participant_attributes={"team": "sales"}, participant_metadata="{}")
        )
        assert (made.room_name, made.participant_identity) == ("rings", "sip_lab-ring")
        await hears(human, "sip_lab-ring", DIAL_TONE_HZ, began)
        seen = await human.until_sees("sip_lab-ring")
        assert (seen.name, seen.kind, seen.metadata) == ("Phone lab-ring", "sip", "{}")
        assert seen.attributes == {
            "team": "sales",
            "sip.callID": made.sip_call_id,
            "sip.callStatus": "dialing",
            "sip.trunkID": "ST_out",
            "sip.phoneNumber": "lab-ring",
            "sip.trunkPhoneNumber": "+15550100",
            "sip.hostname": "pbx.example.com",
        }
        await livekit_removes(livekit, "rings", "sip_lab-ring")
        await stack.pbx.quiet()


async def test_given_who_answers_then_both_hear_each_other(stack: Stack, livekit: LiveKitServer, client: Any) -> None:
    async with Human(livekit.access, "talks") as human:
        human.hum(tone(RATE, 1.0, [HUMAN_HZ]))
        began = time.monotonic()
        await client.create_sip_participant(asked("lab-echo", "talks", wait_until_answered=True, hide_phone_number=True))
        await hears(human, "sip_lab-echo", HUMAN_HZ, began)
        seen = await human.until_sees("sip_lab-echo")
        assert {"sip.phoneNumber", "sip.hostname", "sip.trunkPhoneNumber"}.isdisjoint(seen.attributes)
        assert (seen.name, seen.attributes["sip.callStatus"]) == ("Phone", "active")
        await livekit_removes(livekit, "talks", "sip_lab-echo")
        await stack.pbx.quiet()


async def test_given_a_machine_that_wants_digits_then_it_gets_them_before_the_room_hears_it(
    stack: Stack, livekit: LiveKitServer, client: Any
) -> None:
    async with Human(livekit.access, "menu") as human:
        began = time.monotonic()
        await client.create_sip_participant(asked("lab-menu", "menu", dtmf="ww1w2", wait_until_answered=True))
        await hears(human, "sip_lab-menu", FALLBACK_HZ, began)
        assert statuses(human, "sip_lab-menu")[-2:] == ["automation", "active"]
        await livekit_removes(livekit, "menu", "sip_lab-menu")
        await stack.pbx.quiet()


async def livekit_removes(livekit: LiveKitServer, room: str, identity: str) -> None:
    async with api.LiveKitAPI(livekit.access.url.replace("ws", "http", 1), livekit.access.key, livekit.access.secret) as server:
        await server.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=identity))
