"""Asking for the PIN: what is heard, what counts, how many attempts, and who may not guess any more."""

import asyncio

import pytest

from bridge.call.options import PinOptions, StoryOptions
from bridge.call.throttle import Guess
from bridge.media.port import ClipName
from bridge.model.caller import Caller
from bridge.model.ending import EndReason
from bridge.testing.fakes import MemoryStore
from bridge.testing.time_travel import EPOCH, travel
from tests.call.stage import CALLER, PIN, Stage, pin_rule, stage

THREE_ATTEMPTS = StoryOptions(pin=PinOptions(attempts=3))


def heard(on: Stage) -> list[tuple[str, bool]]:
    return [(name.value, to_end) for name, to_end in on.node.opened[-1].played]


def test_given_a_prompt_when_a_digit_is_pressed_then_it_stops_and_the_digit_counts() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            on.node.clip_seconds[ClipName.ENTER_PIN] = 3.0
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(PIN[0])
            await asyncio.sleep(0.5)
            assert heard(on) == [("enter_pin", False)]
            assert on.node.opened[0].playing is None
            leg.press(f"{PIN[1:]}#")
            await on.talking(leg)

    travel(story())


@pytest.mark.parametrize(
    ("keys", "reason", "seconds"),
    [
        ("", EndReason.PIN_TIMEOUT, 3 + 10),
        ("12", EndReason.PIN_TIMEOUT, 5),
        ("1" * 17, EndReason.WRONG_PIN, 0),
        ("1" * 300, EndReason.WRONG_PIN, 0),
        ("#", EndReason.WRONG_PIN, 0),
        ("99#", EndReason.WRONG_PIN, 0),
    ],
)
def test_given_no_right_pin_then_the_tone_to_its_end_and_the_end(keys: str, reason: EndReason, seconds: float) -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            on.node.clip_seconds |= {ClipName.ENTER_PIN: 3.0, ClipName.WRONG_PIN: 2.0}
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(keys)
            record = await on.until_over()
            assert heard(on)[-1] == ("wrong_pin", True)
            assert leg.said[-1] == f"hang_up {reason.value}"
            assert record.end_reason is reason
            assert seconds + 2 <= record.ended_at - EPOCH < seconds + 2.5

    travel(story())


def test_given_several_attempts_when_the_last_is_right_then_the_caller_enters() -> None:
    async def story() -> None:
        async with stage(pin_rule(), THREE_ATTEMPTS) as on:
            leg = on.pbx.call(CALLER)
            for keys in ("1#", "2#"):
                await on.until(lambda: on.node.opened and on.node.opened[0].playing is ClipName.ENTER_PIN)
                leg.press(keys)
                await on.until(lambda: on.node.opened[0].playing is ClipName.WRONG_PIN)
            await on.until(lambda: on.node.opened[0].playing is ClipName.ENTER_PIN)
            leg.press(f"{PIN}#")
            await on.talking(leg)
            leg.caller_hangs_up()
            assert (await on.until_over()).pin_tries == 3

    travel(story())


def test_given_several_attempts_when_all_are_wrong_then_the_call_ends_after_the_last() -> None:
    async def story() -> None:
        async with stage(pin_rule(), THREE_ATTEMPTS) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press("1#2#3#4#5#")
            record = await on.until_over()
            assert record.pin_tries == 3
            assert [name for name, _ in heard(on)].count("wrong_pin") == 3

    travel(story())


def test_given_the_caller_hangs_up_in_the_prompt_or_the_tone_then_that_is_the_end() -> None:
    async def story(at: ClipName) -> None:
        async with stage(pin_rule()) as on:
            on.node.clip_seconds |= {ClipName.ENTER_PIN: 3.0, ClipName.WRONG_PIN: 2.0}
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            if at is ClipName.WRONG_PIN:
                leg.press("0#")
            await on.until(lambda: on.node.opened[0].playing is at)
            leg.caller_hangs_up()
            record = await on.until_over()
            assert record.end_reason is EndReason.HANGUP
            assert record.ended_at - EPOCH < 2

    travel(story(ClipName.ENTER_PIN))
    travel(story(ClipName.WRONG_PIN))


async def _guess(on: Stage, number: int) -> str:
    """One guessing call from a number and an address of its own; what became of it."""
    address = f"198.51.{number // 250}.{number % 250}"
    leg = on.pbx.call(Caller(f"+1555{number:07}", CALLER.called, source_address=address))
    await on.until(lambda: leg.said)
    await on.until(lambda: leg.ending.done() or leg.answered)
    if leg.answered:
        leg.press(f"{number:04}#")
    await leg.ended()
    await on.until(lambda: on.registry.live == 0)
    return leg.said[-1]


def test_given_a_thousand_guessing_calls_from_everywhere_with_a_restart_in_between_then_a_few_dozen_pins_are_tried() -> None:
    async def story() -> None:
        store, judged, ends = MemoryStore(), 0, list[str]()
        for half in range(2):
            async with stage(pin_rule(), store=store) as on:
                for number in range(half * 500, half * 500 + 500):
                    ends.append(await _guess(on, number))
                judged += len([pin for pin in on.dispatcher.asked if pin])
        hours = (on.clock.now() - EPOCH) / 3600
        # 20 at once, then one each 5 minutes, for a rule; one restart gives none back.
        assert 20 <= judged <= 20 + 12 * hours + 1
        assert judged < 60
        assert ends.count("hang_up wrong-pin") == judged
        # Whoever may not guess is told so before the answer.
        assert ends.count("reject 480") == 1000 - judged
        assert len(store.kept) == 1000

    travel(story())


def test_given_a_carriers_address_that_many_share_when_some_mistype_then_the_others_still_get_in() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            for keys in ("1#", "2#", "3#", f"{PIN}#", "4#", f"{PIN}#"):
                leg = on.pbx.call(CALLER)
                await on.until(lambda: on.registry.live == 1)
                await on.until(lambda: [sound for sound in on.node.carried.values() if sound.playing is ClipName.ENTER_PIN])
                leg.press(keys)
                await asyncio.sleep(20)
                assert (leg.ending.done(), keys) == (not keys.startswith(PIN), keys)
                leg.caller_hangs_up()
                await on.until(lambda: on.registry.live == 0)

    travel(story())


def test_given_right_pins_only_then_they_are_never_throttled() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            for _ in range(100):
                leg = on.pbx.call(CALLER)
                await on.until(lambda: on.registry.live == 1)
                leg.press(f"{PIN}#")
                await on.until(lambda: on.registry.calls()[0].room)
                leg.caller_hangs_up()
                await on.until(lambda: on.registry.live == 0)

    travel(story())


def test_given_a_caller_throttled_in_the_middle_then_the_tone_and_the_end_whatever_attempts_are_left() -> None:
    async def story() -> None:
        async with stage(pin_rule(), THREE_ATTEMPTS) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            while await on.throttle.charge(Guess(CALLER.source_address, CALLER.called, "SDR_pin")):
                pass
            leg.press(f"{PIN}#")
            record = await on.until_over()
            assert record.end_reason is EndReason.PIN_THROTTLED
            assert heard(on)[-1] == ("wrong_pin", True)

    travel(story())
