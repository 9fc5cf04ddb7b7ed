"""A scripted FreeSWITCH's calls: found, told of, called, let go; and of nobody else's a word."""

import asyncio

import pytest
from structlog.testing import capture_logs

from bridge.errors import CannotDial, LegGone, Unavailable
from bridge.model.credentials import TrunkCredentials
from bridge.model.ending import EndedBy, EndReason
from bridge.pbx.freeswitch.notes import kept_note
from bridge.pbx.port import DialRequest, MediaLost
from bridge.testing.freeswitch import EslCommand, FreeSwitchServer, api_response, event, reply
from bridge.testing.freeswitch_calls import Callee
from tests.pbx.freeswitch.stage import a_node, exchange, until

REQUEST = DialRequest("ST_1", "+15550123", "+15550100", "Ada", {"X-A": "b"})
GATEWAYS = {"ST_1": "carrier-a", "ST_gone": "gone"}


async def test_given_a_parked_call_then_there_is_a_leg_with_its_caller(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call(destination="+15550100", **{"sip_h_X-Ticket": "42"})
        assert (leg.id, leg.pbx, leg.note, leg.answered) == (channel.unique_id, "hq", None, False)
        caller = leg.caller
        assert (caller.number, caller.called, caller.display_name) == ("+15550123", "+15550100", "Ada 😀")
        assert dict(caller.headers) == {"X-Ticket": "42"}


async def test_given_a_name_that_forges_an_event_then_it_is_a_name(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call(sip_from_display="x\nEvent-Name: CHANNEL_HANGUP\n\nUnique-ID: other\nHangup-Cause: USER_BUSY")
        assert leg.caller.display_name.startswith("x\nEvent-Name")
        assert channel.ended == ""
        await leg.ring()


async def test_given_others_calls_then_not_a_word_of_them_comes(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        other = server.calls.channel()
        other.context = "default"
        other.park()
        other.press("7")
        _, leg = await on.call()
        assert [each.id for each in on.legs] == [leg.id]
        assert on.events(leg) == []


async def test_given_calls_that_are_up_at_the_start_then_they_are_found_by_their_notes(server: FreeSwitchServer) -> None:
    ringing = server.calls.channel(roomline_note=kept_note("ringing"))
    ringing.park()
    talking = server.calls.channel(roomline_note=kept_note("talking"))
    talking.park()
    talking.answer()
    new = server.calls.channel(roomline_note="nonsense")
    new.park()
    elsewhere = server.calls.channel()
    elsewhere.context = "default"
    async with exchange(server) as on:
        await until(lambda: len(on.legs) == 3)
        legs = {leg.id: leg for leg in on.legs}
        assert (legs[ringing.unique_id].note, legs[ringing.unique_id].answered) == ("ringing", False)
        assert (legs[talking.unique_id].note, legs[talking.unique_id].answered) == ("talking", True)
        assert legs[new.unique_id].note is None
        assert legs[talking.unique_id].caller.called == "+15550100"
        async with a_node() as node:
            await legs[talking.unique_id].connect(node.address)
            await until(lambda: node.heard)
        talking.press("5")
        await until(lambda: on.events(legs[talking.unique_id]))


async def test_given_a_call_that_is_listed_a_moment_late_then_it_is_found_by_a_second_look(
    server: FreeSwitchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.pbx.freeswitch.pbx.SECOND_LOOK", 0.2)
    channel = server.calls.channel()
    channel.park()
    server.script("show", lambda _command: api_response('{"row_count":0}'))
    async with exchange(server) as on:
        assert on.legs == []
        server.script("show", None)
        await until(lambda: [leg.id for leg in on.legs] == [channel.unique_id])


@pytest.mark.parametrize(
    "answer", ["-ERR SQL disabled, no data available!", '{"row_count":0}', '{"rows":[{"uuid":"a b","context":"roomline"}]}']
)
async def test_given_a_pbx_that_lists_nothing_then_new_calls_come_all_the_same(server: FreeSwitchServer, answer: str) -> None:
    server.script("show", lambda _command: api_response(answer))
    async with exchange(server) as on:
        await on.call()


@pytest.mark.parametrize("answer", ["nonsense", "[]", '{"rows":5}', '{"rows":[5]}', '{"rows":[{"context":"roomline"}]}', "[" * 100_000])
async def test_given_a_list_that_is_none_then_the_pbx_counts_as_not_looked_at(server: FreeSwitchServer, answer: str) -> None:
    server.script("show", lambda _command: api_response(answer))
    async with exchange(server) as on:
        server.calls.call()
        await until(lambda: on.legs)
        with pytest.raises(Unavailable):
            await on.legs[0].ring()
        server.script("show", None)
        await until(lambda: not on.running.done())
        await on.legs[0].ring()


async def test_given_health_then_it_says_what_is_there(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        health = await on.pbx.health()
        assert health.connected
        assert health.version.startswith("FreeSWITCH Version 1.11.3")
        server.turns_away = True
        server.cut()
        await until(lambda: not on.pbx._wire.connected)
        health = await on.pbx.health()
        assert (health.connected, health.detail != "") == (False, True)


async def test_given_somebody_who_bridges_a_call_then_it_is_theirs_and_our_lease_is_gone(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        channel.state = "CS_HIBERNATE"
        channel.unpark()
        channel.tell("CHANNEL_BRIDGE")
        ending = await leg.ended()
        assert (ending.by, ending.taken_away) == (EndedBy.PBX, True)
        await until(lambda: not on.leases(channel))
        # Out of their bridge, its story is over: the operator's fallback takes it.
        channel.state = "CS_EXECUTE"
        channel.park()
        await until(lambda: channel.context == "default")
        assert len(on.legs) == 1


async def test_given_somebody_who_transfers_a_call_then_it_is_theirs(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        channel.transfer("2000", "XML", "desk")
        assert (await leg.ended()).taken_away
        await until(lambda: not on.leases(channel))


async def test_given_somebody_who_transfers_a_call_to_the_fallback_then_it_fell_back(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        channel.transfer("9000", "XML", "default")
        assert (await leg.ended()).fell_back
        await until(lambda: not on.leases(channel))


async def test_given_a_call_that_somebody_re_parks_then_it_goes_on(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        channel.transfer("park", "inline")
        await asyncio.sleep(0.1)
        assert on.events(leg) == []
        await leg.locate()
        await until(lambda: on.events(leg) == [MediaLost()])


async def test_given_audio_that_is_gone_since_somebody_took_the_call_then_it_is_theirs(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        channel.context = "desk"
        await leg.locate()
        assert (await leg.ended()).taken_away


async def test_given_a_call_that_fell_back_and_comes_again_then_it_is_a_new_one(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await leg.fall_back()
        channel.context = "roomline"
        channel.park()
        await until(lambda: len(on.legs) == 2)
        assert on.legs[1].note is None


@pytest.mark.parametrize("unique_id", ["a\nb", "2.1@203.0.113.7", "a b", ""])
async def test_given_an_id_that_is_not_freeswitchs_own_then_no_command_is_made_of_it_and_the_next_call_comes(
    server: FreeSwitchServer, unique_id: str
) -> None:
    async with exchange(server) as on:
        before = len(server.commands)
        strange = {"Unique-ID": unique_id, "Caller-Context": "roomline"}
        for more in ({}, {"variable_roomline_outbound": "1"}):
            server.send(event({"Event-Name": "CHANNEL_PARK", **strange, **more}))
        _, leg = await on.call()
        assert on.legs == [leg]
        assert not [command for command in server.commands[before:] if unique_id and unique_id in command.line]


@pytest.mark.parametrize("name", ["filter", "event"])
async def test_given_a_connection_that_may_hear_nothing_then_the_heart_does_not_beat_on_it_and_another_is_made(
    server: FreeSwitchServer, name: str
) -> None:
    server.script(name, lambda _command: reply("-ERR permission denied"))
    async with exchange(server, up=False) as on:
        await server.until(lambda: len(server.connected_at) >= 2)
        assert server.calls.variables == {}
        server.script(name, None)
        await on.call()


async def test_given_a_call_that_is_gone_when_we_look_at_it_then_nothing_is_listened_for(server: FreeSwitchServer) -> None:
    channel = server.calls.channel()
    channel.park()
    server.script("uuid_dump", lambda _command: api_response("-ERR No such channel!\n"))
    async with exchange(server) as on:
        await until(lambda: server.named("uuid_dump") and server.listened_for == [])
        assert on.legs == []


async def test_given_calls_that_somebody_moved_while_no_controller_ran_then_no_lease_tears_them_out(server: FreeSwitchServer) -> None:
    moved, ours = server.calls.call(), server.calls.call()
    moved.transfer("2000", "XML", "desk")
    async with exchange(server) as on:
        await until(lambda: not on.leases(moved))
        assert moved.context == "desk"
        await until(lambda: on.leases(ours))
        assert [leg.id for leg in on.legs] == [ours.unique_id]


# Calls out


async def test_given_somebody_to_call_when_they_answer_then_they_are_heard(server: FreeSwitchServer) -> None:
    async with exchange(server, outbound_gateways=GATEWAYS) as on, a_node() as node:
        assert on.pbx.can_dial("ST_1")
        leg = await on.pbx.dial(REQUEST)
        assert (leg.caller.number, leg.caller.called, leg.answered) == ("+15550123", "+15550100", False)
        await leg.ring()
        async with asyncio.timeout(5):
            await leg.picked_up()
        await leg.connect(node.address)
        await until(lambda: node.heard)
        channel = server.channels[leg.id]
        assert channel.variables["sip_h_X-A"] == "b"
        await until(lambda: on.leases(channel) == [f"uuid_kill {leg.id} NORMAL_TEMPORARY_FAILURE"])
        assert on.legs == [], "a call of ours is no new one"


async def test_given_a_callee_over_whom_freeswitch_would_write_silence_then_they_hear_the_node(server: FreeSwitchServer) -> None:
    async with exchange(server, outbound_gateways=GATEWAYS) as on, a_node() as node:
        server.calls.gives = {"rtp_secure_media": "true"}
        leg = await on.pbx.dial(REQUEST)
        async with asyncio.timeout(5):
            await leg.picked_up()
        await leg.connect(node.address)
        channel = server.channels[leg.id]
        await until(lambda: len(channel.heard) > 3 * 320)
        assert set(channel.heard) == {0x21}


async def test_given_a_callee_who_refuses_then_the_call_ends_with_their_status(server: FreeSwitchServer) -> None:
    async with exchange(server, outbound_gateways=GATEWAYS) as on:
        server.calls.callee = lambda _: Callee(status="486")
        leg = await on.pbx.dial(REQUEST)
        ending = await leg.ended()
        assert (ending.by, ending.sip_status) == (EndedBy.PBX, 486)


async def test_given_a_callee_whom_freeswitch_itself_gives_up_then_they_did_not_answer(server: FreeSwitchServer) -> None:
    """Its own limit: ours comes before it, where anybody is there to have one."""
    async with exchange(server, outbound_gateways=GATEWAYS) as on:
        server.calls.callee = lambda _: Callee(answers_after=None)
        leg = await on.pbx.dial(REQUEST)
        server.channels[leg.id].hang_up("NO_ANSWER")
        ending = await leg.ended()
        assert (ending.by, ending.sip_status) == (EndedBy.PBX, 480)


async def test_given_a_phone_that_rings_when_hung_up_then_it_ends(server: FreeSwitchServer) -> None:
    async with exchange(server, outbound_gateways=GATEWAYS) as on:
        server.calls.callee = lambda _: Callee(answers_after=None)
        leg = await on.pbx.dial(REQUEST)
        await leg.reject(486)
        assert (await leg.ended()).by is EndedBy.ROOMLINE
        with pytest.raises(LegGone):
            await leg.remember("note")


async def test_given_a_gateway_that_is_none_then_nobody_is_called(server: FreeSwitchServer) -> None:
    async with exchange(server, outbound_gateways=GATEWAYS) as on:
        with pytest.raises(Unavailable, match="INVALID_GATEWAY"):
            await on.pbx.dial(DialRequest("ST_gone", "1", "2"))
        with pytest.raises(CannotDial):
            await on.pbx.dial(DialRequest("ST_other", "1", "2"))
        assert not on.pbx.can_dial("ST_other")


async def test_given_a_pbx_that_makes_no_channel_then_it_is_unavailable_at_once(server: FreeSwitchServer) -> None:
    async with exchange(server, outbound_gateways=GATEWAYS, command_timeout=0.2) as on:
        server.script("originate", lambda _command: reply("-ERR permission denied"))
        with pytest.raises(Unavailable, match="permission denied"):
            await on.pbx.dial(REQUEST)
        server.script("originate", lambda command: reply(f"+OK Job-UUID: {command['Job-UUID']}"))
        with pytest.raises(Unavailable, match="made no channel"):
            await on.pbx.dial(REQUEST)


async def test_given_a_connection_that_breaks_while_dialling_then_it_is_unavailable(server: FreeSwitchServer) -> None:
    async with exchange(server, outbound_gateways=GATEWAYS) as on:
        server.script("originate", lambda command: reply(f"+OK Job-UUID: {command['Job-UUID']}"))
        dialling = asyncio.create_task(on.pbx.dial(REQUEST))
        await server.until(lambda: server.named("originate"))
        server.cut()
        with pytest.raises(Unavailable):
            await dialling


@pytest.mark.parametrize("how", ["it is refused", "nothing comes of it", "it is given up"])
async def test_given_nobody_whom_we_have_called_then_nothing_is_listened_for(server: FreeSwitchServer, how: str) -> None:
    async with exchange(server, outbound_gateways=GATEWAYS, command_timeout=0.2) as on:
        answer = "-ERR permission denied" if how == "it is refused" else "+OK"
        server.script("originate", lambda _command: reply(answer))
        dialling = asyncio.create_task(on.pbx.dial(REQUEST))
        await server.until(lambda: server.named("originate"))
        if how == "it is given up":
            dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
        await until(lambda: server.listened_for == [])


async def test_given_a_callee_whom_we_have_given_up_when_they_answer_then_the_call_ends_and_is_no_new_one(server: FreeSwitchServer) -> None:
    async with exchange(server, outbound_gateways=GATEWAYS, command_timeout=0.2) as on:
        made: list[EslCommand] = []

        def late(command: EslCommand) -> bytes:
            made.append(command)
            return reply(f"+OK Job-UUID: {command['Job-UUID']}")

        server.script("originate", late)
        with pytest.raises(Unavailable, match="made no channel"):
            await on.pbx.dial(REQUEST)
        server.calls.begin(made[0]["Job-UUID"], "originate", made[0].arguments)
        await until(lambda: server.channels)
        (channel,) = server.channels.values()
        await until(lambda: channel.ended, limit=2.0)
        assert channel.answered
        assert on.legs == []
        await until(lambda: server.listened_for == [])


async def test_given_a_callee_whose_note_says_what_the_call_is_about_then_it_goes_on(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel = server.calls.channel(roomline_outbound="1", roomline_note=kept_note("talking"))
        channel.answer()
        channel.park()
        await until(lambda: [leg.note for leg in on.legs] == ["talking"])
        assert not channel.ended


async def test_given_a_callee_who_answers_when_nobody_is_there_any_more_then_the_call_ends(server: FreeSwitchServer) -> None:
    async with exchange(server, outbound_gateways=GATEWAYS) as on:
        leg = await on.pbx.dial(REQUEST)
        on.running.cancel()
        channel = server.channels[leg.id]
        await until(lambda: channel.answered)
        assert f"uuid_kill {leg.id}" in on.leases(channel)
        on.running = asyncio.create_task(asyncio.sleep(60))
        on.running.cancel()


# Credentials


async def test_given_trunks_with_credentials_then_those_that_the_pbx_knows_itself_are_not_asked_for(server: FreeSwitchServer) -> None:
    async with exchange(server, trusted_users={"a": "ST_1"}) as on:
        on.pbx.keep_credentials([TrunkCredentials("ST_1", "one", "x"), TrunkCredentials("ST_2", "two", "y")])
        for user in ("one", "two"):
            headers = {"Event-Name": "CUSTOM", "Event-Subclass": "sofia::register_attempt", "auth-result": "FORBIDDEN"}
            server.send(event(headers | {"username": user}))
        async with asyncio.timeout(5):
            assert (await anext(on.pbx.refusals())).trunk_id == "ST_2"


@pytest.mark.parametrize(("has_directory", "trunk", "says"), [(False, "ST_2", 1), (False, "ST_1", 0), (True, "ST_2", 0)])
async def test_given_trunks_with_credentials_that_nothing_answers_for_then_it_is_said_once(
    server: FreeSwitchServer, has_directory: bool, trunk: str, says: int
) -> None:
    with capture_logs() as logs:
        async with exchange(server, trusted_users={"a": "ST_1"}, has_directory=has_directory) as on:
            for _ in range(2):
                on.pbx.keep_credentials([TrunkCredentials(trunk, "two", "y")])
    assert len([line for line in logs if "api.directory" in line["event"]]) == says


async def test_given_a_caller_whom_the_pbx_turned_away_then_it_is_told(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        on.pbx.keep_credentials([TrunkCredentials("ST_2", "two", "y")])
        headers = {"Event-Name": "CUSTOM", "Event-Subclass": "sofia::register_attempt", "username": "two", "auth-result": "FORBIDDEN"}
        server.send(event(headers | {"network-ip": "192.0.2.1", "call-id": "c"}))
        async with asyncio.timeout(5):
            refusal = await anext(on.pbx.refusals())
        assert (refusal.trunk_id, refusal.source_address) == ("ST_2", "192.0.2.1")


async def test_given_a_call_that_ends_while_it_is_adopted_then_nothing_of_it_is_left(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        for _ in range(20):
            server.calls.call().caller_hangs_up()
        await until(lambda: len(on.over) == 20)
        assert {(await leg.ended()).by for leg in on.legs} == {EndedBy.CALLER}
        assert on.pbx._legs == {}
        await on.legs[0].hang_up(EndReason.HANGUP)


async def test_given_a_call_that_begins_to_talk_when_its_lease_becomes_longer_then_the_shorter_one_is_renewed_in_time(
    server: FreeSwitchServer,
) -> None:
    async with exchange(server, media_lease=2) as on, a_node() as node:
        channel, leg = await on.talking(node)
        leg.set_media_lease(60)
        await asyncio.sleep(3.0)
        assert channel.parked
        assert not channel.ended
        assert len(on.leases(channel)) == 1
