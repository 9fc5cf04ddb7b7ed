"""Any order of events, and a stop at any await, ends a call exactly once, with one record, and leaves nothing behind."""

import asyncio
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.call.registry import NoSuchCall
from bridge.errors import NodeGone, Unavailable
from bridge.media.port import ClipName
from bridge.model.ending import EndReason
from bridge.model.ticket import DigitsToSend, SeatBack, SeatGone, SeatLost
from bridge.pbx.port import Held, Resumed, TransferResult
from bridge.testing.fakes import FakeDispatcher, FakeLeg, FakeNode, FakeWorld, MemoryStore, Sends
from bridge.testing.time_travel import travel
from tests.call.stage import CALLER, PIN, Stage, open_rule, pin_rule, stage

Event = Callable[[Stage, FakeLeg], object]


def _at_the_seat(event: object) -> Event:
    def happen(on: Stage, _leg: FakeLeg) -> None:
        for sound in on.node.opened[-1:]:
            for seat in sound.seats[-1:]:
                seat.happened(event)  # type: ignore[arg-type]  # one of the seat events below
                if event is None:
                    seat.somebody_publishes()

    return happen


def _company(on: Stage, _leg: FakeLeg) -> None:
    for sound in on.node.opened[-1:]:
        for seat in sound.seats[-1:]:
            seat.somebody_publishes()


def _asked_to_hang_up(on: Stage, _leg: FakeLeg) -> None:
    for call in on.registry.calls():
        on.registry.hang_up(call.call_id)


def _transfer_outcome(ok: bool) -> Event:
    def happen(_on: Stage, leg: FakeLeg) -> None:
        if not leg.transfer_outcome.done():
            leg.transfer_outcome.set_result(TransferResult(ok=ok))

    return happen


def _node_lost(on: Stage, leg: FakeLeg) -> None:
    on.node.lost = True
    leg.lose_media()


def _node_away(on: Stage, leg: FakeLeg) -> None:
    """For good, and there is another one."""

    async def away(name: str) -> None:
        if not name.startswith("leg."):
            raise NodeGone("away")

    if len(on.nodes) == 1:
        # Its audio is its own; what it asks of the world is never away.
        on.nodes.append(FakeNode(FakeWorld(invited=on.world.invited), room_for=1000, company=True))
        on.world.before = away
        _at_the_seat(SeatLost())(on, leg)  # the first that is asked of the node


async def _transfer(on: Stage, _leg: FakeLeg) -> None:
    for call in on.registry.calls():
        try:
            await on.registry.transfer(call.call_id, "sip:desk@example.net", timeout=5.0)
        except NoSuchCall:
            return


EVENTS: dict[str, Event] = {
    "company": _company,
    "right pin": lambda _, leg: leg.press(f"{PIN}#"),
    "wrong pin": lambda _, leg: leg.press("0#"),
    "hash": lambda _, leg: leg.press("#"),
    "half a pin": lambda _, leg: leg.press(PIN[:3]),
    "storm": lambda _, leg: leg.press("0123456789*ABCD" * 20),
    "caller hangs up": lambda _, leg: leg.caller_hangs_up(),
    "lease runs out": lambda _, leg: leg.lease_runs_out(),
    "moved elsewhere": lambda _, leg: leg.move_elsewhere(),
    "media lost, untold": lambda _, leg: leg.move_elsewhere(still_ours=True),
    "media lost": lambda _, leg: leg.lose_media(),
    "control lost": lambda _, leg: leg.lose_control(),
    "control back": lambda _, leg: leg.regain_control(),
    "sends nothing": lambda _, leg: leg.sends(Sends.NOTHING),
    "sends packets": lambda _, leg: leg.sends(Sends.PACKETS),
    "speaks": lambda _, leg: leg.sends(Sends.VOICE),
    "cannot count": lambda _, leg: setattr(leg, "counts_packets", False),
    "held": lambda _, leg: leg.happened(Held()),
    "resumed": lambda _, leg: leg.happened(Resumed()),
    "room closes": _at_the_seat(SeatGone("room_deleted")),
    "room lost": _at_the_seat(SeatLost()),
    "room back": _at_the_seat(SeatBack()),
    "digits from the room": _at_the_seat(DigitsToSend("1w2")),
    "asked to hang up": _asked_to_hang_up,
    "transfer": _transfer,
    "transfer taken": _transfer_outcome(True),
    "transfer refused": _transfer_outcome(False),
    "node lost": _node_lost,
    "node away": _node_away,
    "deaf": lambda on, _: setattr(on.node, "deaf", True),
    "rooms down": lambda on, _: setattr(on.node, "rooms_down", True),
    "store breaks": lambda on, _: setattr(on.store, "broken", True),
    "store works": lambda on, _: setattr(on.store, "broken", False),
}

