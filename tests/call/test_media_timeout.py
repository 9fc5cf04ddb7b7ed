"""A caller of whom nothing comes any more: hung up in time, and nobody else (livekit-sip-semantics.md §3.6)."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from bridge.call.options import PinOptions, StoryOptions
from bridge.dispatch.outcome import AskPin
from bridge.media.port import ClipName
from bridge.model.ending import EndedBy, EndReason
from bridge.model.media import MediaConfig
from bridge.model.record import CallRecord, LiveCall
from bridge.pbx.port import Held, Resumed, TransferResult
from bridge.testing.fakes import FakeDispatcher, FakeLeg, FakeNode, FakeWorld, MemoryStore, Sends
from bridge.testing.time_travel import travel
from tests.call.stage import ASK_PIN, CALLER, NO_RULE, NO_TRUNK, PIN, Stage, accept, note_of, open_rule, pin_rule, stage

LATER, INITIAL = 15.0, 30.0
SLACK = 2.0
"""The end may come so much later than the timeout says."""

HARNESS = 0.1
"""A stage looks this often for what it waits for."""


def own(seconds: float) -> MediaConfig:
    return MediaConfig(media_timeout=timedelta(seconds=seconds))


def now() -> float:
    return asyncio.get_running_loop().time()


async def ended_after(on: Stage, timeout: float, since: float) -> CallRecord:
    """The call ends when the timeout says so, and not before."""
    record = await on.until_over()
    assert (record.end_reason, record.ended_by) == (EndReason.MEDIA_TIMEOUT, EndedBy.ROOMLINE)
    assert timeout - HARNESS <= now() - since <= timeout + SLACK
    assert len(on.store.kept) == 1
    return record


async def still_up(on: Stage, leg: FakeLeg, seconds: float = 600.0) -> None:
    """It goes on for that long, and ends when the caller wants it to."""
    await asyncio.sleep(seconds)
    assert on.registry.live == 1
    leg.caller_hangs_up()
    assert (await on.until_over()).end_reason in (EndReason.HANGUP, EndReason.CANCELLED)


def test_given_a_talk_when_the_caller_sends_no_more_then_it_is_hung_up_and_the_participant_leaves() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            await asyncio.sleep(100)
            leg.sends(Sends.NOTHING)
            record = await ended_after(on, LATER, now())
            assert leg.said[-1] == "hang_up media-timeout"
            assert record.detail == "nothing came from the caller any more for 15 s"
            assert on.node.opened[0].seat.left is EndReason.MEDIA_TIMEOUT
            assert on.node.opened[0].seat.statuses[-1] == "hangup"

    travel(story())


def test_given_a_caller_who_never_sends_when_answered_then_the_longer_time_counts_from_the_answer() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            leg.sends(Sends.NOTHING)
            await asyncio.sleep(120)  # ringing: nobody has to send before the answer
            await on.talking(leg)
            record = await ended_after(on, INITIAL, now())
            assert record.detail == "nothing came from the caller at all for 30 s"

    travel(story())


def test_given_a_caller_who_sends_once_and_no_more_then_the_shorter_time_counts_from_there() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            leg.sends(Sends.NOTHING)
            await on.talking(leg)
            await asyncio.sleep(10)
            leg.sends(Sends.VOICE)
            await asyncio.sleep(0.1)
            leg.sends(Sends.NOTHING)
            await ended_after(on, LATER, now())

    travel(story())


@pytest.mark.parametrize("since", ["the prompt", "the entry", "the wait for company"])
def test_given_a_pin_rule_when_the_caller_stops_sending_anywhere_then_the_call_ends(since: str) -> None:
    async def story() -> None:
        node = FakeNode(FakeWorld(), clip_seconds={ClipName.ENTER_PIN: 40.0})
        slowly = StoryOptions(pin=PinOptions(digit_timeout=60.0))
        async with stage(pin_rule(), node=node, options=slowly) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            if since == "the wait for company":
                leg.press(f"{PIN}#")
                await on.until(lambda: node.opened[0].seats)
            elif since == "the entry":
                leg.press(PIN[:2])
            leg.sends(Sends.NOTHING)
            await ended_after(on, LATER, now())

    travel(story())


@pytest.mark.parametrize(("timeout", "counts"), [(4.0, 4.0), (600.0, 600.0), (0.0, LATER)])
def test_given_a_rule_with_a_timeout_of_its_own_then_it_takes_the_later_ones_place(timeout: float, counts: float) -> None:
    async def story() -> None:
        async with stage(open_rule(media=own(timeout))) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            await asyncio.sleep(10)
            leg.sends(Sends.NOTHING)
            await ended_after(on, counts, now())

    travel(story())


def test_given_a_rule_with_a_timeout_of_its_own_then_the_initial_one_stays() -> None:
    async def story() -> None:
        async with stage(open_rule(media=own(4)), options=StoryOptions(media_timeout_initial=20)) as on:
            leg = on.pbx.call(CALLER)
            leg.sends(Sends.NOTHING)
            await on.talking(leg)
            await ended_after(on, 20, now())

    travel(story())


def test_given_a_pin_then_the_timeout_of_the_rule_that_asked_counts() -> None:
    """§7.15."""

    async def story() -> None:
        asks = AskPin(*ASK_PIN[:3], media=own(7))
        rules = FakeDispatcher(NO_TRUNK, asks, {PIN: accept(rule_id="SDR_pin", media=own(100))}, NO_RULE)
        async with stage(rules) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(f"{PIN}#")
            await on.talking(leg)
            await asyncio.sleep(10)
            leg.sends(Sends.NOTHING)
            await ended_after(on, 7, now())
            assert note_of(leg).media_timeout == 7

    travel(story())


def test_given_a_caller_who_is_heard_then_the_pbx_is_never_asked() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            await still_up(on, leg)
            assert leg.asked_for_packets == 0

    travel(story())


def test_given_a_caller_of_whom_only_packets_come_then_the_call_goes_on_until_they_stop() -> None:
    """Silence suppression, comfort noise, a codec the PBX does not know, keys."""

    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.sends(Sends.PACKETS)
            await asyncio.sleep(600)
            assert on.registry.live == 1
            leg.sends(Sends.NOTHING)
            await ended_after(on, LATER, now())

    travel(story())


def test_given_a_caller_who_speaks_now_and_then_then_each_pause_is_a_pause_of_its_own() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            for _ in range(20):
                leg.sends(Sends.NOTHING)
                await asyncio.sleep(LATER - 0.5)
                leg.sends(Sends.VOICE)
                await asyncio.sleep(0.2)
            leg.sends(Sends.NOTHING)
            await ended_after(on, LATER, now())

    travel(story())


def test_given_a_pbx_that_cannot_tell_then_the_call_goes_on_and_it_is_asked_no_more_than_once_in_the_time() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            leg.counts_packets = False
            await on.talking(leg)
            leg.sends(Sends.NOTHING)
            await still_up(on, leg, 600)
            assert leg.asked_for_packets <= 600 / LATER + 1

    travel(story())


def test_given_a_pbx_that_does_not_answer_then_the_call_goes_on_until_it_does() -> None:
    async def story() -> None:
        world = FakeWorld()
        async with stage(node=FakeNode(world)) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)

            async def slow(command: str) -> None:
                if command == "leg.received_packets":
                    leg.lose_control(told=False)

            world.before = slow
            leg.sends(Sends.NOTHING)
            await asyncio.sleep(100)
            assert on.registry.live == 1
            world.before = nothing
            leg.regain_control()
            await ended_after(on, LATER, now())

    async def nothing(_command: str) -> None:
        return

    travel(story())


def test_given_a_pbx_that_is_away_when_it_is_back_then_the_time_counts_anew() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.sends(Sends.NOTHING)
            await asyncio.sleep(5)
            leg.lose_control()
            await asyncio.sleep(20)
            leg.regain_control()
            await ended_after(on, LATER, now())

    travel(story())


def test_given_a_caller_who_holds_then_silence_is_theirs_by_right_until_they_are_back() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.happened(Held())
            leg.sends(Sends.NOTHING)
            await asyncio.sleep(3600)
            assert on.registry.live == 1
            leg.happened(Resumed())
            await ended_after(on, LATER, now())

    travel(story())


def test_given_a_caller_who_is_being_handed_on_then_only_a_refused_transfer_lets_the_time_count_again() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            transfer = asyncio.create_task(on.registry.transfer(the_call(on).call_id, "sip:desk@example.net", timeout=100))
            leg.sends(Sends.NOTHING)
            await asyncio.sleep(60)
            assert on.registry.live == 1
            leg.transfer_outcome.set_result(TransferResult(ok=False, sip_status=603))
            await transfer
            await ended_after(on, LATER, now())

    travel(story())


def the_call(on: Stage) -> LiveCall:
    (call,) = on.registry.calls()
    return call


def test_given_audio_that_is_lost_and_comes_back_then_only_the_caller_counts() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            for _ in range(3):
                leg.lose_media()
                await asyncio.sleep(30)
            await still_up(on, leg)

    travel(story())


def test_given_a_node_that_is_lost_then_the_time_counts_anew_at_the_next() -> None:
    async def story() -> None:
        world = FakeWorld()
        async with stage(node=FakeNode(world, company=True)) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.sends(Sends.NOTHING)
            await asyncio.sleep(10)
            on.node.lost = True
            leg.lose_media()
            other = FakeNode(world, company=True)
            on.nodes.append(other)
            await on.until(lambda: other.opened and other.opened[0].seats)
            await ended_after(on, LATER, now())

    travel(story())


@pytest.mark.parametrize("facts", [{}, {"media": own(6)}])
def test_given_a_talk_when_taken_over_then_the_next_controller_counts_anew_by_the_note(facts: dict[str, Any]) -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(open_rule(**facts), store=store, hand_over=True) as first:
            leg = first.pbx.call(CALLER)
            await first.talking(leg)
        async with stage(FakeDispatcher(NO_TRUNK, NO_RULE), store=store, node=FakeNode(FakeWorld(), company=True)) as second:
            again = second.pbx.call(CALLER, note=leg.notes[-1], answered=True)
            await second.talking(again)
            await asyncio.sleep(5)
            again.sends(Sends.NOTHING)
            await ended_after(second, 6 if facts else LATER, now())

    travel(story())
