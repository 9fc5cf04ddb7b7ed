"""A controller that starts anew goes on with the calls of the one before, by their notes."""

import asyncio

import pytest

from bridge.media.port import ClipName
from bridge.model.ending import EndReason
from bridge.model.note import CallNote, CallState
from bridge.testing.fakes import FakeDispatcher, FakeLeg, FakeNode, FakeWorld, MemoryStore
from bridge.testing.time_travel import EPOCH, travel
from tests.call.stage import CALLER, NO_RULE, NO_TRUNK, PIN, note_of, open_rule, pin_rule, stage


class NeverAsked(FakeDispatcher):
    """The rules of the second controller: they have changed, and would turn everybody away."""


def changed_rules() -> FakeDispatcher:
    return NeverAsked(NO_TRUNK, NO_RULE)


def test_given_a_waiting_unanswered_call_when_taken_over_then_it_rings_on_until_the_first_deadline() -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(store=store, hand_over=True) as first:
            leg = first.pbx.call(CALLER)
            await asyncio.sleep(100)
        first.check_nothing_left()
        assert store.kept == {}
        assert not leg.ending.done()

        async with stage(changed_rules(), store=store) as second:
            again = second.pbx.call(CALLER, note=leg.notes[-1], leg_id=leg.id)
            record = await second.until_over()
            assert again.said[0] == "ring"
            assert again.said[-1] == "reject 486"
            assert record.taken_over
            assert record.call_id == note_of(leg).call_id
            # Counted from the first controller's ringing.
            assert 180 <= record.ended_at - EPOCH < 182
            assert second.dispatcher.asked == []
            assert second.node.opened[0].seats[0].ticket.identity == first.node.opened[0].seats[0].ticket.identity

    travel(story())


def test_given_a_talking_call_when_taken_over_then_it_talks_again_with_the_same_identity_and_connects_once() -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(store=store, hand_over=True) as first:
            leg = first.pbx.call(CALLER)
            await first.talking(leg)
        async with stage(changed_rules(), store=store) as second:
            again = second.pbx.call(CALLER, note=leg.notes[-1], answered=True)
            await second.until(lambda: second.node.opened and second.node.opened[0].seats and second.node.opened[0].seat.opened)
            await asyncio.sleep(10)
            assert again.said.count("connect") == 1
            assert "ring" not in again.said
            assert second.node.opened[0].seat.ticket.identity == "sip_+15550123"
            assert second.node.opened[0].seat.statuses[0] == "active"
            again.caller_hangs_up()
            record = await second.until_over()
            assert (record.answered_at, record.started_at) == (note_of(leg).answered_at, note_of(leg).started_at)

    travel(story())


def test_given_a_node_that_still_carries_the_sound_when_taken_over_then_the_caller_is_not_moved() -> None:
    async def story() -> None:
        node, store = FakeNode(FakeWorld(), company=True), MemoryStore()
        async with stage(store=store, node=node, hand_over=True) as first:
            leg = first.pbx.call(CALLER)
            await first.talking(leg)
            note = leg.notes[-1]
            # What a node of its own process does: it goes on without its controller.
            sound = node.opened[0]
            carried = dict(node.carried)
        sound.closed, node.carried = False, carried
        leg.lose_control()
        async with stage(changed_rules(), store=store, node=node) as second:
            again = second.pbx.call(CALLER, note=note, answered=True)
            sound.pbx_connected(again)
            await second.until(lambda: sound.seat.opened and len(sound.seats) == 2)
            assert "connect" not in again.said
            assert node.opened == [sound]
            again.caller_hangs_up()
            await second.until_over()

    travel(story())


def test_given_a_call_at_its_pin_when_taken_over_then_it_is_asked_again_and_the_tries_are_kept() -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(pin_rule(), store=store, hand_over=True) as first:
            leg = first.pbx.call(CALLER)
            await first.asked_for_pin()
            leg.press(PIN[:4])
            await asyncio.sleep(1)
        note = CallNote.from_text(leg.notes[-1]).model_copy(update={"pin_tries": 1})
        # The rule that asks first now is another one: the caller is on the way under the first.
        async with stage(pin_rule(), store=store) as second:
            again = second.pbx.call(CALLER, note=note.to_text(), answered=True)
            await second.asked_for_pin()
            assert second.node.opened[0].playing is ClipName.ENTER_PIN
            again.press(f"{PIN}#")
            await second.talking(again)
            assert second.dispatcher.asked == [PIN]
            again.caller_hangs_up()
            assert (await second.until_over()).pin_tries == 2

    travel(story())


