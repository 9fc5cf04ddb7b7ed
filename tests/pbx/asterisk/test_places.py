"""Calls that somebody at the PBX moves elsewhere, out of our contexts or into a bridge of theirs: noticed, ended, and left to them."""

import asyncio

import pytest
from panoramisk.message import Message

from bridge.errors import LegGone, Unavailable
from bridge.model.media_address import MediaAddress
from bridge.pbx.asterisk.places import Place, Places
from bridge.pbx.asterisk.wire import Event
from bridge.pbx.port import ControlBack, ControlLost, Leg, MediaLost
from bridge.testing.ami_server import AmiChannel, AmiServer, failure
from tests.pbx.asterisk.stage import Exchange, a_channel, encoded, exchange, in_note, until
from tests.pbx.asterisk.test_absence import cut_and_back

ADDRESS = MediaAddress("127.0.0.1", 9092, "7b4c1d9e-0000-4000-8000-000000000001", 8000)
MEDIA = {"ROOMLINE_MEDIA": f"{ADDRESS.token},127.0.0.1:9092,8000,30", "TIMEOUT(absolute)": "27.765"}


def status(name: str = "PJSIP/a-1", context: str = "roomline-media", bridge: str = "", application: str = "", limit: str = "0") -> Event:
    facts = {"Uniqueid": name, "Channel": name, "Context": context, "BridgeID": bridge, "Application": application, "TimeToHangup": limit}
    return Event(Message({"Event": "Status", **facts}))


OTHER, SOCKET = status("PJSIP/b-2", "lab", "b"), status("AudioSocket/127.0.0.1:9092-7b4c", "default", "b", "AppDial")


@pytest.mark.parametrize(
    ("channel", "others", "place"),
    [
        (status(application="AudioSocket", limit="1795445339"), [], Place.OURS),
        (status(context="roomline-watch"), [], Place.OURS),
        (status(bridge="b", application="Dial", limit="1795445339"), [SOCKET], Place.OURS),
        (status(bridge="b", application="Dial", limit="1795445339"), [], Place.OURS),
        (status(bridge="b", application="(null)", limit="1795445339"), [OTHER], Place.TAKEN),
        (status(bridge="b", application="Dial", limit="1795445339"), [OTHER], Place.TAKEN),
        (status(bridge="b", application="(null)"), [], Place.TAKEN),
        (status(context="lab", application="Milliwatt", limit="1795445339"), [], Place.TAKEN),
        (status(context="roomline-fallback"), [], Place.FALLBACK),
        (status(context="operator"), [], Place.FALLBACK),
        (status(context=""), [OTHER, SOCKET], Place.FALLBACK),
    ],
)
def test_given_a_channel_as_asterisk_tells_of_it_then_it_is_known_whose_it_is(channel: Event, others: list[Event], place: Place) -> None:
    places = Places([*others, channel])
    assert places.place(channel) is place
    assert (channel in places.ours()) == (place is Place.OURS)


def test_given_a_wideband_caller_alone_in_a_bridge_when_the_audio_is_long_gone_then_it_is_somebody_elses() -> None:
    channel = status(bridge="b", application="Dial", limit="1795445339")
    assert Places([channel]).place(channel, audio_gone=True) is Place.TAKEN


async def talking(on: Exchange) -> tuple[AmiChannel, Leg]:
    channel, leg = await on.call()
    await leg.connect(ADDRESS)
    channel.state, channel.context, channel.hangs_up_at = 6, "roomline-media", 1795445339
    channel.variables |= MEDIA
    return channel, leg


def limits_lifted(on: Exchange) -> list[str]:
    return [action["Channel"] for action in on.said("Setvar") if action["Variable"] == "TIMEOUT(absolute)" and action["Value"] == "0"]


async def test_given_a_call_that_was_redirected_when_it_is_looked_for_then_it_has_ended_and_nothing_of_ours_is_left_on_it(
    server: AmiServer,
) -> None:
    async with exchange(server) as on:
        channel, leg = await talking(on)
        channel.context = "lab"
        await leg.locate()
        ending = await leg.ended()
        assert (ending.taken_away, ending.fell_back) == (True, False)
        await until(lambda: limits_lifted(on) == [channel.name])
        channel.hangs_up_at = 0
        said = len(on.said("AbsoluteTimeout", "Redirect", "Hangup", "Setvar"))
        with pytest.raises(LegGone):
            await leg.locate()
        with pytest.raises(LegGone):
            await leg.fall_back()
        await asyncio.sleep(30.0)
        await cut_and_back(on)
        assert len(on.said("AbsoluteTimeout", "Redirect", "Hangup", "Setvar")) == said
        assert on.legs == [leg]


