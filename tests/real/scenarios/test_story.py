"""Every step of DESIGN §5 on a real PBX: what the caller's side gets by SIP, what the caller hears, what is kept of the call."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from bridge.media.port import ClipName
from bridge.media.tones import LEVEL, WRONG_PIN
from bridge.model.ending import EndedBy, EndReason
from bridge.model.record import CallRecord
from bridge.testing.carrier import CallEnded, CarrierCall
from bridge.testing.carrier_config import Keys
from bridge.testing.clips import until_heard as until_clip
from bridge.testing.clips import wrong_pin_seconds
from bridge.testing.listening import is_tone, level, pitches, segments, tone
from bridge.testing.pbx_config import CARRIER_ENDPOINT, FALLBACK_HZ
from bridge.testing.stack import Stack
from tests.real.scenario import (
    PIN,
    RINGBACK_HZ,
    assert_nothing_secret_logged,
    direct,
    heard_tone,
    hears_itself,
    records_of,
    the_record,
    until_heard,
)
from tests.real.scenarios.conftest import Parts

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_call_left"), pytest.mark.timeout(90)]

ECHO, PIN_ECHO, MEETING, LATE, EMPTY, PIN_MEETING, BRIEF = (f"+1555100{number}" for number in range(7))
GUARDED, PASSWORD, TRUSTED, NO_RULE, STRANGE, CALLEE, PRIVATE = (f"+1555200{number}" for number in range(7))
ANNOUNCED_AFTER = 2.0
PASSWORD_ITSELF = "open sesame"
TONE_LEVEL = LEVEL - 3.01
"""Ours count against a sine of full scale, what is heard against full scale itself."""

CONFIGURATION: dict[str, Any] = {
    "pbx": [{"trusted_endpoints": {CARRIER_ENDPOINT: "ST_trusted"}}],
    "pin": {"first_digit_timeout": 2, "digit_timeout": 1.5, "throttle": {"source": {"burst": 1000, "refill": 1}}},
    "rooms": {
        "kind": "local",
        "participants": [
            {"rooms": "echo*", "kind": "echo"},
            {"rooms": "late", "kind": "announcer", "delay": ANNOUNCED_AFTER, "loop": True},
        ],
    },
    "trunks": [
        {"sip_trunk_id": "ST_guarded", "numbers": [GUARDED], "allowed_addresses": ["127.0.0.0/8"], "allowed_numbers": ["+1555900"]},
        {"sip_trunk_id": "ST_elsewhere", "numbers": [STRANGE], "allowed_addresses": ["203.0.113.0/24"]},
        {"sip_trunk_id": "ST_password", "numbers": [PASSWORD], "auth_username": "someone", "auth_password": PASSWORD_ITSELF},
        {"sip_trunk_id": "ST_trusted", "numbers": [TRUSTED], "auth_username": "carrier", "auth_password": PASSWORD_ITSELF},
        {"sip_trunk_id": "ST_brief", "numbers": [BRIEF], "ringing_timeout": "3s", "ringing_timeout_status": 603},
        {"sip_trunk_id": "ST_waiting", "numbers": [PIN_MEETING], "ringing_timeout": "8s"},
        {"sip_trunk_id": "ST_short", "numbers": [PRIVATE], "max_call_duration": "3s"},
    ],
    "dispatch_rules": [
        direct(ECHO, "echo"),
        direct(PIN_ECHO, "echo-behind-a-pin", PIN),
        direct(MEETING, "meeting"),
        direct(LATE, "late"),
        direct(EMPTY, "nobody"),
        direct(PIN_MEETING, "meeting-behind-a-pin", PIN),
        direct(BRIEF, "nobody-for-long"),
        direct(GUARDED, "echo-guarded") | {"trunk_ids": ["ST_guarded"]},
        direct(TRUSTED, "echo-trusted"),
        {"numbers": [CALLEE], "rule": {"dispatch_rule_callee": {"room_prefix": "echo-of", "randomize": False}}},
        {"numbers": [PRIVATE], "rule": {"dispatch_rule_individual": {"room_prefix": "echo-for"}}},
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(CONFIGURATION, **parts(), keep=tmp_path_factory.mktemp("story")) as stack:
        yield stack
        await stack.nothing_left()
        assert_nothing_secret_logged(stack, PASSWORD_ITSELF)


async def ended_with(call: CarrierCall, status: int) -> None:
    ending = await call.ended()
    assert ending.exact
    assert ending.sip_status == status
    assert not ending.by_us


async def hung_up(stack: Stack, call: CarrierCall) -> CallRecord:
    await call.hang_up()
    return await the_record(stack, call)


# --- 1. Admit -----------------------------------------------------------------------------------------------------------


async def test_given_a_caller_with_a_rule_then_they_hear_ringing_at_once_and_are_not_answered(stack: Stack) -> None:
    call = await stack.carrier.call(EMPTY)
    await call.ringing(timeout=2.0)
    await asyncio.sleep(1.0)
    assert call.answered_at is None
    record = await hung_up(stack, call)
    assert (record.end_reason, record.ended_by, record.sip_status) == (EndReason.CANCELLED, EndedBy.CALLER, 487)
    assert record.answered_at is None
    assert call.ending is not None
    assert call.ending.sip_status == 487


# --- 2. Authorise -------------------------------------------------------------------------------------------------------


async def test_given_a_trunk_of_that_number_address_and_caller_then_the_call_is_its(stack: Stack) -> None:
    call = await stack.carrier.call(GUARDED, caller="+1555900")
    await call.answered()
    record = await hung_up(stack, call)
    assert record.trunk_id == "ST_guarded"
    assert record.source_address == stack.carrier.sip_address[0]
    assert record.room == "echo-guarded"


@pytest.mark.parametrize(
    ("number", "caller", "status", "reason"),
    [
        pytest.param(PASSWORD, "", 403, EndReason.UNAUTHORIZED, id="a trunk with a password, and no credentials"),
        pytest.param(STRANGE, "", 404, EndReason.NO_RULE, id="an address that no trunk allows"),
        pytest.param(GUARDED, "+15559999", 404, EndReason.NO_RULE, id="a caller that the trunk does not allow"),
        pytest.param(NO_RULE, "", 404, EndReason.NO_RULE, id="no trunk and no rule"),
    ],
)
async def test_given_a_caller_who_may_not_call_then_they_get_exactly_that_status_and_the_record_says_why(
    stack: Stack, number: str, caller: str, status: int, reason: EndReason
) -> None:
    call = await stack.carrier.call(number, caller=caller)
    await ended_with(call, status)
    record = await the_record(stack, call)
    assert record.end_reason is reason
    assert record.sip_status == status
    assert record.trace["verdict"]["summary"]
    assert not call.heard.frames


async def test_given_an_endpoint_that_the_operator_trusts_then_its_trunk_needs_no_password(stack: Stack) -> None:
    call = await stack.carrier.call(TRUSTED)
    await call.answered()
    await hears_itself(call)
    assert (await hung_up(stack, call)).trunk_id == "ST_trusted"


# --- 3. Dispatch --------------------------------------------------------------------------------------------------------


async def test_given_a_callee_rule_then_the_room_is_named_after_the_called_number(stack: Stack) -> None:
    call = await stack.carrier.call(CALLEE)
    await call.answered()
    assert (await hung_up(stack, call)).room == f"echo-of_{CALLEE}"


async def test_given_an_individual_rule_then_every_caller_has_a_room_of_their_own(stack: Stack) -> None:
    calls = [await stack.carrier.call(PRIVATE) for _ in range(2)]
    for call in calls:
        await call.answered()
    records = [await hung_up(stack, call) for call in calls]
    for record in records:
        assert record.room.startswith(f"echo-for_{record.number}_")
        assert record.identity == f"sip_{record.number}"
    assert records[0].room != records[1].room


# --- 4. PIN -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["ulaw", "g722"])
@pytest.mark.parametrize("keys", [Keys.RFC4733, Keys.INFO])
async def test_given_the_right_pin_then_the_caller_is_asked_told_and_in_the_room(stack: Stack, codec: str, keys: Keys) -> None:
    call = await stack.carrier.call(PIN_ECHO, codec=codec, keys=keys)
    await call.answered()
    asked_at = await until_clip(call.heard, ClipName.ENTER_PIN, since=call.placed_at, within=6.0)
    assert asked_at - call.placed_at < 2.0
    await call.press(f"{PIN}#")
    await until_clip(call.heard, ClipName.ROOM_JOIN, since=asked_at, within=6.0)
    await hears_itself(call)
    record = await hung_up(stack, call)
    assert (record.end_reason, record.pin_tries, record.room) == (EndReason.HANGUP, 1, "echo-behind-a-pin")


async def test_given_a_prompt_when_a_digit_is_pressed_then_it_stops_and_the_digit_counts(stack: Stack) -> None:
    call = await stack.carrier.call(PIN_ECHO)
    await call.answered()
    await until_clip(call.heard, ClipName.ENTER_PIN, since=call.placed_at, within=6.0, seconds=0.8)
    await call.press(PIN[0])
    stopped = time.monotonic()
    await asyncio.sleep(0.6)
    assert level(call.heard.samples(stopped + 0.1, stopped + 0.5)) < -60, "the prompt goes on"
    await call.press(f"{PIN[1:]}#")
    await hears_itself(call)
    await hung_up(stack, call)


async def heard_wrong_pin(call: CarrierCall, since: float) -> None:
    """The three tones in their order, at their level, then nothing but the end."""
    ending = await call.ended()
    assert (ending.sip_status, ending.by_us) == (200, False)
    assert wrong_pin_seconds(call.heard, since) == pytest.approx(0.9, abs=0.13)
    samples = call.heard.samples(since)
    for part in WRONG_PIN:
        for hz in part.frequencies:
            sounding = [pitch for pitch in pitches(samples, call.heard.rate) if pitch.share > 0.9 and abs(pitch.hz - hz) < 13]
            assert max(pitch.level for pitch in sounding) == pytest.approx(TONE_LEVEL, abs=1.0)
    last = segments(call.heard.samples(), call.heard.rate)[-1]
    assert last.end >= call.heard.seconds - 0.5, "something came after the tone"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        pytest.param("99999999#", EndReason.WRONG_PIN, id="a wrong PIN"),
        pytest.param(f"{PIN[:-1]}#", EndReason.WRONG_PIN, id="all but the last digit"),
        pytest.param("#", EndReason.WRONG_PIN, id="the hash alone"),
        pytest.param("12345678901234567", EndReason.WRONG_PIN, id="17 digits"),
        pytest.param("", EndReason.PIN_TIMEOUT, id="silence"),
        pytest.param("12", EndReason.PIN_TIMEOUT, id="too slow"),
    ],
)
async def test_given_no_right_pin_then_a_tone_ends_the_call(stack: Stack, keys: str, reason: EndReason) -> None:
    call = await stack.carrier.call(PIN_ECHO)
    await call.answered()
    await asyncio.sleep(0.4)
    if keys:
        await call.press(keys)
    await heard_wrong_pin(call, since=call.placed_at)
    record = await the_record(stack, call)
    assert (record.end_reason, record.ended_by, record.pin_tries, record.room) == (reason, EndedBy.ROOMLINE, 1, "")


async def test_given_a_storm_of_keys_then_the_call_ends_cleanly_and_others_are_not_disturbed(stack: Stack) -> None:
    calm = await stack.carrier.call(ECHO)
    await calm.answered()
    storm = await stack.carrier.call(PIN_ECHO)
    await storm.answered()
    with pytest.raises(CallEnded):
        await storm.press("1234567890" * 10, gap_ms=50)
    await hears_itself(calm)
    assert (await the_record(stack, storm)).end_reason is EndReason.WRONG_PIN
    await hung_up(stack, calm)


# --- 5. and 6. Seat, and wait for company -------------------------------------------------------------------------------


async def test_given_an_open_rule_then_it_rings_until_somebody_publishes_and_is_then_answered(stack: Stack) -> None:
    call = await stack.carrier.call(LATE)
    rang = await call.ringing()
    answered = await call.answered()
    assert answered - rang > ANNOUNCED_AFTER - 0.5
    await until_clip(call.heard, ClipName.WELCOME, since=call.placed_at, within=8.0)
    await hung_up(stack, call)


async def test_given_a_room_with_a_phone_waiting_then_a_second_phone_is_company_and_they_hear_each_other(stack: Stack) -> None:
    first = await stack.carrier.call(MEETING)
    await first.ringing()
    await asyncio.sleep(0.5)
    assert first.answered_at is None
    second = await stack.carrier.call(MEETING, codec="g722")
    await asyncio.gather(first.answered(), second.answered())
    await asyncio.sleep(0.3)
    for speaker, listener, hz in ((first, second, 620.0), (second, first, 1830.0)):
        since = await speaker.say(tone(8000, 1.0, [hz], -15.0), 8000)
        await asyncio.sleep(1.3)
        heard = listener.heard.samples(since + 0.3, since + 0.8)
        assert is_tone(heard, listener.heard.rate, [hz])
        assert level(heard) == pytest.approx(-15.0, abs=1.5)
        assert level(speaker.heard.samples(since + 0.3, since + 0.8)) < -60, "who speaks hears themselves"
    await hung_up(stack, first)
    await hung_up(stack, second)


async def test_given_a_room_of_three_then_each_hears_the_two_others(stack: Stack) -> None:
    calls = [await stack.carrier.call(MEETING) for _ in range(3)]
    await asyncio.gather(*(call.answered() for call in calls))
    pitch = [500.0, 900.0, 1700.0]
    since = max(await asyncio.gather(*(call.say(tone(8000, 1.2, [hz], -20.0)) for call, hz in zip(calls, pitch, strict=True))))
    await asyncio.sleep(1.4)
    for place, call in enumerate(calls):
        heard = call.heard.samples(since + 0.3, since + 0.9)
        assert is_tone(heard, 8000, [hz for other, hz in enumerate(pitch) if other != place])
        assert level(heard) == pytest.approx(-17.0, abs=1.5), "two tones of -20 dB each"
    for call in calls:
        await hung_up(stack, call)


async def test_given_two_wideband_phones_then_they_hear_what_no_narrow_line_carries(stack: Stack) -> None:
    calls = [await stack.carrier.call(MEETING, codec="g722") for _ in range(2)]
    await asyncio.gather(*(call.answered() for call in calls))
    await asyncio.sleep(0.3)
    since = await calls[0].say(tone(16000, 1.0, [5500.0]), 16000)
    await asyncio.sleep(1.2)
    assert is_tone(calls[1].heard.samples(since + 0.3, since + 0.8), 16000, [5500.0])
    for call in calls:
        await hung_up(stack, call)


async def test_given_an_open_rule_when_nobody_comes_then_the_trunks_status_ends_it(stack: Stack) -> None:
    call = await stack.carrier.call(BRIEF)
    rang = await call.ringing()
    await ended_with(call, 603)
    assert call.ending is not None
    assert call.ending.at - call.placed_at - rang == pytest.approx(3.0, abs=1.0)
    record = await the_record(stack, call)
    assert (record.end_reason, record.ended_by, record.answered_at) == (EndReason.RINGING_TIMEOUT, EndedBy.ROOMLINE, None)


async def in_the_meeting_behind_a_pin(stack: Stack) -> CarrierCall:
    call = await stack.carrier.call(PIN_MEETING)
    await call.answered()
    await call.press(f"{PIN}#")
    return call


async def test_given_a_pin_and_nobody_there_then_the_caller_hears_ringback_until_somebody_comes(stack: Stack) -> None:
    first = await in_the_meeting_behind_a_pin(stack)
    since = await until_heard(first, RINGBACK_HZ, since=time.monotonic(), within=6.0)
    await asyncio.sleep(1.0)
    ringback = first.heard.samples(since + 0.3, since + 0.9)
    assert is_tone(ringback, 8000, RINGBACK_HZ)
    assert level(ringback) == pytest.approx(TONE_LEVEL, abs=1.0)
    second = await in_the_meeting_behind_a_pin(stack)
    since = await until_heard_by(first, second)
    assert heard_tone(first, RINGBACK_HZ, since) is None, "the ringback goes on"
    await hung_up(stack, first)
    assert (await hung_up(stack, second)).pin_tries == 1


async def until_heard_by(listener: CarrierCall, speaker: CarrierCall, within: float = 6.0) -> float:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        since = await speaker.say(tone(8000, 0.5, [777.0]))
        await asyncio.sleep(0.8)
        if heard_tone(listener, (777.0,), since) is not None:
            return since
    raise AssertionError("the two callers do not hear each other")


async def test_given_an_answered_caller_when_nobody_comes_then_an_announcement_and_the_end(stack: Stack) -> None:
    call = await in_the_meeting_behind_a_pin(stack)
    await until_clip(call.heard, ClipName.NO_COMPANY, since=call.placed_at, within=20.0)
    assert not (await call.ended(5.0)).by_us
    record = await the_record(stack, call)
    assert (record.end_reason, record.ended_by) == (EndReason.COMPANY_TIMEOUT, EndedBy.ROOMLINE)


# --- 7. Talk ------------------------------------------------------------------------------------------------------------


async def test_given_two_phones_in_a_room_when_one_presses_keys_then_the_other_gets_them_as_keys(stack: Stack) -> None:
    first, second = [await stack.carrier.call(MEETING) for _ in range(2)]
    await asyncio.gather(first.answered(), second.answered())
    await first.press("19*#")
    async with asyncio.timeout(5.0):
        while second.keys_heard != "19*#":  # noqa: ASYNC110  (a caller's wait)
            await asyncio.sleep(0.05)
    await hung_up(stack, first)
    await hung_up(stack, second)


async def test_given_ten_phones_in_a_room_when_one_presses_keys_then_all_get_them_at_once_and_nobody_else_waits(stack: Stack) -> None:
    """Each tone lasts 250 ms, at each phone: one after the other they would hold up what is said of other calls for 9 s."""
    presser, *others = [await stack.carrier.call(MEETING) for _ in range(10)]
    await asyncio.gather(*(call.answered() for call in (presser, *others)))
    await presser.press("1234")
    newcomer = await stack.carrier.call(EMPTY)
    await newcomer.ringing()
    assert time.monotonic() - newcomer.placed_at < 2.0
    async with asyncio.timeout(5.0):
        while {call.keys_heard for call in others} != {"1234"}:  # noqa: ASYNC110  (callers' wait)
            await asyncio.sleep(0.05)
    await asyncio.gather(*(call.hang_up() for call in (presser, *others, newcomer)))


async def test_given_a_trunk_with_a_longest_call_then_it_ends_there(stack: Stack) -> None:
    call = await stack.carrier.call(PRIVATE)
    await call.answered()
    ending = await call.ended(10.0)
    assert not ending.by_us
    record = await the_record(stack, call)
    assert record.end_reason is EndReason.MAX_DURATION
    assert record.ended_at - record.started_at == pytest.approx(3.0, abs=0.7)


# --- 8. End -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1, 0.5, 1.5, 3.5])
async def test_given_a_caller_who_hangs_up_at_any_moment_of_the_dialogue_then_there_is_one_record_and_nothing_left(
    stack: Stack, moment: float
) -> None:
    call = await stack.carrier.call(PIN_ECHO)
    await call.answered()
    await asyncio.sleep(moment)
    record = await hung_up(stack, call)
    assert (record.ended_by, record.end_reason) == (EndedBy.CALLER, EndReason.HANGUP)
    await stack.nothing_left()


async def test_given_callers_who_cancel_as_soon_as_they_have_called_then_there_is_at_most_one_record_of_each_and_nothing_left(
    stack: Stack,
) -> None:
    """Some are gone before the PBX has told us of them: then there was no call."""
    for pause in (0.0, 0.001, 0.002, 0.004, 0.008, 0.016):
        call = await stack.carrier.call(EMPTY)
        await asyncio.sleep(pause)
        await call.hang_up()
        await stack.nothing_left()
        assert [record.end_reason for record in records_of(stack, call)] in ([], [EndReason.CANCELLED])


async def test_given_a_caller_who_hangs_up_while_waiting_or_talking_then_nothing_is_left(stack: Stack) -> None:
    waiting = await in_the_meeting_behind_a_pin(stack)
    await until_heard(waiting, RINGBACK_HZ, since=time.monotonic(), within=6.0)
    talking = await stack.carrier.call(ECHO)
    await talking.answered()
    assert (await hung_up(stack, waiting)).end_reason is EndReason.HANGUP
    assert (await hung_up(stack, talking)).end_reason is EndReason.HANGUP
    await stack.nothing_left()


# --- Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x,Endpoint: carrier-a", id="a forged header"),
        pytest.param("%0D%0AAction: Logoff%0D%0A%0D%0A", id="encoded line breaks"),
        pytest.param('quo"te \\ back', id="quotes"),
        pytest.param("🦄🦄 Zoë «Ünïcode»", id="emoji"),
        pytest.param("${SHELL(id)} $[1+1] ${GLOBAL(ROOMLINE_HEARTBEAT)}", id="dialplan"),
        pytest.param("n" * 230, id="as long as the carrier can send"),
        pytest.param("&called=%2B1&x=", id="our own separators"),
        pytest.param("\u202egnp.exe\u200b", id="marks that turn text round"),
    ],
)
async def test_given_a_hostile_name_then_it_is_only_a_name(stack: Stack, name: str) -> None:
    call = await stack.carrier.call(TRUSTED, name=name, headers={"X-Trick": name, "X-Number": "1,2;3"})
    await call.answered()
    record = await hung_up(stack, call)
    assert record.number == call.caller
    assert record.called == TRUSTED
    assert record.trunk_id == "ST_trusted"
    assert record.endpoint == CARRIER_ENDPOINT


async def test_given_headers_of_many_kilobytes_then_the_call_goes_on_without_the_longest(stack: Stack) -> None:
    headers = {f"X-Long-{number}": "v" * 900 for number in range(20)}
    call = await stack.carrier.call(ECHO, headers=headers)
    await call.answered()
    await hears_itself(call)
    await hung_up(stack, call)


async def test_given_a_call_that_nobody_takes_then_the_fallback_has_it(stack: Stack) -> None:
    """The lease of the park, beside the deaths: a server that hands over and is gone."""
    await stack.server.stop()
    call = await stack.carrier.call(ECHO)
    await until_heard_fallback(call)
    await call.hang_up()
    await stack.server.start()
    again = await stack.carrier.call(ECHO)
    await again.answered()
    await hears_itself(again)
    await hung_up(stack, again)


async def until_heard_fallback(call: CarrierCall) -> None:
    await call.answered(timeout=8.0)
    await until_heard(call, (FALLBACK_HZ,), since=time.monotonic(), within=4.0)
