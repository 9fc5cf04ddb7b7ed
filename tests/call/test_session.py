"""The steps of the story, told from the outside: what the caller, the room and the record see."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from bridge.call.options import StoryOptions
from bridge.dispatch.outcome import Verdict, VerdictKind
from bridge.dispatch.trace import Trace
from bridge.errors import NodeGone
from bridge.media.port import ClipName
from bridge.model.ending import EndedBy, Ending, EndReason
from bridge.model.media_address import Carriage, Datagrams, Stream
from bridge.model.ticket import DigitsToSend, SeatBack, SeatGone, SeatLost
from bridge.pbx.port import ControlLost, Held, Resumed, TransferResult
from bridge.testing.fakes import FakeDispatcher, FakeNode, FakeWorld, MemoryStore
from bridge.testing.time_travel import EPOCH, travel
from tests.call.stage import ASK_PIN, CALLER, CONFLICT, NO_RULE, NO_TRUNK, PIN, accept, note_of, open_rule, pin_rule, stage


def test_given_an_open_rule_when_company_comes_then_the_call_is_answered_and_talks() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await asyncio.sleep(20)
            assert not leg.answered
            assert on.node.opened[0].seat.statuses == ["ringing"]
            await on.talking(leg)
            await on.until(lambda: on.node.opened[0].seat.statuses == ["ringing", "active"])
            await asyncio.sleep(60)
            leg.caller_hangs_up()
            record = await on.until_over()
            assert leg.said == ["ring", "remember", "remember", "remember", "connect"]
            assert (record.end_reason, record.ended_by, record.sip_status) == (EndReason.HANGUP, EndedBy.CALLER, 200)
            assert record.answered_at is not None
            assert 20 <= record.answered_at - record.started_at < 21
            assert (record.room, record.identity, record.rule_id) == ("lobby", "sip_+15550123", "SDR_open")
            assert record.trace["decision"]["summary"] == "rule SDR_open: lobby"
            assert on.node.opened[0].seat.statuses == ["ringing", "active", "hangup"]
            assert on.node.opened[0].seat.left is EndReason.HANGUP

    travel(story())


def test_given_an_open_rule_when_nobody_comes_then_the_caller_hears_486_after_three_minutes() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            record = await on.until_over()
            assert leg.said[-1] == "reject 486"
            assert record.end_reason is EndReason.RINGING_TIMEOUT
            assert 180 <= record.ended_at - record.started_at < 181
            assert record.answered_at is None

    travel(story())


def test_given_a_trunk_with_its_own_timeout_status_when_nobody_comes_then_that_status_is_sent() -> None:
    async def story() -> None:
        async with stage(open_rule(ringing_timeout=timedelta(seconds=7), ringing_timeout_status=480)) as on:
            leg = on.pbx.call(CALLER)
            record = await on.until_over()
            assert leg.said[-1] == "reject 480"
            assert record.sip_status == 480
            assert 7 <= record.ended_at - EPOCH < 8

    travel(story())


def test_given_a_pin_rule_when_the_pin_is_right_then_the_caller_enters_hears_ringback_and_talks() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            assert leg.answered
            leg.press(f"{PIN}#")
            await on.until(lambda: on.node.opened[0].playing is ClipName.RINGBACK)
            assert on.node.opened[0].seat.statuses == ["active"]
            await on.talking(leg)
            assert on.node.opened[0].played == [(ClipName.ENTER_PIN, False), (ClipName.ROOM_JOIN, True), (ClipName.RINGBACK, False)]
            on.node.opened[0].seat.happened(SeatGone("room_deleted"))
            record = await on.until_over()
            assert leg.said[-1] == "hang_up room-disconnected"
            assert (record.end_reason, record.ended_by) == (EndReason.ROOM_CLOSED, EndedBy.ROOM)
            assert record.pin_tries == 1
            # Digits before the seat are nobody's but ours.
            assert on.node.opened[0].seat.digits == ""
            # The room's own end leaves the status as it was. That it is active is said again: what was said before may not have arrived.
            assert set(on.node.opened[0].seat.statuses) == {"active"}

    travel(story())


def test_given_a_pin_rule_when_the_pin_is_wrong_then_a_tone_ends_the_call() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press("0000#")
            record = await on.until_over()
            assert on.node.opened[0].played[-1] == (ClipName.WRONG_PIN, True)
            assert leg.said[-1] == "hang_up wrong-pin"
            assert (record.end_reason, record.pin_tries, record.room) == (EndReason.WRONG_PIN, 1, "")

    travel(story())


def test_given_an_answered_caller_when_nobody_comes_then_an_announcement_and_the_end() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(f"{PIN}#")
            record = await on.until_over()
            assert on.node.opened[0].played[-1] == (ClipName.NO_COMPANY, True)
            assert leg.said[-1] == "hang_up no-company"
            assert record.end_reason is EndReason.COMPANY_TIMEOUT
            assert 180 <= record.ended_at - EPOCH < 190

    travel(story())


@pytest.mark.parametrize(
    ("dispatcher", "reason", "said"),
    [
        (FakeDispatcher(NO_TRUNK, NO_RULE), EndReason.NO_RULE, "reject 404"),
        (FakeDispatcher(NO_TRUNK, CONFLICT), EndReason.CONFLICT, "reject 503"),
        (
            FakeDispatcher(Verdict(VerdictKind.REFUSED, Trace("no"), status=403, reason="not authenticated"), NO_RULE),
            EndReason.UNAUTHORIZED,
            "reject 403",
        ),
        (
            FakeDispatcher(Verdict(VerdictKind.REFUSED, Trace("no"), status=404, reason="no trunk"), NO_RULE),
            EndReason.NO_TRUNK,
            "reject 404",
        ),
    ],
)
def test_given_no_way_in_then_the_unanswered_caller_gets_exactly_its_status(
    dispatcher: FakeDispatcher, reason: EndReason, said: str
) -> None:
    async def story() -> None:
        async with stage(dispatcher) as on:
            leg = on.pbx.call(CALLER)
            record = await on.until_over()
            assert leg.said[-1] == said
            assert record.end_reason is reason
            assert on.node.opened == []

    travel(story())


def test_given_rules_that_contradict_each_other_after_the_pin_then_an_announcement_and_the_end() -> None:
    async def story() -> None:
        async with stage(FakeDispatcher(NO_TRUNK, ASK_PIN, {}, CONFLICT)) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press("1#")
            record = await on.until_over()
            assert on.node.opened[0].played[-1] == (ClipName.UNAVAILABLE, True)
            assert record.end_reason is EndReason.CONFLICT

    travel(story())


@pytest.mark.parametrize(("falls_back", "said"), [(True, "fall_back"), (False, "reject 503")])
def test_given_no_room_can_be_had_when_unanswered_then_the_fallback_or_503(falls_back: bool, said: str) -> None:
    async def story() -> None:
        async with stage(options=StoryOptions(room_failure_falls_back=falls_back)) as on:
            on.node.rooms_down = True
            leg = on.pbx.call(CALLER)
            record = await on.until_over()
            assert leg.said[-1] == said
            assert not leg.answered
            assert record.end_reason is EndReason.ROOM_FAILED

    travel(story())


def test_given_a_room_that_never_answers_when_answered_then_an_announcement_within_five_seconds() -> None:
    async def story() -> None:
        async def hook(name: str) -> None:
            if name == "sound.take_seat":
                await asyncio.sleep(1000)

        async with stage(pin_rule(), node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(f"{PIN}#")
            record = await on.until_over()
            assert on.node.opened[0].played[-1] == (ClipName.UNAVAILABLE, True)
            assert leg.said[-1] == "hang_up room-failed"
            assert record.ended_at - EPOCH < 10

    travel(story())


def test_given_a_longest_duration_when_it_is_over_then_the_call_ends_wherever_it_is() -> None:
    async def story() -> None:
        async with stage(open_rule(max_call_duration=timedelta(seconds=100))) as on:
            leg = on.pbx.call(CALLER)
            await asyncio.sleep(30)
            await on.talking(leg)
            record = await on.until_over()
            assert record.end_reason is EndReason.MAX_DURATION
            # An open rule's call counts from the ringing on.
            assert 100 <= record.ended_at - EPOCH < 102
            assert on.node.opened[0].seat.statuses[-1] == "hangup"

    travel(story())


def test_given_a_pin_when_it_takes_long_to_enter_then_the_duration_counts_from_the_seat() -> None:
    async def story() -> None:
        async with stage(pin_rule(max_call_duration=timedelta(seconds=100))) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            for digit in PIN:
                leg.press(digit)
                await asyncio.sleep(4)
            leg.press("#")
            record = await on.until_over()
            assert record.end_reason is EndReason.MAX_DURATION
            assert 124 <= record.ended_at - EPOCH < 128

    travel(story())


@pytest.mark.parametrize("carriage", [Stream(), Datagrams("127.0.0.1")])
def test_given_a_talk_when_media_is_lost_then_a_fresh_address_of_its_kind_brings_it_back(carriage: Carriage) -> None:
    async def story() -> None:
        async with stage() as on:
            on.pbx.carriage = carriage
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            for _ in range(3):
                leg.lose_media()
                assert not (await on.node.opened[0].snapshot()).connected
                await asyncio.sleep(1)
                assert (await on.node.opened[0].snapshot()).connected
            assert leg.said.count("connect") == 4
            assert len(on.node.opened[0].seats) == 1
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_talk_when_media_does_not_come_back_within_three_seconds_then_the_fallback() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            on.node.deaf = True
            lost_at = on.clock.now()
            leg.lose_media()
            record = await on.until_over()
            assert leg.said[-1] == "fall_back"
            assert record.end_reason is EndReason.MEDIA_FAILED
            assert record.ended_at - lost_at < 4

    travel(story())


def test_given_media_that_never_comes_when_the_call_is_answered_then_it_ends_as_media_failed_and_no_fault_of_ours() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            on.node.deaf = True
            on.pbx.call(CALLER)
            assert (await on.until_over()).end_reason is EndReason.MEDIA_FAILED

    travel(story())


def test_given_a_half_entered_pin_when_media_is_lost_then_it_is_asked_again() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(PIN[:3])
            await asyncio.sleep(1)
            leg.lose_media()
            await on.until(lambda: on.node.opened[0].playing is ClipName.ENTER_PIN)
            leg.press(f"{PIN}#")
            await on.talking(leg)
            leg.caller_hangs_up()
            assert (await on.until_over()).pin_tries == 1

    travel(story())


def test_given_a_talk_when_control_is_lost_for_an_hour_then_it_talks_on() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.lose_control()
            await asyncio.sleep(3600)
            assert on.registry.live == 1
            leg.regain_control()
            await asyncio.sleep(1)
            leg.press("5")
            await on.until(lambda: on.node.opened[0].seat.digits == "5")
            leg.caller_hangs_up()
            assert (await on.until_over()).end_reason is EndReason.HANGUP

    travel(story())


def test_given_a_talk_when_control_and_media_are_lost_then_the_pbx_is_gone() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.lose_control()
            leg.lose_media()
            record = await on.until_over()
            assert (record.end_reason, record.ended_by) == (EndReason.PBX_GONE, EndedBy.PBX)
            assert record.ended_at - EPOCH < 5

    travel(story())


def test_given_media_lost_while_control_is_away_when_it_is_back_at_once_then_the_call_goes_on() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.lose_media()
            leg.lose_control()
            await asyncio.sleep(0.5)
            leg.regain_control()
            await asyncio.sleep(1)
            assert (await on.node.opened[0].snapshot()).connected
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_pin_being_entered_when_control_comes_back_then_it_is_asked_again() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press("99")
            await asyncio.sleep(1)
            leg.lose_control()
            await asyncio.sleep(2)
            leg.regain_control()
            await on.until(lambda: on.node.opened[0].playing is ClipName.ENTER_PIN)
            leg.press(f"{PIN}#")
            await on.talking(leg)
            leg.caller_hangs_up()
            assert (await on.until_over()).pin_tries == 1

    travel(story())


def test_given_a_pin_being_entered_when_keys_cannot_reach_us_then_it_is_no_fault_of_the_callers() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.lose_control()
            await asyncio.sleep(60)
            leg.regain_control()
            await on.until(lambda: on.node.opened[0].playing is ClipName.ENTER_PIN)
            leg.press(f"{PIN}#")
            await on.talking(leg)
            leg.caller_hangs_up()
            assert (await on.until_over()).pin_tries == 1

    travel(story())


def test_given_word_of_the_same_loss_of_control_twice_then_it_counts_once() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            leg.lose_control()
            leg.happened(ControlLost())
            await asyncio.sleep(5)
            leg.regain_control()
            await on.talking(leg)
            await asyncio.sleep(60)
            leg.caller_hangs_up()
            assert (await on.until_over()).end_reason is EndReason.HANGUP

    travel(story())


def test_given_a_ringing_call_when_control_stays_away_then_it_is_given_up_as_the_lease_has_it() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            leg.lose_control()
            record = await on.until_over()
            assert record.end_reason is EndReason.PBX_GONE
            assert record.ended_at - EPOCH < 15
            leg.regain_control()
            assert (await leg.ended()).fell_back, "the PBX was alive after all: its caller is the operator's"

    travel(story())


def test_given_a_talk_then_its_media_lease_is_the_long_one() -> None:
    async def story() -> None:
        async with stage(options=StoryOptions(orphan_limit=77)) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            assert leg.media_lease == 77
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_talk_when_held_and_resumed_then_it_goes_on() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.happened(Held())
            await asyncio.sleep(100)
            leg.happened(Resumed())
            await asyncio.sleep(1)
            assert on.registry.live == 1
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_talk_then_digits_go_both_ways() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.press("1*#A")
            on.node.opened[0].seat.happened(DigitsToSend("2w9"))
            await asyncio.sleep(1)
            assert on.node.opened[0].seat.digits == "1*#a"
            assert leg.digits_sent == "2w9"
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_storm_of_digits_from_the_room_when_the_room_closes_then_the_call_ends_at_once() -> None:
    async def story() -> None:
        async def hook(name: str) -> None:
            if name == "leg.send_digits":
                await asyncio.sleep(30)

        async with stage(node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            for _ in range(1000):
                on.node.opened[0].seat.happened(DigitsToSend("1"))
            on.node.opened[0].seat.happened(SeatGone("participant_removed"))
            record = await on.until_over()
            assert record.end_reason is EndReason.REMOVED
            assert record.ended_at - EPOCH < 2

    travel(story())


def test_given_a_talk_when_the_room_is_lost_and_back_then_comfort_tells_the_line_is_alive() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            sound = on.node.opened[0]
            sound.seat.happened(SeatLost())
            await on.until(lambda: sound.playing is ClipName.COMFORT)
            sound.seat.happened(SeatBack())
            await on.until(lambda: sound.playing is None)
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_ringback_when_the_room_is_lost_and_back_then_it_rings_on() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(f"{PIN}#")
            sound = on.node.opened[0]
            await on.until(lambda: sound.playing is ClipName.RINGBACK)
            sound.seat.happened(SeatLost())
            await asyncio.sleep(1)
            sound.seat.happened(SeatBack())
            await asyncio.sleep(1)
            assert sound.playing is ClipName.RINGBACK
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("duplicate_identity", EndReason.DUPLICATE_IDENTITY),
        ("participant_removed", EndReason.REMOVED),
        ("room_deleted", EndReason.ROOM_CLOSED),
        ("server_shutdown", EndReason.ROOM_CLOSED),
    ],
)
def test_given_the_room_ends_the_seat_while_ringing_then_486_and_its_reason(word: str, reason: EndReason) -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.until(lambda: on.node.opened and on.node.opened[0].seats)
            on.node.opened[0].seat.happened(SeatGone(word))
            record = await on.until_over()
            assert leg.said[-1] == "reject 486"
            assert (record.end_reason, record.ended_by) == (reason, EndedBy.ROOM)

    travel(story())


def test_given_the_caller_gives_up_while_ringing_then_cancelled_with_487() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            leg.caller_hangs_up()
            record = await on.until_over()
            assert (record.end_reason, record.sip_status) == (EndReason.CANCELLED, 487)
            assert on.node.opened[0].seat.statuses == ["ringing", "hangup"]

    travel(story())


def test_given_the_lease_runs_out_then_the_record_says_so() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            leg.lease_runs_out()
            assert (await on.until_over()).end_reason is EndReason.FELL_BACK

    travel(story())


def test_given_the_caller_hangs_up_in_an_announcement_then_the_end_does_not_wait_for_it() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            on.node.clip_seconds[ClipName.NO_COMPANY] = 12.0
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(f"{PIN}#")
            await on.until(lambda: on.node.opened[0].playing is ClipName.NO_COMPANY)
            leg.caller_hangs_up()
            hung_up_at = on.clock.now()
            record = await on.until_over()
            assert record.end_reason is EndReason.COMPANY_TIMEOUT
            assert record.ended_at - hung_up_at < 1

    travel(story())


def test_given_a_pbx_that_is_away_at_the_end_then_it_is_told_again_when_it_is_back() -> None:
    async def story() -> None:
        async with stage(open_rule(ringing_timeout=timedelta(seconds=5))) as on:
            leg = on.pbx.call(CALLER)
            await asyncio.sleep(4.9)
            leg.lose_control()
            await asyncio.sleep(3)
            leg.regain_control()
            await on.until_over()
            assert leg.said[-1] == "reject 486"

    travel(story())


def test_given_a_dispatcher_with_a_bug_then_the_call_ends_cleanly_and_the_record_says_other() -> None:
    async def story() -> None:
        class Broken(FakeDispatcher):
            def authorise(self, caller: object) -> Verdict:
                raise ZeroDivisionError

        async with stage(Broken(NO_TRUNK, NO_RULE)) as on:
            leg = on.pbx.call(CALLER)
            record = await on.until_over()
            assert leg.said[-1] == "fall_back"
            assert (record.end_reason, record.detail) == (EndReason.ERROR, "ZeroDivisionError")
            # The registry goes on with the next call.
            on.dispatcher = FakeDispatcher(NO_TRUNK, NO_RULE)
            on.store.kept.clear()
            on.pbx.call(CALLER)
            await on.until(lambda: on.store.kept)
            assert on.record.end_reason is EndReason.NO_RULE

    travel(story())


def test_given_a_store_that_is_broken_then_calls_go_on_and_end() -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(pin_rule(), store=store) as on:
            store.broken = True
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(f"{PIN}#")
            await on.talking(leg)
            leg.caller_hangs_up()
            await on.until(lambda: on.registry.live == 0)
            on.check_nothing_left()

    travel(story())


def test_given_a_lost_node_when_another_is_there_then_the_call_goes_on_with_the_same_identity() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            other = FakeNode(on.world)
            on.nodes.append(other)
            on.registry = on.registry
            on.node.lost = True
            leg.lose_media()
            await on.until(lambda: other.opened and other.opened[0].seats and other.opened[0].seat.opened)
            assert other.opened[0].seat.ticket.identity == "sip_+15550123"
            assert other.opened[0].seat.statuses[0] == "active"
            leg.caller_hangs_up()
            assert (await on.until_over()).end_reason is EndReason.HANGUP
            assert other.carried == {}

    travel(story())


def test_given_a_node_that_is_away_for_a_moment_then_the_call_goes_on_there_as_if_nothing_had_been() -> None:
    async def story() -> None:
        away = asyncio.Event()

        async def hook(name: str) -> None:
            if not name.startswith("leg.") and away.is_set():
                if name == "node.sounds":  # RemoteNode makes who looks for calls wait
                    await asyncio.sleep(1.0)
                    away.clear()
                    return
                raise NodeGone("away")

        async with stage(node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            elsewhere = FakeNode(FakeWorld(), room_for=1000)
            on.nodes.append(elsewhere)
            for _ in range(5):
                away.set()
                on.node.opened[0].seat.happened(SeatLost())  # the first that is asked of the node
                await on.until(lambda: not away.is_set())
                await asyncio.sleep(61)
            assert (len(on.node.opened), elsewhere.opened) == (1, [])
            assert not on.node.opened[0].closed
            assert leg.said.count("connect") == 1, "the PBX has heard nothing of it"
            leg.caller_hangs_up()
            assert (await on.until_over()).end_reason is EndReason.HANGUP

    travel(story())


def test_given_a_node_that_is_away_for_too_long_then_the_call_goes_on_elsewhere_and_is_closed_where_it_was() -> None:
    async def story() -> None:
        away = asyncio.Event()

        async def hook(name: str) -> None:
            if not name.startswith("leg.") and away.is_set():
                raise NodeGone("away")

        async with stage(node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            # Its audio is its own; what it asks of the world is never away.
            elsewhere = FakeNode(FakeWorld(invited=on.world.invited), room_for=1000)
            on.nodes.append(elsewhere)
            away.set()
            on.node.opened[0].seat.happened(SeatLost())
            await on.until(lambda: elsewhere.opened and elsewhere.opened[0].seats and elsewhere.opened[0].seat.opened)
            assert on.node.opened[0].closed, "or its seat would be a ghost's when the node is back"
            away.clear()
            leg.caller_hangs_up()
            await on.until_over()
            assert elsewhere.carried == {}

    travel(story())


@pytest.mark.parametrize("seconds", [0.0, 6.0])
def test_given_a_caller_who_presses_nothing_when_their_node_goes_and_the_pbx_does_not_notice_then_they_are_asked_again_elsewhere(
    seconds: float,
) -> None:
    """Of datagrams nobody tells the PBX that their node is gone (FreeSWITCH)."""

    async def story() -> None:
        away = asyncio.Event()

        async def hook(name: str) -> None:
            if not name.startswith("leg.") and away.is_set():
                raise NodeGone("away")

        async with stage(pin_rule(), node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            await on.until(lambda: on.node.opened[0].played == [(ClipName.ENTER_PIN, True)])
            elsewhere = FakeNode(FakeWorld(invited=on.world.invited), room_for=1000)
            away.set()
            on.node.opened[0].vanish()
            gone_at = on.clock.monotonic()
            await asyncio.sleep(seconds)  # that a new node takes to start
            on.nodes.append(elsewhere)
            await on.until(lambda: elsewhere.opened and elsewhere.opened[0].playing is ClipName.ENTER_PIN)
            assert on.clock.monotonic() - gone_at < seconds + 1.0, "and not when their time for the PIN is over"
            away.clear()
            leg.press(f"{PIN}#")
            await on.until(lambda: elsewhere.opened[0].seats)
            leg.caller_hangs_up()
            assert (await on.until_over()).end_reason is EndReason.HANGUP

    travel(story())


def test_given_names_longer_than_a_room_takes_then_the_name_is_cut_and_the_rest_refused() -> None:
    async def story() -> None:
        async with stage(open_rule(name="😀" * 1000)) as on:
            leg = on.pbx.call(replace(CALLER, number="9" * 65536, headers={"X-Long": "y" * 65536}))
            await on.talking(leg)
            assert len(on.node.opened[0].seat.ticket.name.encode()) == 256
            leg.caller_hangs_up()
            await on.until_over()
            on.store.kept.clear()
            on.dispatcher = open_rule(identity="i" * 257)
            leg = on.pbx.call(CALLER)
            assert (await on.until_over()).end_reason is EndReason.ROOM_FAILED

    travel(story())


def test_given_each_step_then_its_note_is_on_the_call_before_it_is_taken() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            assert note_of(leg).state == "pin"
            assert leg.said[leg.said.index("connect") - 1] == "remember"
            leg.press(f"{PIN}#")
            await on.until(lambda: on.node.opened[0].seats)
            note = note_of(leg)
            assert note.state == "waiting"
            assert note.pin_tries == 1
            assert note.ticket == replace(on.node.opened[0].seat.ticket, headers={})
            assert note.company_until is not None
            assert 179 < note.company_until - on.clock.now() <= 180
            await on.talking(leg)
            assert note_of(leg).state == "talking"
            assert note_of(leg).answered_at is not None
            assert not any(PIN in text for text in leg.notes)
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_headers_when_the_trunk_wants_them_then_they_are_attributes() -> None:
    async def story() -> None:
        async with stage(open_rule(include_headers=1)) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            attributes = on.node.opened[0].seat.ticket.attributes
            assert attributes["sip.h.x-ticket"] == "42"
            assert attributes["sip.twilio.callSid"] == "CA1"
            assert attributes["sip.callIDFull"] == "abc@example.net"
            assert attributes["sip.callTag"] == "tag-1"
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_an_accept_for_hash_alone_then_an_open_rule_lets_the_caller_in() -> None:
    async def story() -> None:
        async with stage(pin_rule({"": accept(room_name="foyer")})) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press("#")
            await on.talking(leg)
            assert on.dispatcher.asked == [None, ""]
            leg.caller_hangs_up()
            assert (await on.until_over()).room == "foyer"

    travel(story())


def test_given_a_command_on_the_way_when_control_breaks_then_it_is_said_again_when_control_is_back() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            # The command fails before word of the loss has reached the story.
            leg.lose_control(told=False)
            await asyncio.sleep(0.1)
            leg.happened(ControlLost())
            await asyncio.sleep(1)
            leg.regain_control()
            await on.talking(leg)
            leg.caller_hangs_up()
            assert (await on.until_over()).end_reason is EndReason.HANGUP

    travel(story())


def test_given_a_status_that_ends_no_call_then_the_usual_one_does() -> None:
    async def story() -> None:
        async with stage(open_rule(ringing_timeout=timedelta(seconds=1), ringing_timeout_status=200)) as on:
            leg = on.pbx.call(CALLER)
            await on.until_over()
            assert leg.said[-1] == "reject 486"

    travel(story())


def test_given_a_leg_that_cannot_be_ended_as_wanted_then_it_is_hung_up() -> None:
    async def story() -> None:
        async with stage(open_rule(ringing_timeout=timedelta(seconds=1))) as on:
            leg = on.pbx.call(CALLER)

            async def refuse(_status: int) -> None:
                raise ZeroDivisionError

            leg.reject = refuse  # type: ignore[method-assign, assignment]  # a fault that no adapter should have
            await on.until_over()
            assert leg.said[-1].startswith("hang_up")

    travel(story())


def test_given_a_transfer_when_control_is_away_for_a_while_then_the_call_is_not_given_up() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            (snapshot,) = on.registry.calls()
            asking = asyncio.create_task(on.registry.transfer(snapshot.call_id, "sip:a@example.net"))
            await asyncio.sleep(1)
            leg.lose_control()
            await asyncio.sleep(10)
            leg.regain_control()
            leg.transfer_outcome.set_result(TransferResult(ok=False, sip_status=603))
            assert not (await asking).ok
            await asyncio.sleep(2)
            assert on.registry.live == 1
            leg.caller_hangs_up()
            assert (await on.until_over()).end_reason is EndReason.HANGUP

    travel(story())


@pytest.mark.parametrize("dispatcher", [open_rule, pin_rule])
def test_given_a_call_that_somebody_at_the_pbx_moves_elsewhere_then_it_ends_so_and_is_left_to_them(
    dispatcher: Callable[[], FakeDispatcher],
) -> None:
    async def story() -> None:
        async with stage(dispatcher()) as on:
            leg = on.pbx.call(CALLER)
            if dispatcher is pin_rule:
                await on.asked_for_pin()
            else:
                await on.talking(leg)
            moved_at = on.clock.now()
            leg.move_elsewhere()
            record = await on.until_over()
            assert (record.end_reason, record.ended_by) == (EndReason.TAKEN_AWAY, EndedBy.PBX)
            assert 3 <= record.ended_at - moved_at < 4
            assert leg.said[-1] == "locate", "and nothing is said to the channel"

    travel(story())


def test_given_audio_that_is_lost_without_a_word_when_the_call_is_ours_still_then_it_is_brought_back() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            for connections in (2, 3):
                leg.move_elsewhere(still_ours=True)
                await on.until(lambda count=connections: leg.said.count("connect") == count)  # type: ignore[misc]
                await asyncio.sleep(30)
            assert leg.said.count("locate") == 2
            leg.caller_hangs_up()
            assert (await on.until_over()).end_reason is EndReason.HANGUP

    travel(story())


def test_given_a_transfer_that_is_refused_by_whose_target_the_pbx_loses_the_caller_then_who_asked_and_the_record_know_of_both() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            asking = asyncio.create_task(on.registry.transfer(on.registry.calls()[0].call_id, "sip:desk@example.net"))
            await on.until(lambda: "transfer sip:desk@example.net" in leg.said)
            leg.transfer_outcome.set_result(TransferResult(ok=False, sip_status=486))
            leg.end(Ending(EndedBy.PBX, "hung up with it", transfer_refused=True))
            assert (await asking).sip_status == 486
            record = await on.until_over()
            assert (record.end_reason, record.ended_by, record.detail) == (EndReason.TRANSFER_REFUSED, EndedBy.PBX, "hung up with it")

    travel(story())


def test_given_audio_that_is_gone_for_a_known_reason_then_the_pbx_is_not_asked() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.lose_media()
            await asyncio.sleep(10)
            transfer = asyncio.create_task(on.registry.transfer(on.registry.calls()[0].call_id, "sip:desk@example.net"))
            await asyncio.sleep(20)
            leg.transfer_outcome.set_result(TransferResult(ok=False, sip_status=603))
            await transfer
            await asyncio.sleep(10)
            assert "locate" not in leg.said
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_caller_whom_the_dialplan_had_answered_when_refused_then_an_announcement_tells_so_before_the_end() -> None:
    async def story() -> None:
        async with stage(FakeDispatcher(NO_TRUNK, NO_RULE)) as on:
            leg = on.pbx.call(replace(CALLER, wideband=True), answered=True)
            record = await on.until_over()
            (sound,) = on.node.opened
            assert (sound.played, sound.rate) == ([(ClipName.UNAVAILABLE, True)], 16_000)
            assert leg.said[-2:] == ["connect", "hang_up no-rule"]
            assert (record.end_reason, record.sip_status) == (EndReason.NO_RULE, 200)

    travel(story())


@pytest.mark.parametrize("trouble", ["full", "deaf", "hung up"])
def test_given_such_a_caller_when_no_sound_can_be_had_or_they_hang_up_then_the_call_ends_all_the_same(trouble: str) -> None:
    async def story() -> None:
        node = FakeNode(FakeWorld(), room_for=0 if trouble == "full" else 1, deaf=trouble == "deaf")
        async with stage(FakeDispatcher(NO_TRUNK, NO_RULE), node=node) as on:
            leg = on.pbx.call(CALLER, answered=True)
            if trouble == "hung up":
                await on.until(lambda: on.node.opened and on.node.opened[0].playing)
                leg.caller_hangs_up()
            record = await on.until_over()
            assert record.end_reason is EndReason.NO_RULE
            assert record.ended_at - record.started_at < 5
            assert ("hang_up no-rule" in leg.said) == (trouble != "hung up")

    travel(story())
