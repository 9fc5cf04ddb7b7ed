"""The Asterisk adapter alone, on a real one: what a caller's side gets for each thing that a leg is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.errors import LegGone
from bridge.model.ending import EndedBy
from bridge.pbx.asterisk.options import AsteriskOptions
from bridge.pbx.asterisk.pbx import AsteriskPbx
from bridge.pbx.port import Leg
from bridge.testing.carrier import Carrier
from bridge.testing.pbx import OperatorPbx

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


@asynccontextmanager
async def controller(pbx: OperatorPbx) -> AsyncIterator[tuple[AsteriskPbx, AsyncIterator[Leg]]]:
    manager = pbx.settings.roomline
    adapter = AsteriskPbx(AsteriskOptions("pbx", manager.host, manager.port, manager.user, manager.secret))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(adapter.run())
        async with asyncio.timeout(5.0):
            while not (await adapter.health()).connected:  # noqa: ASYNC110  (the port tells no moment of it)
                await asyncio.sleep(0.02)
        yield adapter, adapter.legs()
        running.cancel()


async def test_given_a_status_when_a_call_is_rejected_then_the_carrier_gets_exactly_that_one(pbx: OperatorPbx, carrier: Carrier) -> None:
    async with controller(pbx) as (_, legs):
        # 401 and 407 ask for credentials, 491 for another try: no caller takes them for an end.
        statuses = [
            400,
            402,
            403,
            404,
            405,
            406,
            408,
            410,
            415,
            420,
            480,
            481,
            484,
            485,
            486,
            487,
            488,
            500,
            501,
            503,
            504,
            513,
            600,
            603,
            604,
            606,
        ]
        for status in [*statuses, 433, 499, 550, 607, 608, 699]:
            call = await carrier.call("+15550100")
            leg = await anext(legs)
            await leg.ring()
            await leg.reject(status)
            ending = await call.ended(5.0)
            assert (ending.sip_status, ending.exact) == (status, True)
            assert (await leg.ended()).sip_status == status
            assert (await leg.ended()).by is EndedBy.ROOMLINE


async def test_given_a_call_that_has_ended_when_told_anything_then_it_is_gone_and_hanging_up_is_no_error(
    pbx: OperatorPbx, carrier: Carrier
) -> None:
    async with controller(pbx) as (_, legs):
        call = await carrier.call("+15550100")
        leg = await anext(legs)
        await leg.ring()
        await call.hang_up()
        ending = await asyncio.wait_for(leg.ended(), 5.0)
        assert (ending.by, ending.sip_status) == (EndedBy.CALLER, 487)
        with pytest.raises(LegGone):
            await leg.ring()
        with pytest.raises(LegGone):
            await leg.reject(404)
        with pytest.raises(LegGone):
            await leg.remember("a note")


async def test_given_many_moves_in_a_row_then_the_channel_is_where_it_was_sent_last(pbx: OperatorPbx, carrier: Carrier) -> None:
    """A Redirect is refused while the one before has not been carried out."""
    async with controller(pbx) as (_, legs):
        for _ in range(5):
            call = await carrier.call("+15550100")
            leg = await anext(legs)
            for _ in range(20):
                await leg.ring()
            await leg.fall_back()
            await call.answered()
            assert (await leg.ended()).fell_back
            await call.hang_up()


async def test_given_a_long_note_when_another_controller_looks_then_it_reads_what_was_written(pbx: OperatorPbx, carrier: Carrier) -> None:
    call = await carrier.call("+15550100")
    note = '{"name":"' + "\\ud83e\\udd84" * 256 + '","metadata":"' + "m" * 3000 + '"}'
    async with controller(pbx) as (_, legs):
        leg = await anext(legs)
        await leg.ring()
        await leg.remember("an older one")
        await leg.remember(note)
    async with controller(pbx) as (_, legs):
        again = await asyncio.wait_for(anext(legs), 5.0)
        assert again.note == note
        assert again.caller == leg.caller
        await again.reject(486)
    await call.ended()


async def test_given_calls_that_arrive_while_controllers_come_and_go_then_each_is_taken_once_and_whole(
    pbx: OperatorPbx, carrier: Carrier
) -> None:
    """A controller that looks around meets calls whose dialplan has not told everything yet."""
    calls = []
    for _ in range(10):
        calls += [await carrier.call("+15550100", headers={"X-Last": "whole"}) for _ in range(2)]
        async with controller(pbx) as (_, legs):
            taken = [await asyncio.wait_for(anext(legs), 5.0) for _ in range(2)]
            assert len({leg.id for leg in taken}) == 2
            for leg in taken:
                assert leg.caller.headers["X-Last"] == "whole"
                assert leg.caller.number
                await leg.reject(486)
        for call in calls[-2:]:
            await call.ended()
