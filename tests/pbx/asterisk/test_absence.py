"""A PBX that was away, or a controller that was: what happened meanwhile is found, and told once."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.errors import Unavailable
from bridge.model.ending import EndedBy, EndReason
from bridge.model.media_address import MediaAddress
from bridge.pbx.asterisk.notes import NOTE
from bridge.pbx.asterisk.pbx import AWAY
from bridge.pbx.port import ControlBack, ControlLost, Digit, Leg
from bridge.testing.ami_server import AmiAction, AmiServer, failure, silence
from bridge.testing.time_travel import TimeTravelLoop
from tests.pbx.asterisk.stage import Exchange, a_channel, announce, exchange, in_note, until

ADDRESS = MediaAddress("127.0.0.1", 9092, "7b4c1d9e-0000-4000-8000-000000000001", 8000)


async def cut_and_back(on: Exchange) -> None:
    """The connection breaks and is there again, with all that Asterisk is asked then."""
    looks = len(on.server.named("Status"))
    on.server.cut()
    await on.server.until(lambda: len(on.server.named("Status")) > looks)
    await asyncio.sleep(0.05)


async def test_given_a_break_then_each_leg_is_told_once_that_control_is_lost_and_once_that_it_is_back(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.channel_event(channel, "DTMFEnd", {"Digit": "1", "Direction": "Received"})
        await asyncio.sleep(0.05)
        server.turns_away = True
        server.cut()
        await until(lambda: ControlLost() in on.events(leg))
        with pytest.raises(Unavailable):
            await leg.ring()
        # For another reason now, which is no second loss.
        server.turns_away, server.refuses_login = False, True
        await asyncio.sleep(20.0)
        server.refuses_login = False
        await until(lambda: ControlBack() in on.events(leg))
        server.channel_event(channel, "DTMFEnd", {"Digit": "2", "Direction": "Received"})
        await asyncio.sleep(0.05)
        assert on.events(leg) == [Digit("1"), ControlLost(), ControlBack(), Digit("2")]
        await leg.ring()
        assert len(on.legs) == 1


async def test_given_a_pbx_too_busy_at_first_when_it_is_back_then_control_comes_back_with_the_next_look(server: AmiServer) -> None:
    async with exchange(server, action_timeout=2.0) as on:
        _, leg = await on.call()
        server.script("Status", silence)
        looks = len(server.named("Status"))
        server.cut()
        await until(lambda: len(server.named("Status")) > looks + 1)
        assert on.events(leg) == [ControlLost()]
        server.script("Status", server.well_behaved)
        await until(lambda: len(on.events(leg)) > 1, 10.0)
        await asyncio.sleep(10.0)
        assert on.events(leg) == [ControlLost(), ControlBack()]
        assert len(server.connected_at) == 2


async def test_given_a_hangup_that_was_missed_then_it_is_found_when_the_pbx_is_back(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        _, other = await on.call()
        del server.channels[channel.name]
        await cut_and_back(on)
        async with asyncio.timeout(1.0):
            ending = await leg.ended()
        assert (ending.by, ending.fell_back) == (EndedBy.CALLER, False)
        assert on.events(leg) == [ControlLost()]
        assert on.events(other) == [ControlLost(), ControlBack()]


async def test_given_a_call_that_fell_back_meanwhile_then_it_has_ended_so(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        channel.context = "roomline-fallback"
        await cut_and_back(on)
        async with asyncio.timeout(1.0):
            assert (await leg.ended()).fell_back
        channel.context = "queue"
        await cut_and_back(on)
        assert len(on.legs) == 1


async def test_given_what_became_of_a_call_meanwhile_then_answer_and_name_are_found(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.channels["PJSIP/carrier-b-00000099"] = server.channels.pop(channel.name)
        channel.name, channel.state, channel.context = "PJSIP/carrier-b-00000099", 6, "roomline-media"
        await cut_and_back(on)
        assert leg.answered
        await leg.connect(ADDRESS)
        assert on.said("Redirect")[0]["Channel"] == "PJSIP/carrier-b-00000099"


async def test_given_a_call_parked_meanwhile_then_it_is_found(server: AmiServer) -> None:
    async with exchange(server) as on:
        await on.call()
        channel = a_channel(server)
        await cut_and_back(on)
        assert [leg.id for leg in on.legs][1:] == [channel.unique_id]


async def test_given_a_channel_that_lingers_after_its_hangup_then_it_is_not_taken_for_a_new_call(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        channel.variables |= in_note("talking")
        # A BYE inside a REFER: the channel is there for minutes yet (asterisk.md).
        server.channel_event(channel, "HangupRequest")
        await leg.ended()
        for _ in range(3):
            await cut_and_back(on)
        assert on.legs == [leg]
        # Its Hangup is missed, too.
        del server.channels[channel.name]
        await cut_and_back(on)
        assert on.legs == [leg]
        assert on.pbx._lingering == set()


ENDS: dict[str, tuple[Callable[[Leg], Awaitable[None]], str]] = {
    "reject": (lambda leg: leg.reject(486), "PJSIPHangup"),
    "hang_up": (lambda leg: leg.hang_up(EndReason.REQUESTED), "Hangup"),
    "fall_back": (lambda leg: leg.fall_back(), "Redirect"),
}


@pytest.mark.parametrize("end", ENDS)
async def test_given_an_end_that_could_not_be_told_then_it_comes_about_when_the_pbx_is_back(server: AmiServer, end: str) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.turns_away = True
        server.cut()
        await until(lambda: on.events(leg))
        with pytest.raises(Unavailable):
            await ENDS[end][0](leg)
        server.turns_away = False
        await until(on.said)
        (action,) = on.said()
        assert (action.name, action["Channel"]) == (ENDS[end][1], channel.name)


@pytest.mark.parametrize("words", ["No such channel", "Permission denied", None])
async def test_given_an_end_that_cannot_be_told_even_then_then_the_other_calls_go_on(server: AmiServer, words: str | None) -> None:
    async with exchange(server, action_timeout=1.0) as on:
        _, leg = await on.call()
        channel, other = await on.call()
        server.turns_away = True
        server.cut()
        await until(lambda: on.events(leg))
        with pytest.raises(Unavailable):
            await leg.reject(486)
        server.script("PJSIPHangup", silence if words is None else lambda action: failure(action, words))
        server.turns_away = False
        await until(lambda: server.named("PJSIPHangup"))
        await other.ring()
        assert channel.context == "roomline-ring"
        await asyncio.sleep(5.0)
        assert on.events(other) == [ControlLost(), ControlBack()]


async def test_given_a_controller_that_was_stopped_then_it_looks_before_it_says_anything(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        gone, vanished = await on.call()
        del server.channels[gone.name]
        server.actions.clear()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, TimeTravelLoop)
        loop.jump(AWAY + 0.5)  # SIGSTOP: nothing of ours ran
        await leg.ring()
        names = [action.name for action in server.actions if action.name != "Ping"]
        assert names.index("Getvar") < names.index("Status") < names.index("Redirect")
        async with asyncio.timeout(1.0):
            await vanished.ended()
        assert channel.context == "roomline-ring"


@pytest.mark.parametrize("when", ["Status", "ROOMLINE_FACTS", "ROOMLINE_HEADERS", NOTE, f"{NOTE}_1_0"])
async def test_given_a_call_announced_while_it_is_being_found_then_there_is_one_leg(server: AmiServer, when: str) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        found = a_channel(server)
        found.variables |= in_note("note")

        def answer(action: AmiAction) -> bytes | None:
            if when in (action.name, action["Variable"]):
                announce(server, found)
            return server.well_behaved(action)

        server.script("Status", answer)
        server.script("Getvar", answer)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, TimeTravelLoop)
        loop.jump(AWAY + 0.5)
        # Not the reader of events looks here, but who has something to say: the two may meet.
        await leg.ring()
        await asyncio.sleep(0.05)
        assert [leg.id for leg in on.legs][1:] == [found.unique_id]