steps = st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.sampled_from([0.0, 0.01, 0.3, 2.0, 11.0, 70.0])), max_size=12)
dispatchers = st.sampled_from([open_rule, pin_rule])


async def _play(on: Stage, leg: FakeLeg, events: list[tuple[str, float]]) -> None:
    async with asyncio.TaskGroup() as group:
        await asyncio.sleep(0.001)
        for name, pause in events:
            outcome = EVENTS[name](on, leg)
            if asyncio.iscoroutine(outcome):
                group.create_task(outcome)
            await asyncio.sleep(pause)


@given(dispatcher=dispatchers, events=steps)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_given_any_order_of_events_then_the_call_ends_once_with_one_record_and_leaves_nothing(
    dispatcher: Callable[[], FakeDispatcher], events: list[tuple[str, float]]
) -> None:
    async def story() -> None:
        async with stage(dispatcher()) as on:
            leg = on.pbx.call(CALLER)
            await _play(on, leg, events)
            on.store.broken = False
            leg.regain_control()
            if not leg.ending.done():
                leg.caller_hangs_up()
            await on.until(lambda: on.registry.live == 0, 200.0)
            on.check_nothing_left()
            assert len(on.store.kept) == 1 or "store breaks" in [name for name, _ in events]
            assert all(record.end_reason is not EndReason.ERROR for record in on.store.kept.values())

    with silence():
        travel(story())


@given(dispatcher=dispatchers, before=steps, after=steps)
@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_given_any_order_of_events_when_a_new_controller_takes_over_in_between_then_there_is_one_record(
    dispatcher: Callable[[], FakeDispatcher], before: list[tuple[str, float]], after: list[tuple[str, float]]
) -> None:
    async def story() -> None:
        store = MemoryStore()
        async with stage(dispatcher(), store=store, hand_over=True) as first:
            leg = first.pbx.call(CALLER)
            await _play(first, leg, [event for event in before if not event[0].startswith("store")])
        first.check_nothing_left()
        if leg.ending.done() or store.kept:
            assert len(store.kept) == 1
            return
        async with stage(dispatcher(), store=store) as second:
            again = second.pbx.call(CALLER, note=leg.note, answered=leg.answered)
            await _play(second, again, [event for event in after if not event[0].startswith("store")])
            again.regain_control()
            again.caller_hangs_up()
            await second.until(lambda: second.registry.live == 0, 200.0)
            second.check_nothing_left()
        assert len(store.kept) == 1
        assert all(record.end_reason is not EndReason.ERROR for record in store.kept.values())

    with silence():
        travel(story())


async def _whole_call(on: Stage, leg: FakeLeg) -> None:
    """Every kind of step there is: PIN, ringback, talk, loss, digits both ways, a refused transfer, the end."""
    await on.asked_for_pin()
    leg.press(f"{PIN}#")
    await on.talking(leg)
    leg.lose_media()
    leg.press("1")
    on.node.opened[0].seat.happened(DigitsToSend("5"))
    await asyncio.sleep(1)
    refused = asyncio.create_task(on.registry.transfer(on.registry.calls()[0].call_id, "sip:desk@example.net"))
    await asyncio.sleep(1)
    leg.transfer_outcome.set_result(TransferResult(ok=False))
    await refused
    await asyncio.sleep(1)
    on.node.opened[0].seat.happened(SeatGone("room_deleted"))
    await on.until(lambda: on.registry.live == 0)


