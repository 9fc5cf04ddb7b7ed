"""What happens on a call, as a scripted Asterisk tells it, and what it is told as."""

import asyncio

import pytest

from bridge.model.ending import EndedBy, Ending
from bridge.pbx.asterisk.leg import AsteriskLeg
from bridge.pbx.leg_events import EVENTS_KEPT
from bridge.pbx.port import Digit, Held, Leg, MediaLost, Resumed
from bridge.testing.ami_server import AmiAction, AmiChannel, AmiServer
from tests.pbx.asterisk.stage import Exchange, a_channel, announce, exchange, until


async def settle() -> None:
    """Until everything that was sent has been read and understood."""
    await asyncio.sleep(0.01)


def moved_to(action: AmiAction) -> tuple[str, str, str, str]:
    return action["Channel"], action["Context"], action["Exten"], action["Priority"]


async def test_given_a_key_press_then_it_is_told_once_however_long_and_whose_it_is(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        for digit in "5#*a":
            server.channel_event(channel, "DTMFBegin", {"Digit": digit, "Direction": "Received"})
            server.channel_event(channel, "DTMFEnd", {"Digit": digit, "DurationMs": 120, "Direction": "Received"})
        server.channel_event(channel, "DTMFBegin", {"Digit": "9", "Direction": "Sent"})
        server.channel_event(channel, "DTMFEnd", {"Digit": "9", "DurationMs": 120, "Direction": "Sent"})
        await settle()
        assert on.events(leg) == [Digit("5"), Digit("#"), Digit("*"), Digit("A")]


async def test_given_a_storm_of_digits_that_nobody_reads_then_they_are_bounded_and_nothing_else_is_lost(server: AmiServer) -> None:
    async with exchange(server) as on:
        on.pbx.legs()
        channel = a_channel(server)
        leg = (await on.call(channel))[1]
        # One write is one read: the reader has its turn only afterwards.
        for _ in range(3 * EVENTS_KEPT):
            leg.happened(Digit("1"))  # type: ignore[attr-defined]  # the adapter's own face, not the port's
        leg.happened(MediaLost())  # type: ignore[attr-defined]  # as above
        await until(lambda: MediaLost() in on.events(leg))
        assert on.events(leg) == [Digit("1")] * EVENTS_KEPT + [MediaLost()]


async def test_given_hold_resume_and_a_new_name_then_all_are_followed(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.channel_event(channel, "Hold", {"MusicClass": "default"})
        server.channel_event(channel, "Unhold")
        server.channel_event(channel, "Rename", {"Newname": "PJSIP/carrier-b-00000077"})
        await settle()
        assert on.events(leg) == [Held(), Resumed()]
        server.channels["PJSIP/carrier-b-00000077"] = channel
        await leg.ring()
        assert on.said("Redirect")[0]["Channel"] == "PJSIP/carrier-b-00000077"


async def test_given_state_up_then_the_call_is_answered_and_not_before(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.channel_event(channel, "Newstate", {"ChannelState": 5, "ChannelStateDesc": "Ringing"})
        await settle()
        assert not leg.answered
        channel.state = 6
        server.channel_event(channel, "Newstate")
        await settle()
        assert leg.answered


@pytest.mark.parametrize(
    ("answered", "headers", "ending"),
    [
        # a2_hangup: a CANCEL, a BYE without a reason, a phone that vanished.
        (False, {"Cause": 127, "TechCause": 487}, Ending(EndedBy.CALLER, "cause 127", 487)),
        (False, {}, Ending(EndedBy.CALLER, "cause 0", 487)),
        (False, {"Cause": 127, "TechCause": "9" * 5000}, Ending(EndedBy.CALLER, "cause 127", 487)),
        (True, {}, Ending(EndedBy.CALLER, "cause 0", None)),
        (True, {"Cause": 16, "Cause-txt": "Normal Clearing", "TechCause": 200}, Ending(EndedBy.CALLER, "Normal Clearing", None)),
    ],
)
async def test_given_a_hangup_request_then_the_caller_has_ended_it_and_the_minutes_until_hangup_count_for_nothing(
    server: AmiServer, answered: bool, headers: dict[str, object], ending: Ending
) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        if answered:
            channel.state = 6
            server.channel_event(channel, "Newstate")
        server.channel_event(channel, "HangupRequest", headers)
        assert await leg.ended() == ending
        assert on.pbx._legs == {}
        server.channel_event(channel, "SoftHangupRequest", {"Cause": 16, "TechCause": 487})
        server.user_event(channel, "RoomlineFellBack")
        server.channel_event(channel, "Hangup", {"Cause": 17, "Cause-txt": "User busy"})
        server.channel_event(channel, "DTMFEnd", {"Digit": "1", "Direction": "Received"})
        await settle()
        assert await leg.ended() == ending
        assert on.events(leg) == []
        # Nothing is kept of a call that is over.
        assert (on.pbx._legs, on.pbx._lingering) == ({}, set())


@pytest.mark.parametrize("event", ["SoftHangupRequest", "Hangup"])
async def test_given_an_end_that_neither_the_caller_nor_we_asked_for_then_it_was_the_pbx(server: AmiServer, event: str) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.channel_event(channel, event, {"Cause": 34, "Cause-txt": "Circuit/channel congestion", "TechCause": "503"})
        assert await leg.ended() == Ending(EndedBy.PBX, "Circuit/channel congestion", 503)


async def falls_back(on: Exchange, channel: AmiChannel, leg: Leg) -> None:
    on.server.user_event(channel, "RoomlineFellBack", {"Answered": "Ring"})
    ending = await leg.ended()
    assert (ending.by, ending.fell_back) == (EndedBy.PBX, True)


async def test_given_a_call_that_falls_back_then_we_are_done_with_it_until_it_is_sent_in_again(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await leg.fall_back()
        assert moved_to(on.said()[0]) == (channel.name, "roomline-fallback", "s", "1")
        await falls_back(on, channel, leg)
        server.channel_event(channel, "DTMFEnd", {"Digit": "1", "Direction": "Received"})
        announce(server, channel)
        await until(lambda: len(on.legs) == 2)
        assert on.legs[1] is not leg
        server.channel_event(channel, "HangupRequest")
        assert (await on.legs[1].ended()).by is EndedBy.CALLER
        assert (await leg.ended()).fell_back
        assert on.events(leg) == []


async def test_given_a_lease_that_ran_out_then_the_fallback_is_told_without_our_asking(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await falls_back(on, channel, leg)
        assert on.said() == []


async def test_given_many_who_wait_for_the_end_then_each_is_told_also_after_one_gives_up(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await leg.ended()
        waiting = [asyncio.create_task(leg.ended()) for _ in range(3)]
        server.channel_event(channel, "HangupRequest")
        assert {ending.by for ending in await asyncio.gather(*waiting)} == {EndedBy.CALLER}


async def test_given_a_call_that_ends_then_its_events_end_after_the_last_of_them(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.channel_event(channel, "DTMFEnd", {"Digit": "1", "Direction": "Received"})
        await settle()
        assert on.over == set()
        server.channel_event(channel, "DTMFEnd", {"Digit": "2", "Direction": "Received"})
        server.channel_event(channel, "HangupRequest")
        await settle()
        assert on.over == {leg.id}
        assert on.events(leg) == [Digit("1"), Digit("2")]


async def test_given_two_endings_at_once_then_the_first_counts(server: AmiServer) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        assert isinstance(leg, AsteriskLeg)
        leg.fell_back()
        leg.hung_up(by_caller=True, cause="too late")
        assert (await leg.ended()).fell_back
