"""The heartbeat that keeps calls from the fallback and says who commands, and the lease of calls whose sound is at a node."""

import asyncio
from collections.abc import Sequence

import pytest

from bridge.errors import Superseded, Unavailable
from bridge.model.ending import EndReason
from bridge.model.media_address import MediaAddress
from bridge.pbx.asterisk.pbx import HEARTBEAT, LIMIT
from bridge.pbx.port import ControlLost, MediaLost
from bridge.testing.ami_server import AmiAction, AmiServer, failure
from tests.pbx.asterisk.stage import a_channel, announce, exchange, until

ADDRESS = MediaAddress("127.0.0.1", 9092, "7b4c1d9e-0000-4000-8000-000000000001", 8000)


def beats(server: AmiServer) -> list[list[str]]:
    """Epoch, controller and count of each heartbeat that was set."""
    return [action["Value"].split(":") for action in server.named("Setvar") if action["Variable"] == HEARTBEAT]


# The heartbeat, and who commands


async def test_given_a_heart_then_it_beats_every_second_with_an_epoch_above_the_last(server: AmiServer) -> None:
    server.variables[HEARTBEAT] = "7:deadbeef:99"
    async with exchange(server) as on:
        await asyncio.sleep(60.0)
        counts = [int(count) for _, _, count in beats(server)]
        assert counts == list(range(1, len(counts) + 1))
        assert 59 <= len(counts) <= 62
        assert {epoch for epoch, _, _ in beats(server)} == {"8"}
        assert len({controller for _, controller, _ in beats(server)} - {"deadbeef"}) == 1
        assert server.variables[HEARTBEAT].startswith("8:")
        assert (await on.pbx.health()).connected


@pytest.mark.parametrize("garbage", ["", "x", ":::", "²:a:1", "-5:a:1", "9" * 900 + ":a:1", "9" * 5000, "😀", "1e9:a:1"])
async def test_given_a_heartbeat_that_is_none_then_we_take_over_all_the_same(server: AmiServer, garbage: str) -> None:
    server.variables[HEARTBEAT] = garbage
    async with exchange(server) as on:
        _, leg = await on.call()
        await leg.ring()
        await asyncio.sleep(5.0)
        assert len(beats(server)) > 4
        assert server.variables[HEARTBEAT] != garbage


async def test_given_an_asterisk_that_forgot_the_heartbeat_then_we_go_on_in_our_epoch(server: AmiServer) -> None:
    server.variables[HEARTBEAT] = "7:deadbeef:99"
    async with exchange(server):
        server.variables.clear()
        await asyncio.sleep(2.0)
        assert server.variables[HEARTBEAT].startswith("8:")


@pytest.mark.parametrize("newer", ["9:aaaaaaaa:1", "8:zzzzzzzz:1"])
async def test_given_a_newer_controller_then_this_one_says_nothing_more_and_ends(server: AmiServer, newer: str) -> None:
    server.variables[HEARTBEAT] = "7:deadbeef:99"
    async with exchange(server) as on:
        _, leg = await on.call()
        server.variables[HEARTBEAT] = newer
        server.actions.clear()
        with pytest.raises(Superseded):
            await on.running
        assert [action.name for action in server.actions if action.name != "Ping"] == ["Getvar"]
        assert server.variables[HEARTBEAT] == newer
        with pytest.raises(Superseded):
            await leg.ring()
        with pytest.raises(Superseded):
            await leg.hang_up(EndReason.SHUTDOWN)
        assert on.said() == []
        await asyncio.sleep(0.05)
        assert on.events(leg) == [ControlLost()]
        assert server.open_connections == 0
        on.running = asyncio.create_task(asyncio.sleep(0))


async def test_given_an_older_controller_that_writes_once_more_then_we_stay(server: AmiServer) -> None:
    server.variables[HEARTBEAT] = "7:deadbeef:99"
    async with exchange(server):
        server.variables[HEARTBEAT] = "7:deadbeef:100"
        await asyncio.sleep(2.0)
        assert server.variables[HEARTBEAT].startswith("8:")


async def test_given_two_controllers_then_the_second_has_the_calls_and_the_first_lets_go(server: AmiServer) -> None:
    async with exchange(server) as first:
        channel, leg = await first.call()
        await leg.remember("the story so far")
        async with exchange(server) as second:
            await until(lambda: second.legs)
            assert (second.legs[0].id, second.legs[0].note) == (channel.unique_id, "the story so far")
            with pytest.raises(Superseded):
                await first.running
            await second.legs[0].ring()
            assert channel.context == "roomline-ring"
        first.running = asyncio.create_task(asyncio.sleep(0))


async def test_given_a_user_that_may_not_beat_then_the_pbx_counts_as_unavailable(server: AmiServer) -> None:
    server.script("Setvar", lambda action: failure(action, "Permission denied"))
    async with exchange(server, up=False) as on:
        channel = a_channel(server)
        await asyncio.sleep(2.0)
        announce(server, channel)
        await until(lambda: on.legs)
        with pytest.raises(Unavailable, match="Permission denied"):
            await on.legs[0].ring()
        assert on.said() == []


