"""Which calls are live, capacity, orders from outside, and the ends of a controller."""

import asyncio

import pytest

from bridge.call.options import RegistryOptions, StoryOptions
from bridge.call.registry import NoSuchCall, Registry, new_call_id
from bridge.errors import NodeGone
from bridge.media.port import Node
from bridge.model.ending import EndedBy, EndReason
from bridge.model.ticket import SeatLost
from bridge.pbx.port import TransferFailure, TransferResult
from bridge.testing.fakes import FakeNode, FakeWorld, MemoryStore
from bridge.testing.time_travel import EPOCH, LoopClock, travel
from tests.call.stage import CALLER, Stage, pin_rule, stage


@pytest.mark.parametrize(("falls_back", "said"), [(False, "reject 503"), (True, "fall_back")])
def test_given_as_many_calls_as_allowed_then_the_next_gets_503_or_the_fallback_and_never_rings(falls_back: bool, said: str) -> None:
    async def story() -> None:
        async with stage(options=StoryOptions(over_capacity_falls_back=falls_back), call_limit=3) as on:
            legs = [on.pbx.call(CALLER) for _ in range(3)]
            await asyncio.sleep(1)
            over = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            assert over.said == [said]
            assert on.record.end_reason is EndReason.NO_CAPACITY
            assert on.registry.live == 3
            legs[0].caller_hangs_up()
            await asyncio.sleep(1)
            following = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            assert following.said[0] == "ring"

    travel(story())


def test_given_calls_taken_over_then_the_limit_does_not_turn_them_away() -> None:
    async def story() -> None:
        async with stage(hand_over=True) as first:
            legs = [first.pbx.call(CALLER) for _ in range(5)]
            await asyncio.sleep(1)
        async with stage(call_limit=2) as second:
            for leg in legs:
                second.pbx.call(CALLER, note=leg.notes[-1])
            await asyncio.sleep(1)
            assert second.registry.live == 5

    travel(story())


def test_given_live_calls_then_snapshots_show_them_and_unknown_ids_are_an_answer() -> None:
    async def story() -> None:
        async with stage(pin_rule()) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            (picture,) = on.registry.calls()
            assert (picture.state, picture.answered, picture.leg_id, picture.room) == ("pin", True, leg.id, "")
            assert picture.trace["decision"]["summary"] == "rule SDR_pin wants a PIN"
            assert on.registry.call(picture.call_id) == picture
            assert (picture.number, picture.called, picture.source_address) == (CALLER.number, CALLER.called, CALLER.source_address)
            with pytest.raises(NoSuchCall):
                on.registry.call("SCL_unknown")
            with pytest.raises(NoSuchCall):
                on.registry.hang_up("SCL_unknown")

    travel(story())


@pytest.mark.parametrize(("talking", "said"), [(True, "hang_up rpc"), (False, "reject 486")])
def test_given_a_call_when_somebody_asks_then_it_ends(talking: bool, said: str) -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            if talking:
                await on.talking(leg)
            on.registry.hang_up(on.registry.calls()[0].call_id)
            record = await on.until_over()
            assert leg.said[-1] == said
            assert (record.end_reason, record.ended_by) == (EndReason.REQUESTED, EndedBy.ROOMLINE)

    travel(story())


async def _transferring(on: Stage) -> "tuple[asyncio.Task[TransferResult], str]":
    call_id = on.registry.calls()[0].call_id
    task = asyncio.create_task(on.registry.transfer(call_id, "sip:desk@example.net"))
    await asyncio.sleep(1)
    return task, call_id


def test_given_a_transfer_when_it_is_taken_then_the_call_is_over_here() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            result, _ = await _transferring(on)
            assert on.node.opened[0].seat.left is None
            assert leg.said.count("connect") == 1
            leg.transfer_outcome.set_result(TransferResult(ok=True, sip_status=200))
            assert (await result).ok
            assert (await on.until_over()).end_reason is EndReason.TRANSFERRED

    travel(story())


def test_given_a_transfer_when_it_is_refused_then_the_caller_is_back_at_the_same_seat() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            result, _ = await _transferring(on)
            leg.transfer_outcome.set_result(TransferResult(ok=False, sip_status=486))
            assert await result == TransferResult(ok=False, sip_status=486)
            await asyncio.sleep(1)
            assert leg.said.count("connect") == 2
            assert len(on.node.opened[0].seats) == 1
            assert (await on.node.opened[0].snapshot()).connected
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_transfer_under_way_then_another_one_is_refused_and_a_hang_up_does_not_wait() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            result, call_id = await _transferring(on)
            assert (await on.registry.transfer(call_id, "sip:other@example.net")).failure is TransferFailure.ELSEWHERE
            on.registry.hang_up(call_id)
            assert (await on.until_over()).end_reason is EndReason.REQUESTED
            assert (await result).failure is TransferFailure.CALL_ENDED
            assert on.clock.now() - EPOCH < 5

    travel(story())