def _awaits() -> int:
    """At how many awaits a whole call can be stopped."""
    count = 0

    async def counted(_name: str) -> None:
        nonlocal count
        count += 1

    async def story() -> None:
        async with stage(pin_rule(), node=FakeNode(FakeWorld(counted))) as on:
            await _whole_call(on, on.pbx.call(CALLER))

    travel(story())
    return count


@pytest.mark.parametrize("hand_over", [True, False])
def test_given_a_stop_at_every_await_then_nothing_is_left(hand_over: bool) -> None:
    with silence():
        places = _awaits()
        assert places > 25
        for place in range(places):
            travel(_stopped_at(place, hand_over))


async def _stopped_at(place: int, hand_over: bool) -> None:
    reached, count = asyncio.Event(), 0

    async def stopping(_name: str) -> None:
        nonlocal count
        if count == place:
            reached.set()
            await asyncio.sleep(0.001)
        count += 1

    store = MemoryStore()
    async with stage(pin_rule(), node=FakeNode(FakeWorld(stopping)), store=store) as on:
        whole = asyncio.create_task(_whole_call(on, on.pbx.call(CALLER)))
        await reached.wait()
        await on.registry.stop(hand_over=hand_over)
        whole.cancel()
        await asyncio.gather(whole, return_exceptions=True)
        assert on.registry.live == 0
        on.check_nothing_left()
    assert len(store.kept) == 1 or (hand_over and not store.kept)


@pytest.mark.parametrize("kind", [Unavailable, ZeroDivisionError])
def test_given_a_failure_at_every_await_then_the_call_ends_once_and_nothing_is_left(kind: type[Exception]) -> None:
    with silence():
        for place in range(_awaits()):
            travel(_failing_at(place, kind))


async def _failing_at(place: int, kind: type[Exception]) -> None:
    count = 0

    async def failing(_name: str) -> None:
        nonlocal count
        count += 1
        if count == place + 1:
            raise kind("made to fail")

    store = MemoryStore()
    async with stage(pin_rule(), node=FakeNode(FakeWorld(failing)), store=store) as on:
        leg = on.pbx.call(CALLER)
        whole = asyncio.create_task(_whole_call(on, leg))
        await on.until(lambda: whole.done() or (store.kept and not on.registry.live), 700.0)
        whole.cancel()
        await asyncio.gather(whole, return_exceptions=True)
        # A digit or an attribute that did not get through is no reason to end a call.
        leg.caller_hangs_up()
        await on.until(lambda: on.registry.live == 0)
        on.check_nothing_left()
    assert len(store.kept) == 1


def test_given_a_run_with_pins_then_no_log_note_or_record_has_one() -> None:
    written = io.StringIO()

    async def story() -> None:
        async with stage(pin_rule({PIN: open_rule().first})) as on:  # type: ignore[dict-item]  # an Accept
            on.node.clip_seconds[ClipName.ENTER_PIN] = 3.0
            for keys in (f"{PIN}#", f"{PIN}7#", f"{PIN * 4}#", PIN):
                leg = on.pbx.call(CALLER)
                await on.until(lambda: on.registry.live == 1)
                await on.asked_for_pin()
                leg.press(keys)
                await asyncio.sleep(30)
                leg.caller_hangs_up()
                await on.until(lambda: on.registry.live == 0)
                assert PIN not in "".join(leg.notes)
                assert PIN[:5] not in "".join(leg.notes)
            assert len(on.store.kept) == 4
            assert PIN[:5] not in "".join(record.to_json() for record in on.store.kept.values())

    with silence(written):
        travel(story())
    assert "call ended" in written.getvalue()
    assert PIN[:5] not in written.getvalue()


@contextmanager
def silence(into: io.StringIO | None = None) -> Iterator[None]:
    """Everything logged at any level goes there, or nowhere."""
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=structlog.PrintLoggerFactory(into or io.StringIO()),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