def test_given_a_ringing_call_without_a_decision_when_taken_over_then_it_is_decided() -> None:
    async def story() -> None:
        note = CallNote(call_id="SCL_early", state=CallState.RINGING, started_at=EPOCH - 1)
        async with stage(open_rule()) as on:
            leg = on.pbx.call(CALLER, note=note.to_text())
            await on.talking(leg)
            leg.caller_hangs_up()
            assert (await on.until_over()).call_id == "SCL_early"

    travel(story())


@pytest.mark.parametrize("text", ["", "{", "{}", '{"version":2}', "[1]", "x" * 5000, '{"call_id":"a","state":"dancing","started_at":1}'])
@pytest.mark.parametrize("answered", [False, True])
def test_given_a_note_that_cannot_be_read_then_the_call_is_told_anew(text: str, answered: bool) -> None:
    async def story() -> None:
        async with stage(open_rule()) as on:
            leg = on.pbx.call(CALLER, note=text, answered=answered)
            await on.talking(leg)
            assert ("ring" in leg.said) is not answered
            leg.caller_hangs_up()
            record = await on.until_over()
            assert not record.taken_over
            assert record.answered_at is not None

    travel(story())


def test_given_metadata_too_long_for_the_note_when_taken_over_then_the_rule_is_read_again() -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(open_rule(metadata="m" * 100_000), store=store, hand_over=True) as first:
            leg = first.pbx.call(CALLER)
            await first.talking(leg)
            assert len(first.node.opened[0].seat.ticket.metadata) == 100_000
        async with stage(changed_rules(), store=store) as second:
            again = second.pbx.call(CALLER, note=leg.notes[-1], answered=True)
            await second.until(lambda: second.node.opened and second.node.opened[0].seats)
            assert second.node.opened[0].seat.ticket.metadata == "metadata of SDR_open"
            again.caller_hangs_up()
            await second.until_over()

    travel(story())


def test_given_a_call_ended_by_both_controllers_then_there_is_one_record() -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(store=store, hand_over=False) as first:
            leg = first.pbx.call(CALLER)
            await first.talking(leg)
            note = leg.notes[-1]
        assert [record.end_reason for record in store.kept.values()] == [EndReason.SHUTDOWN]
        async with stage(changed_rules(), store=store) as second:
            again = second.pbx.call(CALLER, note=note, answered=True)
            again.caller_hangs_up()
            await second.until(lambda: second.registry.live == 0)
        assert [record.end_reason for record in store.kept.values()] == [EndReason.SHUTDOWN]

    travel(story())


def test_given_a_newer_controller_then_its_calls_are_left_alone() -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(pin_rule(), store=store) as on:
            leg = on.pbx.call(CALLER)
            await on.asked_for_pin()
            leg.superseded = True
            leg.press("1#")
            await on.until(lambda: on.registry.live == 0)
            on.check_nothing_left()
            assert not leg.ending.done()
            assert store.kept == {}

    travel(story())


def test_given_a_call_whose_deadline_has_passed_meanwhile_when_taken_over_then_it_ends_at_once() -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(store=store, hand_over=True) as first:
            leg: FakeLeg = first.pbx.call(CALLER)
            await asyncio.sleep(5)
        await asyncio.sleep(1000)
        async with stage(changed_rules(), store=store) as second:
            second.pbx.call(CALLER, note=leg.notes[-1])
            record = await second.until_over()
            assert record.end_reason is EndReason.RINGING_TIMEOUT
            assert record.ended_at - EPOCH < 1007

    travel(story())


def test_given_a_call_that_ends_while_no_server_watches_then_the_next_one_keeps_its_record() -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(store=store, hand_over=True) as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            call_id = next(iter(store.open))
        assert store.kept == {}
        async with stage(store=store) as later:
            assert await later.registry.account_for("another PBX", store) == []
            assert [record.call_id for record in await later.registry.account_for(leg.pbx, store)] == [call_id]
            assert await later.registry.account_for(leg.pbx, store) == []
        (record,) = store.kept.values()
        assert (record.end_reason, record.room, record.number) == (EndReason.UNSEEN, "lobby", CALLER.number)

    travel(story())


def test_given_calls_that_are_live_or_have_a_record_then_none_of_them_is_accounted_for() -> None:
    async def story() -> None:
        async with stage() as on:
            first = on.pbx.call(CALLER)
            await on.talking(first)
            first.caller_hangs_up()
            await on.until(lambda: on.store.kept)
            second = on.pbx.call(CALLER)
            await on.until(lambda: on.registry.live and on.store.open)
            assert await on.registry.account_for(first.pbx, on.store) == []
            second.caller_hangs_up()
            await on.until(lambda: len(on.store.kept) == 2)
            assert on.store.open == {}

    travel(story())