@pytest.mark.parametrize("outcome", [TransferResult(ok=True, sip_status=200), TransferResult(ok=False, sip_status=486)])
def test_given_a_transfer_under_way_when_asked_for_again_then_both_get_its_result_and_the_pbx_was_asked_once(
    outcome: TransferResult,
) -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            first, call_id = await _transferring(on)
            gone, second = [asyncio.create_task(on.registry.transfer(call_id, "sip:desk@example.net")) for _ in range(2)]
            await asyncio.sleep(1)
            gone.cancel()
            leg.transfer_outcome.set_result(outcome)
            assert [await first, await second] == [outcome, outcome]
            assert leg.said.count("transfer sip:desk@example.net") == 1
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_transfer_that_nobody_takes_in_time_then_the_caller_is_back_and_may_be_handed_on_again() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            (call,) = on.registry.calls()
            began = on.clock.now()
            result = await on.registry.transfer(call.call_id, "sip:desk@example.net", timeout=7)
            assert (result.ok, result.failure, on.clock.now() - began) == (False, TransferFailure.TIMED_OUT, 7)
            await on.until(lambda: leg.said.count("connect") == 2)
            await asyncio.sleep(1)
            assert (await on.node.opened[0].snapshot()).opened
            leg.transfer_outcome.set_result(TransferResult(ok=True, sip_status=200))
            assert (await on.registry.transfer(call.call_id, "sip:desk@example.net", dial_tone=True)).ok
            assert leg.said[-1] == "transfer sip:desk@example.net with a tone"
            assert (await on.until_over()).end_reason is EndReason.TRANSFERRED

    travel(story())


def test_given_an_asker_who_is_gone_then_the_transfer_goes_on_for_the_caller() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            asking, _ = await _transferring(on)
            asking.cancel()
            await asyncio.sleep(1)
            leg.transfer_outcome.set_result(TransferResult(ok=True, sip_status=200))
            assert (await on.until_over()).end_reason is EndReason.TRANSFERRED

    travel(story())


@pytest.mark.parametrize("taken", [True, False])
def test_given_a_transfer_when_the_calls_node_dies_then_the_caller_is_called_back_only_if_nobody_takes_them(taken: bool) -> None:
    async def story() -> None:
        away = asyncio.Event()

        async def hook(name: str) -> None:
            if not name.startswith("leg.") and away.is_set():
                raise NodeGone("away")

        async with stage(node=FakeNode(FakeWorld(hook))) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            elsewhere = FakeNode(FakeWorld(invited=on.world.invited), room_for=1000)
            on.nodes.append(elsewhere)
            result, _ = await _transferring(on)
            away.set()
            on.node.opened[0].seat.happened(SeatLost())
            await on.until(lambda: elsewhere.opened and elsewhere.opened[0].seats and elsewhere.opened[0].seat.opened)
            await asyncio.sleep(10)
            assert leg.said.count("connect") == 1, "nobody has called the caller back"
            leg.transfer_outcome.set_result(TransferResult(ok=taken, sip_status=200 if taken else 486))
            assert (await result).ok is taken
            if not taken:
                await on.until(lambda: leg.said.count("connect") == 2)
                await asyncio.sleep(1)
                assert (await elsewhere.opened[0].snapshot()).connected
                leg.caller_hangs_up()
            assert (await on.until_over()).end_reason is (EndReason.TRANSFERRED if taken else EndReason.HANGUP)
            assert elsewhere.carried == {}

    travel(story())


def test_given_an_asker_who_is_gone_before_the_call_can_look_then_nobody_is_handed_on() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            asker = asyncio.create_task(on.registry.transfer(on.registry.calls()[0].call_id, "sip:desk@example.net"))
            await asyncio.sleep(0)  # the order is left
            asker.cancel()
            await asyncio.sleep(5)
            assert not [said for said in leg.said if said.startswith("transfer")]
            leg.caller_hangs_up()
            await on.until_over()

    travel(story())