async def test_given_a_call_that_was_redirected_when_the_server_is_stopped_right_then_then_nothing_of_ours_is_left_on_it(
    server: AmiServer,
) -> None:
    async with exchange(server) as on:
        channel, leg = await talking(on)
        channel.context = "lab"
        await leg.locate()
        await on.stop()
        assert limits_lifted(on) == [channel.name]


async def test_given_a_call_that_was_bridged_when_that_ends_then_it_is_the_operators(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await talking(on)
        channel.bridge, channel.application = "b", "(null)"
        other = a_channel(server)
        other.context, other.bridge = "lab", "b"
        await leg.locate()
        assert (await leg.ended()).taken_away
        await until(lambda: limits_lifted(on) == [channel.name])
        await cut_and_back(on)
        assert on.legs == [leg], "its context is ours, the call is not"
        channel.bridge, channel.context = "", "roomline-lost"
        server.user_event(channel, "RoomlineMediaLost", {"Token": ADDRESS.token})
        await until(lambda: on.said("Redirect")[-1]["Context"] == "roomline-fallback")
        assert on.said("Redirect")[-1]["Channel"] == channel.name
        assert on.legs == [leg]


async def test_given_a_call_that_is_where_it_was_when_it_is_looked_for_then_its_audio_is_lost(server: AmiServer) -> None:
    async with exchange(server) as on:
        _, leg = await talking(on)
        await leg.locate()
        await until(lambda: on.events(leg) == [MediaLost()])
        await leg.connect(ADDRESS)
        assert limits_lifted(on) == []


async def test_given_a_call_that_fell_back_when_it_is_looked_for_then_it_has_ended_so(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await talking(on)
        channel.context, channel.hangs_up_at = "operator", 0
        await leg.locate()
        assert (await leg.ended()).fell_back
        assert limits_lifted(on) == []


async def test_given_a_channel_that_is_no_more_or_a_pbx_that_refuses_when_it_is_looked_for_then_that_is_said(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await talking(on)
        del server.channels[channel.name]
        with pytest.raises(Unavailable, match="gone"):
            await leg.locate()
        server.script("Status", lambda action: failure(action, "Permission denied"))
        with pytest.raises(Unavailable, match="Permission denied"):
            await leg.locate()
        assert on.events(leg) == []


async def test_given_a_call_that_was_moved_while_the_pbx_could_not_be_heard_then_it_is_found_taken(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await talking(on)
        _, other = await talking(on)
        channel.context = "lab"
        await cut_and_back(on)
        assert (await leg.ended()).taken_away
        await until(lambda: limits_lifted(on) == [channel.name])
        assert on.events(other) == [ControlLost(), ControlBack()]


@pytest.mark.parametrize(
    ("context", "variables", "lifted"),
    [
        ("lab", MEDIA, True),
        ("lab", MEDIA | {"TIMEOUT(absolute)": "3599.2"}, False),
        ("lab", {"TIMEOUT(absolute)": "20.5"}, False),
        ("lab", MEDIA | {"TIMEOUT(absolute)": "nonsense"}, False),
        ("lab", MEDIA | {"ROOMLINE_MEDIA": "😀"}, False),
        ("roomline-media", MEDIA, False),
    ],
)
async def test_given_a_channel_moved_elsewhere_before_our_start_then_no_limit_of_ours_stays_on_it(
    server: AmiServer, context: str, variables: dict[str, str], lifted: bool
) -> None:
    channel = a_channel(server)
    channel.state, channel.context, channel.hangs_up_at = 6, context, 1795445339
    channel.variables |= variables
    async with exchange(server) as on:
        await asyncio.sleep(5.0)
        assert limits_lifted(on) == ([channel.name] if lifted else [])


async def test_given_a_call_in_somebodys_bridge_at_our_start_when_that_ends_then_it_goes_on_by_its_note(server: AmiServer) -> None:
    channel, other = a_channel(server), a_channel(server)
    channel.state, channel.context, channel.bridge, channel.application = 6, "roomline-media", "b", "(null)"
    channel.variables |= MEDIA | in_note("talking") | {"ROOMLINE_FACTS": encoded(number="1", called="2")}
    other.context, other.bridge = "lab", "b"
    async with exchange(server) as on:
        await asyncio.sleep(5.0)
        assert on.legs == []
        channel.context, channel.bridge = "roomline-lost", ""
        server.user_event(channel, "RoomlineMediaLost", {"Token": ADDRESS.token})
        await until(lambda: on.legs)
        assert (on.legs[0].id, on.legs[0].note) == (channel.unique_id, "talking")
