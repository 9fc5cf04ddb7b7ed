"""Rooms that cannot be had, are lost and come back, or ask for the end of a call."""

import asyncio

import pytest

from bridge.call.options import StoryOptions
from bridge.errors import NodeGone, Unavailable
from bridge.media.port import ClipName
from bridge.model.ending import EndedBy, EndReason
from bridge.model.ticket import EndAsked, SeatBack, SeatGone, SeatLost
from bridge.testing.fakes import FakeNode, FakeWorld
from bridge.testing.time_travel import EPOCH, travel
from tests.call.stage import CALLER, PIN, pin_rule, stage


@pytest.mark.parametrize(("falls_back", "said"), [(True, "fall_back"), (False, "reject 503")])
def test_given_a_pin_rule_when_no_room_can_be_had_then_nobody_is_asked(falls_back: bool, said: str) -> None:
    async def story() -> None:
        async with stage(pin_rule(), options=StoryOptions(room_failure_falls_back=falls_back)) as on:
            on.node.rooms_down = True
            leg = on.pbx.call(CALLER)
            record = await on.until_over()
            assert leg.said[-1] == said
            assert not leg.answered
            assert record.end_reason is EndReason.ROOM_FAILED
            assert "there are no rooms" in record.detail
            assert record.trace["room"]["summary"] == record.detail
            assert on.node.opened == []

    travel(story())


