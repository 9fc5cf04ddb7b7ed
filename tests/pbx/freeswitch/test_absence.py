"""Absences: the connection lost and back, a controller that was stopped, one that is newer; and the leases that carry calls over them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.errors import Superseded, Unavailable
from bridge.model.ending import EndedBy, EndReason
from bridge.pbx.freeswitch.leg import LEASE
from bridge.pbx.port import ControlBack, ControlLost, Leg
from bridge.testing.freeswitch import EslCommand, FreeSwitchServer, api_response
from bridge.testing.freeswitch_channel import SwitchChannel
from tests.pbx.freeswitch.stage import a_node, exchange, until


async def test_given_a_call_then_there_is_a_lease_at_every_moment_and_the_newest_alone_stays(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, _ = await on.call()
        assert on.leases(channel) == [f"uuid_transfer {channel.unique_id} 9000 XML default"]
        assert server.named("sched_api")[-1].arguments.startswith(f"+{LEASE} ")
        on.pbx._legs[channel.unique_id].leased_at = float("-inf")
        before = len(server.named("sched_api"))
        await until(lambda: len(server.named("sched_api")) > before)
        await until(lambda: len(on.leases(channel)) == 1)
        names = [command.name for command in server.commands if command.name in ("sched_api", "sched_del")]
        assert names[-2:] == ["sched_api", "sched_del"], "first the new one, then the end of the old"


async def test_given_a_lease_whose_answer_was_lost_then_none_is_left_that_comes_due_in_the_middle_of_the_call(
    server: FreeSwitchServer,
) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        held = on.pbx._legs[leg.id]
        server.delay = 0.1
        renewing = asyncio.create_task(on.pbx.lease(held))
        await until(lambda: len(on.leases(channel)) == 2)
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        server.delay = 0.0
        await on.pbx.lease(held)
        assert len(on.leases(channel)) == 1


async def test_given_leases_renewed_at_once_then_one_stays(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        held = on.pbx._legs[leg.id]
        await asyncio.gather(*(on.pbx.lease(held) for _ in range(10)))
        assert len(on.leases(channel)) == 1


async def test_given_another_commands_answer_to_a_lease_then_the_connection_is_given_up_for_a_new_one(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        held = on.pbx._legs[leg.id]
        before = len(server.connected_at)
        server.script("sched_api", lambda _command: api_response("+OK Deleted: 1"))
        with pytest.raises(Unavailable, match="refused a lease"):
            await on.pbx.lease(held)
        server.script("sched_api", None)
        await server.until(lambda: len(server.connected_at) > before)
        await until(lambda: len(on.leases(channel)) == 1)


async def _hang_up(channel: SwitchChannel, leg: Leg) -> None:
    channel.caller_hangs_up()
    await leg.ended()


ENDS: dict[str, Callable[[SwitchChannel, Leg], Awaitable[object]]] = {
    "hung up by us": lambda _, leg: leg.hang_up(EndReason.REQUESTED),
    "rejected by us": lambda _, leg: leg.reject(486),
    "sent to the fallback": lambda _, leg: leg.fall_back(),
    "hung up by the caller": _hang_up,
}


@pytest.mark.parametrize("end", ENDS)
async def test_given_a_call_that_has_just_ended_when_the_server_is_stopped_then_its_lease_has_ended_too(
    server: FreeSwitchServer, end: str
) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.delay = 0.05

        def later(_command: EslCommand) -> bytes:
            """The channel ends a moment after FreeSWITCH has said that it will."""
            asyncio.get_running_loop().call_later(0.1, channel.hang_up, "NORMAL_CLEARING")
            return api_response("+OK\n")

        server.script("uuid_kill", later)
        on.pbx._legs[leg.id].leased_at = float("-inf")
        renewing = asyncio.create_task(on.pbx.lease(on.pbx._legs[leg.id]))
        await asyncio.sleep(0)
        await ENDS[end](channel, leg)
        await on.stop()
        await asyncio.gather(renewing, return_exceptions=True)
        assert on.leases(channel) == []


async def test_given_a_connected_call_then_its_lease_is_the_storys(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        _, leg = await on.call()
        leg.set_media_lease(30)
        await leg.connect(node.address)
        assert server.named("sched_api")[-1].arguments.startswith("+30 ")
        await leg.locate()
        on.pbx._legs[leg.id].leased_at = float("-inf")
        before = len(server.named("sched_api"))
        await until(lambda: len(server.named("sched_api")) > before)
        assert server.named("sched_api")[-1].arguments.startswith(f"+{LEASE} "), "music is no talk"


async def test_given_a_controller_that_dies_then_the_lease_takes_the_call_to_the_fallback(
    server: FreeSwitchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.pbx.freeswitch.leg.LEASE", 1)
    async with exchange(server) as on, a_node() as node:
        channel, _ = await on.call()
        talking, leg = await on.call()
        leg.set_media_lease(1)
        await leg.connect(node.address)
        on.running.cancel()
        await until(lambda: channel.context == talking.context == "default")
        assert talking.unicast is None
        on.running = asyncio.create_task(asyncio.sleep(60))
        on.running.cancel()


async def test_given_no_controller_then_the_dialplans_own_lease_takes_the_call(server: FreeSwitchServer) -> None:
    channel = server.calls.call()
    await until(lambda: channel.context == "default")


async def test_given_a_lost_connection_when_it_is_back_then_calls_go_on(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        server.cut()
        await until(lambda: on.events(leg) == [ControlLost(), ControlBack()])
        channel.press("4")
        await until(lambda: len(on.events(leg)) == 3)
        await leg.send_digits("1")
        assert len(on.legs) == 1
        assert channel.unicast is not None


async def test_given_no_connection_then_commands_are_unavailable_until_it_is_back(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        server.turns_away = True
        server.cut()
        await until(lambda: on.events(leg) == [ControlLost()])
        with pytest.raises(Unavailable):
            await leg.ring()
        server.turns_away = False
        await until(lambda: on.events(leg)[-1] == ControlBack())
        await leg.ring()


async def test_given_what_happened_while_nobody_listened_then_it_is_found(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        gone, gone_leg = await on.call()
        fallen, fallen_leg = await on.call()
        taken, taken_leg = await on.talking(node)
        answered, answered_leg = await on.call()
        server.turns_away = True
        server.cut()
        await until(lambda: not on.pbx._wire.connected)
        gone.caller_hangs_up()
        fallen.transfer("9000", "XML", "default")
        taken.transfer("2000", "XML", "desk")
        answered.answer()
        new = server.calls.call()
        server.turns_away = False
        assert (await gone_leg.ended()).by is EndedBy.CALLER
        assert (await fallen_leg.ended()).fell_back
        assert (await taken_leg.ended()).taken_away
        await until(lambda: answered_leg.answered and on.legs[-1].id == new.unique_id)
        await until(lambda: not on.leases(taken))


@pytest.mark.parametrize("how", ["reject", "hang_up", "fall_back"])
async def test_given_an_end_that_could_not_be_told_then_it_comes_with_the_connection(server: FreeSwitchServer, how: str) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.turns_away = True
        server.cut()
        await until(lambda: not on.pbx._wire.connected)
        command = {"reject": lambda: leg.reject(486), "fall_back": leg.fall_back}.get(how)
        with pytest.raises(Unavailable):
            await (command() if command is not None else leg.hang_up(None))  # type: ignore[arg-type]  # no reason is sent
        server.turns_away = False
        ending = await leg.ended()
        assert ending.fell_back == (how == "fall_back")
        assert (channel.ended != "") == (how != "fall_back")


async def test_given_a_restarted_freeswitch_then_its_calls_have_ended(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        _, leg = await on.talking(node)
        server.restart()
        assert (await leg.ended()).by is EndedBy.CALLER
        await on.call()


async def test_given_a_newer_controller_then_the_older_one_stops_commanding(server: FreeSwitchServer) -> None:
    async with exchange(server) as old:
        channel, leg = await old.call()
        async with exchange(server) as new:
            with pytest.raises(Superseded):
                await old.running
            with pytest.raises(Superseded):
                await leg.ring()
            assert old.events(leg)[-1] == ControlLost()
            await until(lambda: [each.id for each in new.legs] == [channel.unique_id])
            await new.legs[0].ring()
        old.running = asyncio.create_task(asyncio.sleep(60))
        old.running.cancel()


async def test_given_two_that_start_at_once_then_one_of_them_stays(server: FreeSwitchServer) -> None:
    async with exchange(server) as first, exchange(server) as second:
        await until(lambda: first.running.done() != second.running.done())
        await asyncio.sleep(0.5)
        assert first.running.done() != second.running.done()
        for on in (first, second):
            if on.running.done():
                assert isinstance(on.running.exception(), Superseded)
                on.running = asyncio.create_task(asyncio.sleep(60))
                on.running.cancel()


async def test_given_a_controller_that_was_stopped_then_it_looks_before_it_says_anything(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        on.pbx._beat_at = float("-inf")
        server.calls.variables["roomline_heartbeat"] = "99:zz:1"
        with pytest.raises(Superseded):
            await leg.ring()
        assert channel.said == []
        with pytest.raises(Superseded):
            await on.running
        on.running = asyncio.create_task(asyncio.sleep(60))
        on.running.cancel()


async def test_given_a_heartbeat_then_it_counts_on(server: FreeSwitchServer) -> None:
    async with exchange(server):
        first = server.calls.variables["roomline_heartbeat"].split(":")
        await until(lambda: server.calls.variables["roomline_heartbeat"].split(":")[2] != first[2])
        second = server.calls.variables["roomline_heartbeat"].split(":")
        assert first[:2] == second[:2]
        assert first[0] == "1"


async def test_given_a_ringing_call_when_its_server_dies_at_any_moment_then_three_seconds_are_left_for_the_next_one(
    server: FreeSwitchServer,
) -> None:
    """FreeSWITCH counts whole seconds, the running one among them, and the heart beats once a second."""
    async with exchange(server, beat=1.0) as on:
        channel, leg = await on.call()
        await leg.ring()
        left = []
        for _ in range(90):
            left.append(server.calls.seconds_left(f"roomline-{channel.unique_id}"))
            await asyncio.sleep(0.05)
        assert 3.0 < min(left) < max(left) <= LEASE
