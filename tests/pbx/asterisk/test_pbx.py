"""One Asterisk, scripted: calls found and found again, and whatever else it may tell."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.model.ending import EndedBy, Ending
from bridge.pbx.asterisk.notes import NOTE
from bridge.pbx.asterisk.pbx import HEARTBEAT
from bridge.pbx.asterisk.places import CONTEXTS
from bridge.testing.ami_server import AmiAction, AmiChannel, AmiServer, message
from bridge.testing.time_travel import PATIENCE, travel
from tests.pbx.asterisk.stage import SECRET, a_channel, announce, exchange, in_note, until

# New calls


async def test_given_a_parked_call_then_there_is_a_leg_with_all_that_is_known(server: AmiServer) -> None:
    async with exchange(server, trusted_endpoints={"carrier-a": "ST_1"}) as on:
        channel, leg = await on.call(name="Ada, Endpoint: evil 😀\r\n\0")
        assert (leg.id, leg.pbx, leg.note, leg.answered) == (channel.unique_id, "hq", None, False)
        assert leg.caller.display_name == "Ada, Endpoint: evil 😀\r\n\0"
        assert (leg.caller.number, leg.caller.called, leg.caller.trunk_id) == ("+15550123", "+15550100", "ST_1")
        assert (leg.caller.endpoint, leg.caller.source_address) == ("carrier-a", "203.0.113.7")
        assert leg.caller.headers == {"X-Ticket": "42"}


async def test_given_a_name_of_64_kb_then_the_call_comes_and_so_does_the_next(server: AmiServer) -> None:
    async with exchange(server) as on:
        assert (await on.call(name="😀" * 16_384))[1].caller.display_name == "😀" * 16_384
        assert (await on.call())[1].caller.display_name == "Ada 😀"


async def test_given_a_call_announced_twice_then_there_is_one_leg(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        announce(server, channel)
        await asyncio.sleep(0.05)
        assert on.legs == [leg]


async def test_given_a_call_that_ended_before_anybody_took_it_then_it_is_given_out_for_its_record(server: AmiServer) -> None:
    async with exchange(server) as on:
        gone = a_channel(server)
        announce(server, gone)
        server.channel_event(gone, "HangupRequest")
        _, leg = await on.call()
        first, second = on.legs
        assert second is leg
        assert (await first.ended()).by is EndedBy.CALLER


async def test_given_events_of_calls_that_are_not_ours_then_nothing_comes_of_them(server: AmiServer) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        stranger = AmiChannel("PJSIP/other-00000001", "1795320000.1", "from-internal")
        server.channel_event(stranger, "DTMFEnd", {"Digit": "1", "Direction": "Received"})
        server.channel_event(stranger, "HangupRequest")
        server.user_event(stranger, "RoomlineFellBack")
        server.user_event(stranger, "SomethingElse", {"Facts": "number=1"})
        await asyncio.sleep(0.05)
        assert on.legs == [leg]
        assert on.events(leg) == []


# Adoption


async def test_given_calls_that_are_up_when_we_start_then_those_in_our_contexts_are_taken_with_their_notes(server: AmiServer) -> None:
    ours = {context: a_channel(server, context) for context in sorted(CONTEXTS)}
    ours["roomline-media"].state = 6
    ours["roomline-media"].variables |= in_note("x" * 3000)
    ours["roomline-ring"].variables |= in_note("ringing", 2)
    ours["roomline-watch"].variables[NOTE] = "1x:9"
    for context in ("roomline-fallback", "roomline", "from-internal", ""):
        a_channel(server, context)
    far_end = a_channel(server, "roomline-media")
    server.channels["AudioSocket/127.0.0.1:9092-1"] = AmiChannel(
        "AudioSocket/127.0.0.1:9092-1", "9.9", "roomline-media", 6, far_end.variables
    )
    del server.channels[far_end.name]
    server.channels["Local/1"] = AmiChannel("Local/1", "8.8", "roomline-media")
    async with exchange(server) as on:
        await until(lambda: len(on.legs) == len(CONTEXTS))
        await asyncio.sleep(0.05)
        legs = {leg.id: leg for leg in on.legs}
        assert set(legs) == {channel.unique_id for channel in ours.values()}
        assert legs[ours["roomline-media"].unique_id].note == "x" * 3000
        assert legs[ours["roomline-ring"].unique_id].note == "ringing"
        assert legs[ours["roomline-watch"].unique_id].note is None
        assert [leg.id for leg in on.legs if leg.answered] == [ours["roomline-media"].unique_id]
        assert {leg.caller.number for leg in on.legs} == {"+15550123"}
        # They may be commanded at once.
        await legs[ours["roomline-park"].unique_id].ring()


@pytest.mark.parametrize("when", ["at the start", "when they answer"])
async def test_given_a_callee_whom_nobody_calls_any_more_then_the_call_ends_and_only_one_with_a_note_goes_on(
    server: AmiServer, when: str
) -> None:
    def answered(**variables: str) -> AmiChannel:
        channel = a_channel(server, "roomline-called", outbound="1")
        channel.state = 6
        channel.variables |= variables
        return channel

    if when == "at the start":
        given_up, known = answered(), answered(**in_note("talking"))
    async with exchange(server) as on:
        if when == "when they answer":
            given_up, known = answered(), answered(**in_note("talking"))
            for channel in (given_up, known):
                server.user_event(channel, "RoomlineCalled", {})
        await until(lambda: on.legs and server.named("Hangup"))
        assert [(leg.id, leg.note) for leg in on.legs] == [(known.unique_id, "talking")]
        assert [action["Channel"] for action in server.named("Hangup")] == [given_up.name]


async def test_given_fifty_calls_when_we_start_then_all_are_taken_once_also_those_announced_meanwhile(server: AmiServer) -> None:
    channels = [a_channel(server) for _ in range(50)]

    def announced(action: AmiAction) -> bytes | None:
        if action["Variable"] == "ROOMLINE_FACTS":
            announce(server, server.channels[action["Channel"]])
        return server.well_behaved(action)

    server.script("Getvar", announced)
    async with exchange(server) as on:
        await until(lambda: len(on.legs) == 50)
        await asyncio.sleep(0.5)
        assert sorted(leg.id for leg in on.legs) == sorted(channel.unique_id for channel in channels)


@pytest.mark.parametrize("when", ["Status", "ROOMLINE_FACTS", "ROOMLINE_HEADERS", NOTE, f"{NOTE}_1_2", HEARTBEAT])
async def test_given_a_connection_that_breaks_while_calls_are_taken_then_they_are_taken_after_it(server: AmiServer, when: str) -> None:
    for _ in range(3):
        a_channel(server).variables.update(in_note("x" * 3000))
    breaks = [True]

    def answer(action: AmiAction) -> bytes | None:
        if breaks and when in (action.name, action["Variable"]):
            breaks.clear()
            server.cut()
            return None
        return server.well_behaved(action)

    server.script("Getvar", answer)
    server.script("Status", answer)
    async with exchange(server, up=False) as on:
        await until(lambda: len(on.legs) == 3)
        assert breaks == []
        assert {leg.note for leg in on.legs} == {"x" * 3000}
        await on.call()


# Health, and whatever else comes


async def test_given_health_then_it_says_whether_and_why_not(server: AmiServer) -> None:
    server.refuses_login = True
    async with exchange(server, up=False) as on:
        await server.until(lambda: server.named("Login"))
        await asyncio.sleep(0.05)
        health = await on.pbx.health()
        assert not health.connected
        assert "refused the user 'roomline'" in health.detail
        assert SECRET not in repr(health)
        server.refuses_login = False
        await until(lambda: server.named("Status"))
        health = await on.pbx.health()
        assert (health.connected, health.version, health.detail) == (True, "11.0.0", "")


NAMES = [
    "UserEvent",
    "DTMFEnd",
    "Newstate",
    "Hold",
    "Rename",
    "HangupRequest",
    "Hangup",
    "SoftHangupRequest",
    "Shutdown",
    "Status",
    "",
    "X",
]
USER_EVENTS = ["RoomlineParked", "RoomlineMediaLost", "RoomlineTransferred", "RoomlineFellBack", "Other"]
TEXT = st.one_of(st.text(max_size=30), st.sampled_from(["", "6", "²", "9" * 5000, "%00%0A", "%", "&=&", "1795328054.1", "Received"]))
VALUES = (
    "Channel",
    "Facts",
    "Headers",
    "Digit",
    "Direction",
    "ChannelState",
    "Newname",
    "Cause",
    "TechCause",
    "Token",
    "Status",
    "Protocol",
)
EVENT = st.fixed_dictionaries(
    {"Event": st.sampled_from(NAMES), "Uniqueid": st.sampled_from(["1795328054.1", "", "other"])},
    optional={"UserEvent": st.sampled_from(USER_EVENTS), **dict.fromkeys(VALUES, TEXT)},
)


async def live_through(events: Sequence[dict[str, str]]) -> None:
    async with AmiServer(SECRET) as server, exchange(server) as on:
        _, leg = await on.call()
        transferring = asyncio.create_task(leg.transfer("sip:a@example.net", {}))
        await server.until(lambda: server.named("Redirect"))
        server.send(b"".join(message(event) for event in events))
        await asyncio.sleep(1.0)
        fresh = AmiChannel(
            "PJSIP/fresh-1", "17.17", variables={"ROOMLINE_FACTS": "number=%2B1999", "ROOMLINE_HEADERS": "", "ROOMLINE_READY": "1"}
        )
        server.channels[fresh.name] = fresh
        announce(server, fresh)
        await until(lambda: any(leg.caller.number == "+1999" for leg in on.legs))
        transferring.cancel()
        await asyncio.gather(transferring, return_exceptions=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENT, max_size=12))
@example(events=[{"Event": "HangupRequest", "Uniqueid": "1795328054.1", "TechCause": "9" * 5000}])
@example(events=[{"Event": "UserEvent", "Uniqueid": "1795328054.1", "UserEvent": "RoomlineTransferred", "Protocol": "9" * 5000}])
@example(events=[{"Event": "Hangup", "Uniqueid": "1795328054.1"}, {"Event": "DTMFEnd", "Uniqueid": "1795328054.1"}])
def test_given_any_events_then_the_controller_lives_and_the_next_call_comes(events: list[dict[str, str]]) -> None:
    travel(live_through(events), PATIENCE)


async def test_given_a_caller_that_cancels_then_the_ending_is_told_as_asterisk_told_it(server: AmiServer) -> None:
    """From a run of Asterisk 22.10.1: UAC cancels while it rings."""
    async with exchange(server) as on:
        channel, leg = await on.call()
        start = f"Privilege: call,all\r\nChannel: {channel.name}\r\nChannelState: 4\r\nChannelStateDesc: Ring\r\n"
        rest = f"AccountCode: \r\nContext: roomline-watch\r\nExten: s\r\nPriority: 3\r\nUniqueid: {channel.unique_id}\r\n"
        two = "ChanVariable: CALL_UUID=\r\nChanVariable: CHANNEL(endpoint)=trunk-ip\r\n"
        request = f"Event: HangupRequest\r\n{start}{rest}{two}Cause: 127\r\nTechCause: 487\r\n\r\n"
        soft = f"Event: SoftHangupRequest\r\n{start}{rest}{two}Cause: 16\r\nTechCause: 487\r\n\r\n"
        end = f"Event: Hangup\r\n{start}{rest}{two}Cause: 127\r\nCause-txt: Interworking, unspecified\r\nTechCause: 487\r\n\r\n"
        data = (request + soft + end).encode()
        await server.send_pieces(data, range(0, len(data), 7))
        assert await leg.ended() == Ending(EndedBy.CALLER, "cause 127", 487)


async def test_given_a_call_still_being_described_when_we_look_then_it_is_taken_by_its_announcement_and_whole(server: AmiServer) -> None:
    channel = a_channel(server)
    whole = dict(channel.variables)
    channel.variables |= {"ROOMLINE_READY": "", "ROOMLINE_FACTS": "called=%2B15550100", "ROOMLINE_HEADERS": ""}
    async with exchange(server) as on:
        assert on.legs == []
        channel.variables |= whole
        announce(server, channel)
        await until(lambda: on.legs)
        assert on.legs[0].caller.headers == {"X-Ticket": "42"}
        assert len(on.legs) == 1