def test_given_a_pin_rule_when_the_probe_never_answers_then_the_fallback_within_five_seconds() -> None:
    async def story() -> None:
        async def hook(name: str) -> None:
            if name == "node.probe":
                await asyncio.sleep(1000)

        async with stage(pin_rule(), node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            record = await on.until_over()
            assert leg.said[-1] == "fall_back"
            assert record.ended_at - EPOCH < 5

    travel(story())


def test_given_a_node_that_is_back_in_a_moment_when_it_is_probed_then_the_pin_is_asked_for() -> None:
    async def story() -> None:
        tries: list[str] = []

        async def hook(name: str) -> None:
            if name == "node.probe":
                tries.append(name)
                if len(tries) < 3:
                    raise NodeGone("away")

        async with stage(pin_rule(), node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


@pytest.mark.parametrize("reason", ["join_failed", "connection_lost"])
def test_given_a_ringing_caller_when_the_promised_seat_fails_then_the_fallback_with_the_reason(reason: str) -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.until(lambda: on.node.opened and on.node.opened[0].seats)
            on.node.opened[0].seat.happened(SeatGone(reason, "LiveKit says no"))
            record = await on.until_over()
            assert leg.said[-1] == "fall_back"
            assert (record.end_reason, record.ended_by, record.detail) == (EndReason.ROOM_FAILED, EndedBy.ROOM, "LiveKit says no")
            assert record.trace["room"] == {"summary": "LiveKit says no", "candidates": []}
            assert record.trace["decision"]["summary"]

    travel(story())


def test_given_an_answered_caller_when_the_promised_seat_fails_then_an_announcement_and_the_end() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            on.node.opened[0].seat.happened(SeatGone("join_failed", "the room is full"))
            record = await on.until_over()
            assert on.node.opened[0].played[-1] == (ClipName.UNAVAILABLE, True)
            assert leg.said[-1] == "hang_up room-failed"
            assert record.detail == "the room is full"

    travel(story())


def test_given_a_seat_without_word_of_its_end_when_company_cannot_be_waited_for_then_the_room_has_failed() -> None:
    async def story() -> None:
        async def hook(name: str) -> None:
            if name == "seat.company":
                raise Unavailable("the seat is gone")

        async with stage(node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            record = await on.until_over()
            assert leg.said[-1] == "fall_back"
            assert record.end_reason is EndReason.ROOM_FAILED

    travel(story())


def test_given_a_ringing_caller_when_the_room_is_lost_then_the_fallback_within_five_seconds() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.until(lambda: on.node.opened and on.node.opened[0].seats)
            lost_at = on.clock.now()
            on.node.opened[0].seat.happened(SeatLost())
            record = await on.until_over()
            assert leg.said[-1] == "fall_back"
            assert record.ended_at - lost_at < 5

    travel(story())


def test_given_a_caller_who_waits_after_the_pin_when_the_room_is_lost_then_an_announcement() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(f"{PIN}#")
            await on.until(lambda: on.node.opened[0].playing is ClipName.RINGBACK)
            on.node.opened[0].seat.happened(SeatLost())
            record = await on.until_over()
            assert on.node.opened[0].played[-1] == (ClipName.UNAVAILABLE, True)
            assert record.end_reason is EndReason.ROOM_FAILED

    travel(story())


def test_given_a_ringing_caller_when_the_room_is_back_in_time_then_the_call_goes_on() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.until(lambda: on.node.opened and on.node.opened[0].seats)
            seat = on.node.opened[0].seat
            for _ in range(2):
                seat.happened(SeatLost())
                await asyncio.sleep(3)
                seat.happened(SeatBack())
                await asyncio.sleep(3)
            await on.talking(leg)
            leg.caller_hangs_up()
            record = await on.until_over()
            assert record.end_reason is EndReason.HANGUP
            assert "room" not in record.trace

    travel(story())


def test_given_a_caller_who_is_answered_while_the_room_is_lost_then_the_loss_ends_nothing() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.until(lambda: on.node.opened and on.node.opened[0].seats)
            on.node.opened[0].seat.happened(SeatLost())
            await asyncio.sleep(1)
            await on.talking(leg)
            await asyncio.sleep(10)
            assert on.registry.live == 1
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


@pytest.mark.parametrize(("talks", "said"), [(True, "hang_up rpc"), (False, "reject 486")])
def test_given_a_call_when_somebody_in_the_room_asks_for_its_end_then_it_ends(talks: bool, said: str) -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.until(lambda: on.node.opened and on.node.opened[0].seats)
            seat = on.node.opened[0].seat
            if talks:
                await on.talking(leg)
            seat.happened(EndAsked("agent-1"))
            record = await on.until_over()
            assert leg.said[-1] == said
            assert (record.end_reason, record.ended_by, record.detail) == (EndReason.REQUESTED, EndedBy.ROOM, "agent-1 asked for it")
            # §3.6: after the RPC the others see that the call has hung up.
            assert seat.statuses[-1] == "hangup"

    travel(story())


def test_given_an_answered_caller_when_company_cannot_be_waited_for_then_an_announcement_and_the_end() -> None:
    async def story() -> None:
        async def hook(name: str) -> None:
            if name == "seat.company":
                raise Unavailable("the seat is gone")

        async with stage(pin_rule(), node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(f"{PIN}#")
            record = await on.until_over()
            assert on.node.opened[0].played[-1] == (ClipName.UNAVAILABLE, True)
            assert leg.said[-1] == "hang_up room-failed"
            assert record.end_reason is EndReason.ROOM_FAILED

    travel(story())


def test_given_a_room_that_is_lost_and_back_in_one_breath_then_the_caller_hears_it() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            on.node.opened[0].seat.happened(SeatLost())
            on.node.opened[0].seat.happened(SeatBack())
            await asyncio.sleep(1)
            assert on.node.opened[0].playing is None
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_node_that_has_just_begun_to_leave_then_the_call_goes_to_another() -> None:
    """It says so a moment later."""

    async def story() -> None:
        refusals = 2

        async def hook(name: str) -> None:
            nonlocal refusals
            if name == "node.open" and refusals:
                refusals -= 1
                raise Unavailable("the media node stops")

        async with stage(node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_caller_who_hears_ringback_when_the_server_is_restarted_then_nothing_stops_it() -> None:
    async def story() -> None:
        said: list[str] = []

        async def hook(name: str) -> None:
            said.append(name)

        async with stage(pin_rule(), node=FakeNode(FakeWorld(hook)), hand_over=True) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.press(f"{PIN}#")
            await on.until(lambda: on.node.opened[0].playing is ClipName.RINGBACK)
            said.clear()
        assert "sound.stop" not in said

    travel(story())
