"""What somebody asks of a call while it is up: hang up, hand on, close its room. The server runs in the test's own process here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from bridge.app import Application
from bridge.model.ending import EndedBy, EndReason
from bridge.model.record import LiveCall
from bridge.settings import Settings
from bridge.testing.carrier import CarrierCall
from bridge.testing.carrier_config import TRANSFERRED, TRANSFERRED_HZ
from bridge.testing.listening import level
from bridge.testing.phone import VOICE
from bridge.testing.stack import Stack
from bridge.testing.stack_pbx import StackPhone
from tests.real.scenario import (
    CONFIGURATION,
    ECHO,
    EMPTY,
    MEETING,
    PIN_ECHO,
    RINGBACK_HZ,
    State,
    caller_in,
    heard_tone,
    hears_itself,
    records_of,
    the_record,
    until_heard,
)
from tests.real.scenarios.conftest import Parts

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_call_left"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(CONFIGURATION, **parts(), keep=tmp_path_factory.mktemp("orders"), with_server=False) as stack:
        yield stack
        await stack.nothing_left()


@asynccontextmanager
async def application(stack: Stack) -> AsyncIterator[Application]:
    """The server, in this process; at its end no call and no task of it is left."""
    async with Application(Settings.load(stack.server.config, {}).sound()) as app:
        running = asyncio.create_task(app.run())
        try:
            async with asyncio.timeout(5.0):
                while not (await app.pbxes[0].health()).connected:  # noqa: ASYNC110  (the port tells no moment of it)
                    await asyncio.sleep(0.02)
            yield app
            async with asyncio.timeout(5.0):
                while app.registry.live:  # noqa: ASYNC110  (nor does the registry)
                    await asyncio.sleep(0.02)
            assert app.rooms.occupants() == {}
            assert await app.node.sounds() == {}
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert [task for task in asyncio.all_tasks() if "/bridge/" in repr(task) and "/bridge/testing/" not in repr(task)] == []


async def live(app: Application, call: CarrierCall) -> LiveCall:
    return next(snapshot for snapshot in app.registry.calls() if snapshot.number == call.caller)


@pytest.mark.parametrize("state", list(State))
async def test_given_a_call_in_any_state_when_somebody_hangs_it_up_then_it_ends_and_nothing_is_left(stack: Stack, state: State) -> None:
    async with application(stack) as app:
        call = await caller_in(stack, state)
        app.registry.hang_up((await live(app, call)).call_id)
        ending = await call.ended(5.0)
        assert not ending.by_us
        assert ending.sip_status == (486 if state is State.RINGING else 200)
        record = await the_record(stack, call)
        assert (record.end_reason, record.ended_by) == (EndReason.REQUESTED, EndedBy.ROOMLINE)
        await stack.nothing_left()


@pytest.mark.parametrize("number", [EMPTY, ECHO])
async def test_given_a_call_when_its_room_is_deleted_then_it_ends_with_that_reason(stack: Stack, number: str) -> None:
    async with application(stack) as app:
        call = await stack.carrier.call(number)
        await (call.answered() if number == ECHO else call.ringing())
        await asyncio.sleep(0.3)
        assert await app.rooms.delete_room((await live(app, call)).room)
        assert not (await call.ended(5.0)).by_us
        record = await the_record(stack, call)
        assert (record.end_reason, record.ended_by) == (EndReason.ROOM_CLOSED, EndedBy.ROOM)


async def test_given_two_phones_when_one_is_removed_from_the_room_then_it_is_hung_up_and_the_other_stays(stack: Stack) -> None:
    async with application(stack) as app:
        first, second = [await stack.carrier.call(MEETING) for _ in range(2)]
        await asyncio.gather(first.answered(), second.answered())
        snapshot = await live(app, first)
        assert await app.rooms.remove_participant(snapshot.room, snapshot.identity)
        await first.ended(5.0)
        assert (await the_record(stack, first)).end_reason is EndReason.REMOVED
        await asyncio.sleep(0.5)
        assert second.ending is None
        await second.hang_up()
        await the_record(stack, second)


async def test_given_the_same_phone_twice_when_it_calls_a_room_then_the_first_call_ends_as_a_duplicate(stack: Stack) -> None:
    async with application(stack):
        first = await stack.carrier.call(MEETING, caller="+15557777")
        await first.ringing()
        second = await stack.carrier.call(MEETING, caller="+15557777")
        ending = await first.ended(5.0)
        assert not ending.by_us
        await second.hang_up()
        async with asyncio.timeout(5.0):
            while len(records_of(stack, second)) < 2:  # noqa: ASYNC110  (kept by somebody else)
                await asyncio.sleep(0.05)
        assert records_of(stack, second)[0].end_reason is EndReason.DUPLICATE_IDENTITY


async def test_given_a_talk_when_handed_on_and_the_carrier_takes_it_then_the_caller_is_there_and_the_seat_is_free(stack: Stack) -> None:
    # The carrier hands on who is bridged: with a wideband codec its own leg is.
    async with application(stack) as app:
        call = await stack.carrier.call(ECHO, codec="g722")
        await call.answered()
        await hears_itself(call)
        snapshot = await live(app, call)
        result = await app.registry.transfer(snapshot.call_id, "sip:{}@{}:{}".format(TRANSFERRED, *stack.carrier.sip_address))
        assert result.ok, result
        record = await the_record(stack, call)
        assert (record.end_reason, record.ended_by) == (EndReason.TRANSFERRED, EndedBy.ROOMLINE)
        await until_heard(call, (TRANSFERRED_HZ,), since=call.placed_at, within=8.0)
        await stack.carrier.hang_up_all()


async def test_given_a_talk_when_handed_on_and_the_phone_declines_then_the_caller_is_back_in_the_room(stack: Stack) -> None:
    async with application(stack) as app, stack.carrier.phone(refer_answer="603 Decline") as phone:
        assert (await phone.call(ECHO)).status == 200
        phone.send(VOICE)
        await phone_hears_itself(phone)
        (snapshot,) = app.registry.calls()
        result = await app.registry.transfer(snapshot.call_id, "sip:nurse@192.0.2.1")
        assert (result.ok, result.sip_status) == (False, 603)
        await phone_hears_itself(phone)
        await phone.hang_up()
        assert (await the_record(stack, phone)).end_reason is EndReason.HANGUP


async def phone_hears_itself(phone: StackPhone, within: float = 5.0) -> None:
    """The phone says something all the time, and from now on it comes back."""
    before = len(phone.heard_samples())
    async with asyncio.timeout(within):
        while len(heard := phone.heard_samples(before)) < 4000 or level(heard[-1600:]) < -30:  # noqa: ASYNC110  (what is heard has no event)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def refused_at_the_target(stack: Stack) -> AsyncIterator[CarrierCall]:
    """A caller whose carrier has taken the transfer, and whose target then refused it."""
    async with application(stack) as app:
        call = await stack.carrier.call(ECHO)
        await call.answered()
        await hears_itself(call)
        snapshot = await live(app, call)
        result = await app.registry.transfer(snapshot.call_id, "sip:{}@{}:{}".format(TRANSFERRED, *stack.carrier.sip_address))
        assert not result.ok
        assert result.sip_status is not None
        yield call


async def test_given_a_talk_when_handed_on_and_the_target_refuses_then_the_caller_is_back_in_the_room(stack: Stack) -> None:
    if not stack.pbx.keeps_who_was_refused:
        pytest.skip(f"{stack.pbx.description} does not keep a caller whom the target has refused: the next test")
    async with refused_at_the_target(stack) as call:
        await hears_itself(call)
        await call.hang_up()
        assert (await the_record(stack, call)).end_reason is EndReason.HANGUP


async def test_given_a_pbx_that_drops_the_caller_when_the_target_refuses_then_the_call_ends_once_says_why_and_nothing_is_left(
    stack: Stack,
) -> None:
    if stack.pbx.keeps_who_was_refused:
        pytest.skip(f"{stack.pbx.description} keeps a caller whom the target has refused: the test before")
    async with refused_at_the_target(stack) as call:
        assert not (await call.ended(5.0)).by_us
        record = await the_record(stack, call)
        assert (record.end_reason, record.ended_by) == (EndReason.TRANSFER_REFUSED, EndedBy.PBX)
        assert "the target of their transfer refused" in record.detail
        await stack.nothing_left()


async def test_given_a_call_that_is_not_talking_when_handed_on_then_it_is_refused_and_goes_on(stack: Stack) -> None:
    async with application(stack) as app:
        call = await caller_in(stack, State.WAITING)
        result = await app.registry.transfer((await live(app, call)).call_id, "sip:anybody@127.0.0.2")
        assert not result.ok
        await asyncio.sleep(0.5)
        assert heard_tone(call, RINGBACK_HZ, call.placed_at) is not None
        assert call.ending is None
        await call.hang_up()


async def test_given_a_server_that_is_asked_to_stop_then_its_calls_are_left_to_the_next_one(stack: Stack) -> None:
    call = await stack.carrier.call(ECHO)
    async with application_that_stops(stack) as app:
        await call.answered()
        await hears_itself(call)
        await app.stop()
    assert call.ending is None
    async with application(stack):
        await hears_itself(call, within=8.0)
        await call.hang_up()
        assert (await the_record(stack, call)).taken_over


async def test_given_a_server_with_a_pin_dialogue_when_it_stops_then_the_next_one_asks_again(stack: Stack) -> None:
    async with application_that_stops(stack) as app:
        call = await stack.carrier.call(PIN_ECHO)
        await call.answered()
        await call.press("804")
        await app.stop()
    async with application(stack):
        await asyncio.sleep(1.0)
        await call.press("80428617#")
        await hears_itself(call, within=8.0)
        await call.hang_up()
        assert (await the_record(stack, call)).pin_tries == 1


@asynccontextmanager
async def application_that_stops(stack: Stack) -> AsyncIterator[Application]:
    async with Application(Settings.load(stack.server.config, {}).sound()) as app:
        running = asyncio.create_task(app.run())
        try:
            yield app
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
