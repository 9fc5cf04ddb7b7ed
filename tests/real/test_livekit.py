"""Callers in a real LiveKit's rooms: what the others see, hear and may ask for, and how it ends.

livekit-sip-semantics.md §2.6 and §3.4–3.8.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
from livekit import rtc
from livekit.api import CreateRoomRequest, DeleteRoomRequest, ListParticipantsRequest, RoomParticipantIdentity
from livekit.protocol.models import ParticipantInfo, ParticipantPermission

from bridge.model.ending import EndedBy, EndReason
from bridge.rooms.livekit_check import check_livekit
from bridge.testing.carrier import CarrierCall
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.human import RATE, Human
from bridge.testing.listening import dominant_frequency, is_tone, level, seconds_of_tone, tone
from bridge.testing.livekit_server import LiveKitServer
from bridge.testing.phone import SILENCE, Phone, SipMessage
from bridge.testing.stack import Stack
from tests.real.livekit_scenario import (
    ALL_HEADERS,
    CALLEES_ROOM,
    FULL,
    HIDDEN,
    IMPATIENT,
    METADATA,
    OPEN,
    OWN_ROOM,
    SHORT,
    TRUNKLESS,
    WITH_PIN,
    configuration,
    gets_keys,
    identity_of,
)
from tests.real.scenario import PIN, RINGBACK_HZ, assert_nothing_secret_logged, the_record, until_heard

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_call_left"), pytest.mark.timeout(60)]

HUMAN_HZ, CALLER_HZ = 600.0, 1000.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(asterisk: Asterisk, livekit: LiveKitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(configuration(livekit), asterisk=asterisk, keep=tmp_path_factory.mktemp("livekit")) as stack:
        yield stack
        await stack.pbx.quiet()
        assert_nothing_secret_logged(stack, livekit.secret, "eyJ")  # "eyJ": how every token begins
    assert stack.server.workers() == []


@asynccontextmanager
async def talking(stack: Stack, livekit: LiveKitServer) -> AsyncIterator[tuple[CarrierCall, Human]]:
    """A caller and a human who talk in the open room, each humming."""
    async with Human(livekit.access, "open") as human:
        human.hum(tone(RATE, 1.0, [HUMAN_HZ]))
        call = await stack.carrier.call(OPEN)
        await call.answered()
        await human.until("published", identity_of(call))
        yield call, human


async def test_given_a_livekit_then_check_says_whether_it_takes_our_key(livekit: LiveKitServer) -> None:
    (found,) = await check_livekit(livekit.access)
    assert (found.ok, found.text) == (True, f"LiveKit at 127.0.0.1:{livekit.port} answers and takes our key")
    (found,) = await check_livekit(replace(livekit.access, secret="x" * 32))
    assert found.ok is False
    assert "refuses our key" in found.text
    assert "rooms.secret" in found.todo


CALLER = "+15559990000"
HEADERS = {"X-Customer": "4711", "X-Twilio-CallSid": "CA1", "Other": "mine"}
X_HEADERS = {
    "customer": "4711",
    "sip.h.x-customer": "4711",
    "sip.h.x-twilio-callsid": "CA1",
    "sip.twilio.callSid": "CA1",
}
NUMBERS = {"sip.phoneNumber": CALLER, "sip.hostname": "127.0.0.1"}
SHOWN = (f"sip_{CALLER}", f"Phone {CALLER}")
MASKED = ("sip_c3e94083b66a30d5", "Phone 0000")
"""Identity and name of who hides their number: the first 16 hex digits of SHA-256 of it, and its last four."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a caller to this number looks in this room: identity and name, metadata, and attributes but for those that differ from call to
    call (`sip.callID`, `sip.callIDFull`, `sip.callTag`)."""

    number: str
    room: str
    who: tuple[str, str]
    attributes: dict[str, str]
    metadata: str = ""
    pin: str = ""


LOOKS = {
    "plain": Look(
        OPEN,
        "open",
        SHOWN,
        {**X_HEADERS, **NUMBERS, "team": "support", "sip.trunkID": "ST_carrier", "sip.ruleID": "SDR_open", "sip.trunkPhoneNumber": OPEN},
        metadata=METADATA,
    ),
    "PIN": Look(
        WITH_PIN,
        "behind-a-pin",
        SHOWN,
        {**X_HEADERS, **NUMBERS, "sip.trunkID": "ST_carrier", "sip.ruleID": "SDR_pin", "sip.trunkPhoneNumber": WITH_PIN},
        pin=PIN,
    ),
    "hidden number": Look(HIDDEN, "hidden", MASKED, {**X_HEADERS, "sip.trunkID": "ST_carrier", "sip.ruleID": "SDR_hidden"}),
    "no trunk": Look(
        TRUNKLESS,
        "trunkless",
        SHOWN,
        {**NUMBERS, "sip.twilio.callSid": "CA1", "sip.ruleID": "SDR_trunkless", "sip.trunkPhoneNumber": TRUNKLESS},
    ),
    "room of the caller's own, hidden": Look(
        OWN_ROOM, "own_0000", MASKED, {**X_HEADERS, "sip.trunkID": "ST_carrier", "sip.ruleID": "SDR_own"}
    ),
    "room of the number called": Look(
        CALLEES_ROOM,
        f"desk_{CALLEES_ROOM}",
        SHOWN,
        {**X_HEADERS, **NUMBERS, "sip.trunkID": "ST_carrier", "sip.ruleID": "SDR_callee", "sip.trunkPhoneNumber": CALLEES_ROOM},
    ),
    "all headers": Look(
        ALL_HEADERS,
        "all-headers",
        SHOWN,
        {**NUMBERS, "sip.twilio.callSid": "CA1", "sip.trunkID": "ST_all", "sip.ruleID": "SDR_all", "sip.trunkPhoneNumber": ALL_HEADERS},
    ),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_given_a_caller_then_the_participant_looks_like_livekits_own(stack: Stack, livekit: LiveKitServer, look: Look) -> None:
    """livekit-sip-semantics.md §2.6, §3.7 and §3.8; what is of one call only is that of the INVITE itself."""
    async with (
        Human(livekit.access, look.room) as human,
        Phone(stack.pbx.sip_address, caller=CALLER, headers=HEADERS) as phone,
    ):
        answer = await phone.call(look.number)
        assert answer.status == 200
        phone.send(SILENCE)
        await phone.press(f"{look.pin}#" if look.pin else "")
        identity, name = look.who
        await human.until("published", identity)
        await until_attribute(human, identity, "sip.callStatus", "active")
        seen = human.sees(identity)
        assert seen is not None
        assert (seen.name, seen.kind, seen.metadata) == (name, "sip", look.metadata)
        assert seen.tracks == ((identity, "audio", "microphone"),)
        assert phone.invite is not None
        attributes = dict(seen.attributes)
        assert re.fullmatch(r"SCL_[2-9A-HJ-NP-Za-km-z]{12}", attributes.pop("sip.callID"))
        of_the_call = {"sip.callIDFull": phone.invite["Call-ID"], "sip.callTag": phone.invite["From"].partition(";tag=")[2]}
        included = all_headers(phone.invite) if look.number == ALL_HEADERS else {}
        assert attributes == look.attributes | of_the_call | included | {"sip.callStatus": "active"}
        await assert_may_what_livekits_own_may(livekit, look.room, identity)
        await phone.hang_up()
        await human.until("left", identity)
        statuses = [event.details["attributes"].get("sip.callStatus") for event in human.happened("changed", identity)]
        assert statuses[-1] == "hangup"


def all_headers(invite: SipMessage) -> dict[str, str]:
    """As attributes, as the PBX has received them: with the sender's address filled into the Via (RFC 3581 §4), and without the port in
    the To, where none is allowed (RFC 3261 §19.1.1)."""
    via = re.sub(r":(\d+);branch=(\w+);rport$", r":\1;rport=\1;received=127.0.0.1;branch=\2", invite["Via"])
    received = dict(invite.headers) | {"Via": via, "To": re.sub(r":\d+>", ">", invite["To"])}
    return {f"sip.h.{header.lower()}": value for header, value in received.items()}


async def assert_may_what_livekits_own_may(livekit: LiveKitServer, room: str, identity: str) -> None:
    """The grants of the token (§3.7), as LiveKit itself understands them, and no more."""
    async with livekit.api() as api:
        listed = await api.room.list_participants(ListParticipantsRequest(room=room))
    (participant,) = [each for each in listed.participants if each.identity == identity]
    assert (participant.kind, participant.is_publisher, len(participant.tracks)) == (ParticipantInfo.Kind.SIP, True, 1)
    assert participant.permission == ParticipantPermission(
        can_subscribe=True, can_publish=True, can_publish_data=True, can_update_metadata=True
    )


async def test_given_a_caller_who_hangs_up_then_the_seat_is_left_at_once(stack: Stack, livekit: LiveKitServer) -> None:
    async with talking(stack, livekit) as (call, human):
        await call.hang_up()
        left = await human.until("left", identity_of(call))
        assert call.ending is not None
        assert left.at - call.ending.at < 1.0
        assert (await the_record(stack, call)).end_reason is EndReason.HANGUP


async def until_attribute(human: Human, identity: str, name: str, value: str, within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while (seen := human.sees(identity)) is None or seen.attributes.get(name) != value:
        assert time.monotonic() < deadline, f"{name} did not become {value}: {seen}"
        await asyncio.sleep(0.02)


async def test_given_an_open_rule_when_nobody_publishes_then_it_rings_and_the_others_see_it_ring(
    stack: Stack, livekit: LiveKitServer
) -> None:
    async with Human(livekit.access, "open", speaks=False) as human:
        call = await stack.carrier.call(OPEN)
        await call.ringing()
        await human.until("joined", identity_of(call))
        seen = human.sees(identity_of(call))
        assert seen is not None
        assert seen.attributes["sip.callStatus"] == "ringing"
        await asyncio.sleep(1.0)
        assert call.answered_at is None
        await human.publish()
        await call.answered(3.0)
        await until_attribute(human, identity_of(call), "sip.callStatus", "active")
        await call.hang_up()


async def test_given_an_open_rule_when_nobody_comes_then_486_after_the_trunks_time(stack: Stack) -> None:
    call = await stack.carrier.call(IMPATIENT)
    ending = await call.ended(8.0)
    assert ending.sip_status == 486
    assert 1.5 < ending.at - call.placed_at < 4.0
    assert (await the_record(stack, call)).end_reason is EndReason.RINGING_TIMEOUT


async def test_given_another_phone_in_the_room_then_it_is_company_enough(stack: Stack) -> None:
    first = await stack.carrier.call(OPEN)
    await first.ringing()
    second = await stack.carrier.call(OPEN)
    await asyncio.gather(first.answered(5.0), second.answered(5.0))
    since = await first.say(tone(8000, 1.0, [CALLER_HZ]), 8000)
    await until_heard(second, (CALLER_HZ,), since, within=3.0)
    await first.hang_up()
    await second.hang_up()


async def test_given_a_pin_then_the_participant_is_active_from_the_join_on(stack: Stack, livekit: LiveKitServer) -> None:
    async with Human(livekit.access, "behind-a-pin", speaks=False) as human:
        call = await stack.carrier.call(WITH_PIN)
        await call.answered()
        await call.press(f"{PIN}#")
        joined = await human.until("joined", identity_of(call))
        assert joined.details["attributes"]["sip.callStatus"] == "active"
        await until_heard(call, RINGBACK_HZ, since=time.monotonic(), within=6.0)
        await human.publish()
        human.hum(tone(RATE, 1.0, [HUMAN_HZ]))
        await until_heard(call, (HUMAN_HZ,), since=time.monotonic(), within=4.0)
        await call.hang_up()


async def test_given_a_talk_then_both_hear_one_another_at_the_same_level(stack: Stack, livekit: LiveKitServer) -> None:
    async with talking(stack, livekit) as (call, human):
        await asyncio.sleep(1.0)
        since = await call.say(tone(8000, 4.0, [CALLER_HZ]), 8000)
        for recording, hz in ((call.heard, HUMAN_HZ), (human.heard[identity_of(call)], CALLER_HZ)):
            samples = recording.samples(since + 0.5, since + 3.5)
            assert is_tone(samples, recording.rate, [hz])
            assert dominant_frequency(samples, recording.rate) == pytest.approx(hz, abs=2.0)
            assert level(samples) == pytest.approx(level(tone(8000, 1.0, [hz])), abs=1.5)
            assert seconds_of_tone(samples, recording.rate, hz) > 2.9
        await call.hang_up()


async def test_given_a_talk_then_the_native_sdk_is_in_the_workers_process_only(stack: Stack, livekit: LiveKitServer) -> None:
    async with talking(stack, livekit):
        (worker,) = stack.server.workers()
        assert await asyncio.to_thread(maps_the_sdk, worker)
        assert not await asyncio.to_thread(maps_the_sdk, stack.server.child.pid)


def maps_the_sdk(pid: int) -> bool:
    return "livekit_ffi" in Path(f"/proc/{pid}/maps").read_text()


async def test_given_two_humans_then_the_caller_hears_both(stack: Stack, livekit: LiveKitServer) -> None:
    async with talking(stack, livekit) as (call, _human), Human(livekit.access, "open", "another") as another:
        another.hum(tone(RATE, 1.0, [1500.0]))
        await until_heard(call, (HUMAN_HZ, 1500.0), since=time.monotonic(), within=4.0)
        await another.leave()
        await asyncio.sleep(0.5)
        await until_heard(call, (HUMAN_HZ,), since=time.monotonic(), within=4.0)
        await call.hang_up()


async def test_given_a_wideband_caller_then_high_tones_pass(stack: Stack, livekit: LiveKitServer) -> None:
    async with Human(livekit.access, "open") as human:
        human.hum(tone(RATE, 1.0, [5500.0]))
        call = await stack.carrier.call(OPEN, codec="g722")
        await call.answered()
        await human.until("published", identity_of(call))
        since = await call.say(tone(16000, 2.5, [6000.0]), 16000)
        assert is_tone(human.heard[identity_of(call)].samples(since + 1.0, since + 2.3), 16_000, [6000.0])
        assert is_tone(call.heard.samples(since + 1.0, since + 2.3), 16_000, [5500.0])
        await call.hang_up()


async def test_given_keys_then_each_press_is_one_packet_to_the_room(stack: Stack, livekit: LiveKitServer) -> None:
    async with talking(stack, livekit) as (call, human):
        await call.press("159*#0")
        await human.until("pressed", identity_of(call), count=6)
        pressed = [(event.details["digit"], event.details["code"]) for event in human.happened("pressed")]
        assert pressed == [("1", 1), ("5", 5), ("9", 9), ("*", 10), ("#", 11), ("0", 0)]
        await call.hang_up()


async def test_given_digits_from_the_room_then_the_phone_gets_them_and_nothing_that_is_no_digit(
    stack: Stack, livekit: LiveKitServer
) -> None:
    async with talking(stack, livekit) as (call, human):
        for wrong in ("x", "1;2", "9" * 2000, "", "\x00"):
            await human.press(wrong)
        await human.press("4w2", 99)
        await gets_keys(call, "42")
        await call.hang_up()


async def test_given_a_question_for_headers_then_the_invites_own(stack: Stack, livekit: LiveKitServer) -> None:
    async with Human(livekit.access, "open") as human:
        call = await stack.carrier.call(OPEN, headers={"X-Customer": "4711"})
        await call.answered()
        await human.until("published", identity_of(call))
        answer = await human.ask(identity_of(call), "lk.sip.GetRemoteHeaders", {"include": ["x-customer", "via"]})
        assert answer == {"headers": {"X-Customer": "4711"}}
        await call.hang_up()


async def test_given_an_order_to_end_the_call_then_the_phone_is_hung_up(stack: Stack, livekit: LiveKitServer) -> None:
    async with talking(stack, livekit) as (call, human):
        assert await human.ask(identity_of(call), "lk.sip.EndCall", {"headers": {"X-Why": "enough"}}) == {}
        await call.ended(3.0)
        record = await the_record(stack, call)
        assert (record.end_reason, record.ended_by, record.detail) == (EndReason.REQUESTED, EndedBy.ROOM, "human asked for it")
        await human.until("left", identity_of(call))


@pytest.mark.parametrize(
    ("order", "reason"),
    [("delete", EndReason.ROOM_CLOSED), ("remove", EndReason.REMOVED), ("duplicate", EndReason.DUPLICATE_IDENTITY)],
)
async def test_given_a_room_that_ends_the_seat_then_the_phone_is_hung_up_with_the_reason(
    stack: Stack, livekit: LiveKitServer, order: str, reason: EndReason
) -> None:
    async with talking(stack, livekit) as (call, human):
        api = livekit.api()
        try:
            match order:
                case "delete":
                    await api.room.delete_room(DeleteRoomRequest(room="open"))
                case "remove":
                    await api.room.remove_participant(RoomParticipantIdentity(room="open", identity=identity_of(call)))
                case "duplicate":
                    async with Human(livekit.access, "open", identity_of(call), speaks=False):
                        await call.ended(3.0)
            await call.ended(3.0)
        finally:
            await api.aclose()
        record = await the_record(stack, call)
        assert (record.end_reason, record.ended_by) == (reason, EndedBy.ROOM)
        changes = human.happened("changed", identity_of(call))
        assert "hangup" not in [change.details["attributes"].get("sip.callStatus") for change in changes]


async def test_given_a_longest_duration_then_the_call_ends_after_it(stack: Stack, livekit: LiveKitServer) -> None:
    async with Human(livekit.access, "short"):
        call = await stack.carrier.call(SHORT)
        await call.answered()
        ending = await call.ended(8.0)
        assert 3.0 < ending.at - call.placed_at < 5.5
        assert (await the_record(stack, call)).end_reason is EndReason.MAX_DURATION


async def test_given_the_human_leaves_then_the_call_goes_on(stack: Stack, livekit: LiveKitServer) -> None:
    async with talking(stack, livekit) as (call, human):
        await human.leave()
        await asyncio.sleep(2.0)
        assert call.ending is None
        await call.hang_up()


async def test_given_a_room_that_is_full_then_the_fallback_and_livekits_reason(stack: Stack, livekit: LiveKitServer) -> None:
    api = livekit.api()
    try:
        await api.room.create_room(CreateRoomRequest(name="full", max_participants=1))
        async with Human(livekit.access, "full", speaks=False):
            call = await stack.carrier.call(FULL)
            await call.answered(6.0)  # the operator's fallback answers
            await call.hang_up()
        record = await the_record(stack, call)
        assert record.end_reason is EndReason.ROOM_FAILED
        assert record.detail == "the room is full: 1 of 1 participants"
    finally:
        await api.aclose()


async def test_given_video_and_data_then_nothing_of_it_is_company_or_taken(stack: Stack, livekit: LiveKitServer) -> None:
    async with Human(livekit.access, "open", speaks=False) as human:
        source = rtc.VideoSource(64, 64)
        await human.room.local_participant.publish_track(rtc.LocalVideoTrack.create_video_track("face", source))
        await human.room.local_participant.publish_data(b"x" * 15_000, reliable=True)
        call = await stack.carrier.call(OPEN)
        await human.until("joined", identity_of(call))
        await asyncio.sleep(1.0)
        assert call.answered_at is None
        await call.hang_up()