# The media lease


def renewals(server: AmiServer) -> Sequence[tuple[str, str]]:
    return [(action["Channel"], action["Timeout"]) for action in server.named("AbsoluteTimeout")]


async def test_given_calls_with_their_sound_at_a_node_then_only_their_leases_are_renewed(server: AmiServer) -> None:
    async with exchange(server, media_lease=9) as on:
        await on.call()
        channel, leg = await on.call()
        await leg.connect(ADDRESS)
        await asyncio.sleep(30.0)
        assert 9 <= len(renewals(server)) <= 11
        assert set(renewals(server)) == {(channel.name, "9")}
        leg.set_media_lease(600)
        await asyncio.sleep(3.5)
        assert renewals(server)[-1] == (channel.name, "600")


@pytest.mark.parametrize("end", ["media lost", "fallback", "transfer", "hangup"])
async def test_given_a_call_that_left_its_node_then_no_lease_is_renewed(server: AmiServer, end: str) -> None:
    async with exchange(server, media_lease=3) as on:
        channel, leg = await on.call()
        await leg.connect(ADDRESS)
        transferring: asyncio.Task[object] | None = None
        match end:
            case "media lost":
                server.user_event(channel, "RoomlineMediaLost", {"Token": ADDRESS.token})
                await until(lambda: MediaLost() in on.events(leg))
            case "fallback":
                await leg.fall_back()
            case "transfer":
                transferring = asyncio.create_task(leg.transfer("sip:a@example.net", {}))
                await asyncio.sleep(0.01)
            case _:
                server.channel_event(channel, "HangupRequest")
                await leg.ended()
        before = len(renewals(server))
        await asyncio.sleep(20.0)
        assert len(renewals(server)) == before
        if transferring is not None:
            transferring.cancel()


async def test_given_a_lease_that_cannot_be_renewed_then_the_others_are_and_the_controller_lives(server: AmiServer) -> None:
    async with exchange(server, media_lease=3, action_timeout=0.5) as on:
        channels = []
        for _ in range(3):
            channel, leg = await on.call()
            await leg.connect(ADDRESS)
            channels.append(channel.name)

        def answer(action: AmiAction) -> bytes | None:
            return None if action["Channel"] == channels[0] else server.well_behaved(action)

        server.script("AbsoluteTimeout", answer)
        await asyncio.sleep(10.0)
        told = [channel for channel, _ in renewals(server)]
        assert min(told.count(channel) for channel in channels) >= 6


async def test_given_a_call_taken_over_with_its_sound_then_its_lease_is_renewed_and_its_loss_is_told(server: AmiServer) -> None:
    channel = a_channel(server, "roomline-media")
    channel.variables |= {"ROOMLINE_MEDIA": f"{ADDRESS.token},127.0.0.1:9092,8000,30"}
    async with exchange(server) as on:
        (leg,) = on.legs
        leg.set_media_lease(30)
        await asyncio.sleep(10.0)
        assert {action["Timeout"] for action in server.named("AbsoluteTimeout")} == {"30"}
        server.user_event(channel, "RoomlineMediaLost", {"Token": ADDRESS.token})
        await until(lambda: on.events(leg))
        assert on.events(leg) == [MediaLost()]


@pytest.mark.parametrize(("left", "told"), [("2.4", ["9"]), ("26.1", []), ("0", []), ("", [])])
async def test_given_a_lease_that_ran_on_while_nobody_commanded_then_it_is_renewed_at_once_unless_it_is_longer(
    server: AmiServer, left: str, told: list[str]
) -> None:
    channel = a_channel(server, "roomline-media")
    channel.variables |= {"ROOMLINE_MEDIA": f"{ADDRESS.token},127.0.0.1:9092,8000,9", LIMIT: left}
    async with exchange(server, media_lease=9):
        await asyncio.sleep(1.0)
        assert [seconds for _, seconds in renewals(server)] == told


async def test_given_a_transfer_that_cannot_be_told_then_the_lease_is_renewed_as_before(server: AmiServer) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        await leg.connect(ADDRESS)
        server.script("Redirect", lambda action: failure(action, "Permission denied"))
        with pytest.raises(Unavailable):
            await leg.transfer("sip:a@example.net", {})
        before = len(server.named("AbsoluteTimeout"))
        await asyncio.sleep(10.0)
        assert len(server.named("AbsoluteTimeout")) > before


async def test_given_a_transfer_whose_result_came_while_we_were_away_then_it_is_read_afterwards(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        transferring = asyncio.create_task(leg.transfer("sip:a@example.net", {}))
        await server.until(lambda: server.named("Redirect"))
        server.cut()
        channel.context = "roomline-watch"
        channel.variables["ROOMLINE_TRANSFERRED"] = "FAILURE 603"
        result = await transferring
        assert (result.ok, result.sip_status) == (False, 603)