def test_given_a_transfer_that_is_taken_then_the_phone_gets_a_second_to_hang_up_by_itself() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            result, _ = await _transferring(on)
            leg.transfer_outcome.set_result(TransferResult(ok=True, sip_status=200))
            assert (await result).ok
            await asyncio.sleep(0.9)
            assert "hang_up transferred" not in leg.said
            assert (await on.until_over()).end_reason is EndReason.TRANSFERRED
            assert leg.said[-1] == "hang_up transferred"

    travel(story())


def test_given_a_call_that_does_not_talk_yet_then_it_cannot_be_transferred() -> None:
    async def story() -> None:
        async with stage() as on:
            on.pbx.call(CALLER)
            await asyncio.sleep(1)
            result, _ = await _transferring(on)
            assert (await result).failure is TransferFailure.NOT_TALKING

    travel(story())


def test_given_a_drain_then_new_calls_get_503_and_running_ones_go_on_up_to_the_limit() -> None:
    async def story() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            draining = asyncio.create_task(on.registry.drain(60))
            await asyncio.sleep(1)
            late = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            assert late.said == ["reject 503"]
            assert on.registry.live == 1
            on.store.kept.clear()
            await draining
            assert 60 <= on.clock.now() - EPOCH < 65
            assert on.record.end_reason is EndReason.SHUTDOWN
            assert leg.said[-1] == "hang_up shutdown"

    travel(story())


def test_given_a_hand_over_then_calls_stay_up_and_new_ones_are_left_to_the_next_controller() -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(store=store, hand_over=True) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            ringing = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            await on.registry.stop(hand_over=True)
            late = on.pbx.call(CALLER)
            unstarted = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            assert late.said == unstarted.said == []
            assert on.registry.live == 0
        on.check_nothing_left()
        assert not leg.ending.done()
        assert not ringing.ending.done()
        assert store.kept == {}

    travel(story())


def test_given_a_story_stopped_before_its_first_step_then_nothing_of_it_is_left() -> None:
    async def story() -> None:
        async with stage(hand_over=True) as on:
            on.pbx.call(CALLER)
            while on.registry.live == 0:  # noqa: ASYNC110  (the very moment it is entered)
                await asyncio.sleep(0)
            await on.registry.stop(hand_over=True)
            assert on.registry.live == 0

    travel(story())


def test_given_two_legs_with_one_call_id_then_the_second_is_left_to_its_pbx() -> None:
    async def story() -> None:
        async with stage(hand_over=True) as on:
            leg = on.pbx.call(CALLER)
            await asyncio.sleep(1)
            twin = on.pbx.call(CALLER, note=leg.notes[-1])
            await asyncio.sleep(1)
            assert twin.said == []
            assert on.registry.live == 1

    travel(story())


def test_given_several_nodes_then_the_one_with_most_room_gets_the_call() -> None:
    async def story() -> None:
        async with stage() as on:
            roomy = FakeNode(on.world, room_for=500)
            nodes: list[Node] = [FakeNode(on.world, room_for=0), roomy]
            on.nodes.extend(node for node in nodes if isinstance(node, FakeNode))
            on.pbx.call(CALLER)
            await asyncio.sleep(1)
            assert len(roomy.opened) == 1

    travel(story())


@pytest.mark.parametrize(
    ("room_for", "worn", "chosen"),
    [((5, 1), (True, False), 1), ((5, 0), (True, False), 0), ((5, 3), (True, True), 1), ((5, 3), (False, False), 0)],
)
def test_given_worn_nodes_then_fresh_ones_get_the_calls_and_one_of_the_worn_gets_empty(
    room_for: tuple[int, int], worn: tuple[bool, bool], chosen: int
) -> None:
    async def story() -> None:
        world = FakeWorld()
        nodes = [FakeNode(world, room_for=room, worn=old) for room, old in zip(room_for, worn, strict=True)]
        assert Registry(RegistryOptions(), nodes, LoopClock()).choose_node() is nodes[chosen]

    travel(story())


def test_given_full_nodes_then_the_caller_gets_the_fallback() -> None:
    async def story() -> None:
        async with stage() as on:
            on.node.room_for = 0
            leg = on.pbx.call(CALLER)
            record = await on.until_over()
            assert leg.said[-1] == "fall_back"
            assert record.end_reason is EndReason.NO_CAPACITY

    travel(story())


def test_given_call_ids_then_they_look_like_livekits() -> None:
    ids = {new_call_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(call_id) == 16 and call_id.startswith("SCL_") for call_id in ids)
