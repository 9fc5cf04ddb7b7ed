"""Calls of ours, told with fakes: seated while their phone rings, answered, refused, given up, their room or PBX gone."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bridge.call.live import Progress
from bridge.call.registry import NoRoom
from bridge.errors import CannotDial, Unavailable
from bridge.model.ending import EndedBy, Ending, EndReason
from bridge.model.note import CallNote, CallState
from bridge.model.ticket import RoomTicket
from bridge.pbx.port import DialRequest
from bridge.testing.fakes import FakeLeg
from bridge.testing.time_travel import travel
from tests.call.stage import CALLER, Stage, stage

REQUEST = DialRequest("ST_out", "+15550123", "+15550100", limit=30.0)


def note(on: Stage, call_id: str = "SCL_out", **facts: Any) -> CallNote:
    attributes = {"sip.callStatus": "dialing"}
    ticket = RoomTicket(call_id=call_id, room_name="lobby", identity="sip_+15550123", name="Phone", attributes=attributes)
    now = on.clock.now()
    known = {"call_id": call_id, "state": CallState.DIALING, "started_at": now, "trunk_id": "ST_out", "ticket": ticket}
    return CallNote.model_validate({**known, "company_until": now + 30, "over_at": now + 600, "outgoing": True, **facts})


async def called(on: Stage, **facts: Any) -> tuple[FakeLeg, Progress]:
    on.pbx.ways_out = {"ST_out"}
    progress = await on.registry.place(on.pbx, REQUEST, note(on, **facts))
    return on.pbx.dialled[-1][1], progress


def told(tell: Callable[[Stage], object]) -> None:
    async def story() -> None:
        async with stage() as on:
            await asyncio.sleep(0.1)  # until the PBX's calls are told
            await tell(on)  # type: ignore[misc]  # a coroutine of the test's

    travel(story())


def test_given_somebody_who_answers_then_they_were_seated_before_and_talk_after() -> None:
    async def tell(on: Stage) -> None:
        leg, progress = await called(on)
        await progress.seated.wait()
        seat = on.node.opened[-1].seat
        assert (seat.opened, leg.said.count("ring"), progress.answered.is_set()) == (False, 0, False)
        leg.pick_up()
        await on.until(lambda: seat.opened)
        assert progress.answered.is_set()
        assert seat.attributes["sip.callStatus"] == "active"
        leg.caller_hangs_up()
        record = await on.until_over()
        assert (record.end_reason, record.number, record.trunk_id, record.room) == (EndReason.HANGUP, "+15550123", "ST_out", "lobby")
        assert (record.outgoing, record.answered) == (True, True)

    told(tell)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (Ending(EndedBy.CALLER, "busy", 486), EndReason.DECLINED),
        (Ending(EndedBy.CALLER, "no", 603), EndReason.DECLINED),
        (Ending(EndedBy.PBX, "no answer", 480), EndReason.NO_ANSWER),
        (Ending(EndedBy.PBX, "gone"), EndReason.PBX_GONE),
    ],
)
def test_given_somebody_who_does_not_answer_then_the_record_says_how_and_the_seat_is_left(ending: Ending, reason: EndReason) -> None:
    async def tell(on: Stage) -> None:
        leg, progress = await called(on)
        await progress.seated.wait()
        leg.end(ending)
        record = await on.until_over()
        assert (record.end_reason, record.sip_status, record.answered) == (reason, ending.sip_status, False)
        assert progress.why == record

    told(tell)


def test_given_nobody_within_the_time_then_the_phone_rings_no_more() -> None:
    async def tell(on: Stage) -> None:
        leg, _ = await called(on)
        record = await on.until_over()
        assert (record.end_reason, leg.said[-1].partition(" ")[0]) == (EndReason.NO_ANSWER, "reject")
        assert 29 < record.ended_at - record.started_at < 32

    told(tell)


def test_given_digits_then_they_are_sent_once_before_the_room_hears_anything() -> None:
    async def tell(on: Stage) -> None:
        leg, _ = await called(on, digits="1w2")
        leg.pick_up()
        await on.until(lambda: on.node.opened and on.node.opened[-1].seats and on.node.opened[-1].seat.opened)
        assert leg.digits_sent == "1w2"
        assert CallNote.from_text(leg.notes[-1]).digits == ""

    told(tell)


def test_given_as_many_calls_out_as_allowed_or_no_way_out_then_nobody_is_called() -> None:
    async def tell(on: Stage) -> None:
        with pytest.raises(CannotDial):
            await on.registry.place(on.pbx, REQUEST, note(on))
        for number in range(10):
            await called(on, call_id=f"SCL_{number}")
        with pytest.raises(NoRoom):
            await called(on, call_id="SCL_more")
        assert len(on.pbx.dialled) == 10
        for _, leg in on.pbx.dialled:
            leg.caller_hangs_up()
        await on.until(lambda: on.registry.live == 0)
        await called(on, call_id="SCL_again")

    told(tell)


def test_given_a_server_that_ends_then_it_calls_nobody_any_more() -> None:
    async def tell(on: Stage) -> None:
        await on.registry.stop(hand_over=True)
        with pytest.raises(Unavailable):
            await called(on)

    told(tell)


def test_given_a_call_out_that_a_server_before_us_had_begun_then_it_goes_on_by_its_note() -> None:
    async def tell(on: Stage) -> None:
        leg = on.pbx.call(CALLER, note=note(on).to_text(), answered=True)
        await on.until(lambda: on.node.opened and on.node.opened[-1].seats and on.node.opened[-1].seat.opened)
        assert "ring" not in leg.said
        leg.caller_hangs_up()
        assert (await on.until_over()).taken_over

    told(tell)


def test_given_an_end_that_is_asked_for_while_it_rings_then_it_ends() -> None:
    async def tell(on: Stage) -> None:
        _, progress = await called(on)
        await asyncio.sleep(1)
        on.registry.hang_up("SCL_out")
        await progress.over.wait()
        assert (await on.until_over()).end_reason is EndReason.REQUESTED

    told(tell)
