"""The tools themselves: the carrier calls the PBX's own extensions, with no Roomline in between."""

import asyncio
import itertools
from pathlib import Path

import pytest

from bridge.testing.ami import Message
from bridge.testing.carrier import CallEnded, Carrier
from bridge.testing.carrier_config import CODECS, Keys
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.listening import chirp, dominant_frequency, is_tone, level, round_trip
from bridge.testing.pbx import OperatorPbx
from bridge.testing.pbx_config import CARRIER_ENDPOINT, FALLBACK_HZ, HOLD_MUSIC_HZ

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("codec", CODECS)
async def test_given_an_echo_when_the_caller_speaks_then_they_hear_themselves(carrier: Carrier, codec: str) -> None:
    call = await carrier.call("lab-echo", codec=codec)
    await call.answered()
    began = await call.say(chirp(call.ear.rate, 1.0))
    await asyncio.sleep(0.3)
    await call.hang_up()
    match = round_trip(call.said, call.heard, began, seconds=1.0)
    assert match.likeness > 0.95
    assert 0 <= match.delay < 0.25
    assert call.ending is not None
    assert (call.ending.sip_status, call.ending.by_us) == (200, True)


async def test_given_a_number_that_is_nobodys_then_the_caller_gets_404(carrier: Carrier) -> None:
    call = await carrier.call("_nobody")
    ending = await call.ended()
    assert ending.sip_status == 404
    assert ending.exact
    assert not ending.by_us
    with pytest.raises(CallEnded, match="404"):
        await call.answered()


@pytest.mark.parametrize("status", [480, 486, 503, 606])
async def test_given_a_reject_then_the_caller_gets_exactly_that_status(carrier: Carrier, status: int) -> None:
    ending = await (await carrier.call(f"lab-reject-{status}")).ended()
    assert (ending.sip_status, ending.exact) == (status, True)


async def test_when_the_caller_gives_up_while_it_rings_then_the_call_is_cancelled(carrier: Carrier, pbx: OperatorPbx) -> None:
    gone = asyncio.Event()

    def watch(message: Message) -> None:
        if message.event == "Hangup" and message["TechCause"] == "487":
            gone.set()

    with pbx.admin.listening(watch):
        call = await carrier.call("lab-ring")
        await call.ringing()
        assert call.answered_at is None
        await call.hang_up()
        async with asyncio.timeout(5):
            await gone.wait()
    assert call.ending is not None
    assert (call.ending.sip_status, call.ending.by_us) == (487, True)


async def test_when_the_callers_patience_ends_while_it_rings_then_that_is_a_cancel_too_and_no_refusal(carrier: Carrier) -> None:
    call = await carrier.call("lab-ring", ring_for=0.5)
    ending = await call.ended()
    assert call.ringing_at is not None
    assert (ending.sip_status, ending.by_us) == (487, True)


@pytest.mark.parametrize("keys", Keys)
async def test_when_keys_are_pressed_then_the_pbx_gets_each_of_them_once(carrier: Carrier, pbx: OperatorPbx, keys: Keys) -> None:
    digits: list[str] = []

    def watch(message: Message) -> None:
        if message.event == "DTMFEnd" and message["Direction"] == "Received":
            digits.append(message["Digit"])

    with pbx.admin.listening(watch):
        call = await carrier.call("lab-quiet", keys=keys)
        await call.answered()
        await call.press("0123456789*#ABCD", duration_ms=100, gap_ms=60)
        await asyncio.sleep(0.3)
        await call.hang_up()
    assert "".join(digits) == "0123456789*#ABCD"


async def test_given_the_pbx_hangs_up_then_the_end_is_not_ours(carrier: Carrier) -> None:
    call = await carrier.call("lab-leave")
    await call.answered()
    ending = await call.ended()
    assert (ending.sip_status, ending.by_us) == (200, False)
    with pytest.raises(ConnectionError):
        await call.say(chirp(8000, 0.1))


async def test_given_the_operators_tone_and_music_then_each_is_told_from_its_samples(carrier: Carrier) -> None:
    heard = {}
    for name in ("tone", "music"):
        call = await carrier.call(f"lab-{name}")
        await call.answered()
        await asyncio.sleep(1.0)
        await call.hang_up()
        assert call.heard.longest_gap() < 0.2
        heard[name] = call.heard.samples()
    assert dominant_frequency(heard["tone"], 8000) == pytest.approx(FALLBACK_HZ, abs=2)
    assert level(heard["tone"]) == pytest.approx(-6.0, abs=0.5)
    assert is_tone(heard["music"], 8000, HOLD_MUSIC_HZ)
    assert not is_tone(heard["tone"], 8000, HOLD_MUSIC_HZ)


async def test_given_hostile_headers_then_they_arrive_as_they_were_sent(carrier: Carrier, pbx: OperatorPbx) -> None:
    """Commas, quotes and backslashes are separators to AMI's Variable: the carrier must bring them through unharmed."""
    value = 'a,b "c" \\d;e=f %0A(g'
    call = await carrier.call("lab-ring", caller="+15550123", name="Ann, Endpoint: x", headers={"X-Test": value})
    await call.ringing()
    channel = next(one for one in await pbx.channels() if one["Channel"].startswith(f"PJSIP/{CARRIER_ENDPOINT}"))["Channel"]
    assert await pbx.variable("PJSIP_HEADER(read,X-Test)", channel) == value
    assert await pbx.variable("CALLERID(num)", channel) == "+15550123"
    assert await pbx.variable("CALLERID(name)", channel) == "Ann, Endpoint: x"
    await call.hang_up()


@pytest.mark.alone
async def test_given_several_calls_at_once_then_each_hears_its_own(carrier: Carrier) -> None:
    async def one(seconds: float) -> float:
        call = await carrier.call("lab-echo")
        await call.answered()
        began = await call.say(chirp(8000, seconds))
        await asyncio.sleep(0.2)
        await call.hang_up()
        return round_trip(call.said, call.heard, began, seconds=seconds).likeness

    likenesses = await asyncio.gather(*(one(0.6 + 0.1 * number) for number in range(8)))
    assert min(likenesses) > 0.9


async def test_frames_come_and_go_at_the_pace_of_speech(carrier: Carrier) -> None:
    call = await carrier.call("lab-echo")
    await call.answered()
    await asyncio.sleep(1.0)
    await call.hang_up()
    for recording in (call.said, call.heard):
        times = [frame.at for frame in recording.frames]
        steps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert sum(steps) / len(steps) == pytest.approx(0.020, rel=0.1)


async def test_given_a_softphone_without_an_account_then_it_comes_in_as_anonymous(
    asterisk: Asterisk, pbx: OperatorPbx, tmp_path: Path
) -> None:
    async with Carrier(asterisk, tmp_path, host="127.0.0.3") as phone:
        call = await phone.call("lab-ring", to=pbx.sip_address)
        await call.ringing()
        (channel,) = await pbx.channels()
        assert channel["Channel"].startswith("PJSIP/anonymous")
        await call.hang_up()
    await pbx.quiet()


async def test_given_the_pbx_dies_and_comes_back_then_it_takes_calls_again(asterisk: Asterisk, carrier: Carrier, tmp_path: Path) -> None:
    async with OperatorPbx(asterisk, tmp_path) as mortal:
        call = await carrier.call("lab-echo", to=mortal.sip_address)
        await call.answered()
        await mortal.kill()
        await call.hang_up()
        await mortal.start()
        assert await mortal.channels() == []
        again = await carrier.call("lab-echo", to=mortal.sip_address)
        await again.answered()
        await again.hang_up()
