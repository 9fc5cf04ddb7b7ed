"""One call on a scripted FreeSWITCH: what is said to it for each command, with real audio, and what its events come to."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.errors import LegGone, LocalProtocolError, RoomlineError, Unavailable
from bridge.model.ending import EndedBy, EndReason
from bridge.model.media_address import Datagrams, MediaAddress
from bridge.pbx.freeswitch import leg as leg_module
from bridge.pbx.freeswitch.notes import kept_note
from bridge.pbx.port import Digit, Held, Leg, MediaLost, Resumed, TransferResult
from bridge.testing.freeswitch import EslCommand, FreeSwitchServer, api_response, reply
from tests.pbx.freeswitch.stage import a_node, exchange, until

ADDRESS = MediaAddress("127.0.0.1", 9, "t", 8000, Datagrams("127.0.0.1"))


async def test_given_a_new_call_when_it_rings_then_the_caller_is_told(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await leg.ring()
        await until(lambda: channel.said == ["ring_ready"])
        assert not leg.answered


@pytest.mark.parametrize("status", [400, 403, 404, 410, 480, 486, 488, 503, 603, 699])
async def test_given_a_sip_call_when_it_is_rejected_then_exactly_this_status_is_said(server: FreeSwitchServer, status: int) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await leg.reject(status)
        ending = await leg.ended()
        assert channel.said == [f"respond {status}"]
        assert (ending.by, ending.sip_status, ending.fell_back) == (EndedBy.ROOMLINE, status, False)


@pytest.mark.parametrize("status", [-1, 0, 200, 302, 399, 700])
async def test_given_a_status_that_rejects_nothing_then_nothing_is_said(server: FreeSwitchServer, status: int) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        with pytest.raises(LocalProtocolError):
            await leg.reject(status)
        assert on.said() == []


async def test_given_an_unanswered_call_when_connected_then_it_is_answered_before_unicast_and_audio_flows_both_ways(
    server: FreeSwitchServer,
) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.call()
        assert leg.carriage == Datagrams("127.0.0.1")
        await leg.connect(node.address, {"X-Answer": "a b", "X-Bad": "a;b=c"})
        await until(lambda: len(channel.heard) > 3 * 320)
        assert leg.answered
        assert set(channel.heard) == {0x21}
        assert set(node.heard) == {b"\x00" * 320}
        assert (channel.variables["sip_rh_X-Answer"], "sip_rh_X-Bad" in channel.variables) == ("a b", False)
        answer, unicast = on.said("sendmsg")
        assert answer["execute-app-name"] == "answer"
        assert (unicast["call-command"], unicast["transport"], unicast["local-ip"], unicast["local-port"]) == (
            "unicast",
            "udp",
            "127.0.0.1",
            "0",
        )


@pytest.mark.parametrize(("offers", "codec", "size"), [("G722,PCMU", "G722", 640), ("opus,PCMA,G722", "PCMA", 320), ("PCMU", "PCMU", 320)])
async def test_given_an_offer_when_answered_then_one_codec_is_pinned(server: FreeSwitchServer, offers: str, codec: str, size: int) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node, offers=offers)
        assert channel.variables["absolute_codec_string"] == channel.codec == codec
        assert len(node.heard[0]) == size
        assert leg.caller.wideband == (codec == "G722")


@pytest.mark.parametrize("caller", [{"rtp_secure_media": "true"}, {"send_silence_when_idle": "400"}])
async def test_given_a_caller_over_whom_freeswitch_would_write_silence_then_they_hear_the_node(
    server: FreeSwitchServer, caller: dict[str, str]
) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node, **caller)
        await until(lambda: len(channel.heard) > 3 * 320)
        assert set(channel.heard) == {0x21}
        # Another park loop looks anew.
        await leg.connect(node.address)
        channel.heard.clear()
        await until(lambda: len(channel.heard) > 3 * 320)
        assert set(channel.heard) == {0x21}


async def test_given_an_answer_that_fails_then_no_unicast_follows_that_would_end_the_whole_pbx(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        _, leg = await on.call(offers="opus")
        with pytest.raises(LegGone):
            await leg.connect(node.address)
        assert all(command["call-command"] != "unicast" for command in server.named("sendmsg"))
        assert not server.crashed


async def test_given_an_answer_that_does_not_come_then_no_unicast_follows(
    server: FreeSwitchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leg_module, "ANSWER_LIMIT", 0.1)
    async with exchange(server) as on, a_node() as node:
        _, leg = await on.call()
        server.script("sendmsg", lambda _command: reply("+OK"))
        with pytest.raises(Unavailable, match="was not answered"):
            await leg.connect(node.address)
        assert all(command["call-command"] != "unicast" for command in server.named("sendmsg"))


async def test_given_a_call_that_is_rejected_when_it_has_just_been_answered_then_it_ends_all_the_same(server: FreeSwitchServer) -> None:
    """The caller was removed from the room in the moment of their answer: `respond` does nothing to an answered call."""
    async with exchange(server) as on:
        channel, leg = await on.call()
        channel.answered = True
        await leg.reject(486)
        assert channel.unique_id in server.channels
        channel.tell("CHANNEL_ANSWER")
        assert (await leg.ended()).by is EndedBy.ROOMLINE
        await until(lambda: channel.unique_id not in server.channels)


async def test_given_an_answered_call_that_is_rejected_then_it_is_hung_up(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        await leg.reject(486)
        assert (await leg.ended()).by is EndedBy.ROOMLINE
        assert channel.unique_id not in server.channels


async def test_given_a_connected_call_when_connected_again_then_its_audio_moves(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as first, a_node() as second:
        channel, leg = await on.talking(first)
        await leg.connect(second.address)
        await until(lambda: second.heard)
        before = len(first.heard)
        await until(lambda: len(second.heard) > 5)
        assert len(first.heard) == before
        assert [command.arguments for command in on.said("uuid_transfer")] == [f"{leg.id} park inline"]
        assert (channel.context, channel.destination) == ("roomline", "+15550100")
        assert on.events(leg) == []


async def test_given_more_moves_than_a_call_has_forwards_then_it_stays_up(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        for _ in range(80):
            await leg.connect(node.address)
        assert channel.ended == ""
        assert channel.variables["max_forwards"] == "70"


async def test_given_a_move_that_was_given_up_when_connected_again_then_its_audio_comes(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as first, a_node() as second:
        _, leg = await on.talking(first)
        for wait in (0.0, 0.001, 0.003, 0.01):
            moving = asyncio.create_task(leg.connect(first.address))
            await asyncio.sleep(wait)
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
        await leg.connect(second.address)
        await until(lambda: second.heard)


async def test_given_a_call_that_is_rejected_by_the_pbx_then_it_is_said_who_and_why(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        channel.hang_up("MANAGER_REQUEST")
        ending = await leg.ended()
        assert (ending.by, ending.cause, ending.sip_status) == (EndedBy.PBX, "manager request", None)


async def test_given_a_caller_who_gives_up_then_it_is_their_487(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        channel.caller_hangs_up()
        ending = await leg.ended()
        assert (ending.by, ending.sip_status) == (EndedBy.CALLER, 487)
        await until(lambda: leg.id in on.over)


async def test_given_a_caller_who_hangs_up_then_it_is_theirs(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        channel.caller_hangs_up()
        ending = await leg.ended()
        assert (ending.by, ending.sip_status) == (EndedBy.CALLER, None)
        await until(lambda: not on.leases(channel))


async def test_given_a_call_when_hung_up_then_it_ends_once_and_again_is_no_error(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        await leg.hang_up(EndReason.REQUESTED)
        assert (await leg.ended()).by is EndedBy.ROOMLINE
        await leg.hang_up(EndReason.REQUESTED)
        assert [command.arguments for command in on.said("uuid_kill")] == [f"{leg.id} NORMAL_CLEARING"]


async def test_given_a_call_when_it_falls_back_then_the_operators_extension_has_it_and_no_lease_takes_it_from_there(
    server: FreeSwitchServer,
) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await leg.fall_back()
        ending = await leg.ended()
        assert (ending.by, ending.fell_back) == (EndedBy.PBX, True)
        assert (channel.context, channel.destination) == ("default", "9000")
        await until(lambda: not on.leases(channel))


async def test_given_no_fallback_when_it_falls_back_then_the_caller_hears_that_the_network_is_busy(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call(roomline_fallback="")
        await leg.fall_back()
        assert (await leg.ended()).fell_back
        assert channel.ended == "SWITCH_CONGESTION"


async def test_given_keys_by_both_ways_then_each_press_is_one(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        for digit, source, at in [
            ("1", "RTP", 0),
            ("1", "ENDPOINT", 50_000),  # a phone that sends each press by both
            ("1", "RTP", 400_000),
            ("1", "ENDPOINT", 450_000),
            ("d", "ENDPOINT", 900_000),
            ("#", "RTP", 1_000_000),
            ("#", "RTP", 1_300_000),
            ("#", "ENDPOINT", 9_000_000),
        ]:
            channel.press(digit, source, 1795327464800884 + at)
        await until(lambda: len(on.events(leg)) == 6)
        assert on.events(leg) == [Digit(digit) for digit in "11D###"]


@pytest.mark.parametrize(
    ("presses", "told"),
    [
        ("R1 R2 E1 E2", "12"),  # a fast hand: the twins come behind the next key
        ("E1 R1 E1 R1", "11"),
        ("R1 R1 E1 E1", "11"),
        ("R1 R1 E1", "11"),
        ("E1 E2 E3", "123"),
    ],
)
async def test_given_a_fast_hand_then_each_press_counts_once_whichever_way_it_comes(
    server: FreeSwitchServer, presses: str, told: str
) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        for place, press in enumerate(presses.split()):
            channel.press(press[1], {"R": "RTP", "E": "ENDPOINT"}[press[0]], 1795327464800884 + place * 40_000)
        channel.press("#", at=1795327474800884)
        await until(lambda: on.events(leg)[-1:] == [Digit("#")])
        assert on.events(leg) == [Digit(digit) for digit in told + "#"]


async def test_given_a_caller_who_holds_then_it_is_told(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        channel.hold()
        channel.resume()
        await until(lambda: len(on.events(leg)) == 2)
        assert on.events(leg) == [Held(), Resumed()]


async def test_given_digits_to_send_then_each_is_sent_in_its_time(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        began = asyncio.get_running_loop().time()
        await leg.send_digits("1w#x")
        assert asyncio.get_running_loop().time() - began >= 1.5
        assert [command.arguments for command in on.said("uuid_send_dtmf")] == [f"{leg.id} 1@250", f"{leg.id} #@250"]


async def test_given_a_note_then_it_is_on_the_channel_whole(server: FreeSwitchServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        note = '{"a": "b;c=d \'$e\'"}' * 600
        await leg.remember(note)
        assert leg.note == note
        assert channel.variables["roomline_note"] == kept_note(note)


async def test_given_audio_then_packets_are_counted(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        first = await leg.received_packets()
        await until(lambda: channel.packets > (first or 0))
        second = await leg.received_packets()
        assert first is not None
        assert second is not None
        assert second > first


@pytest.mark.parametrize(
    ("refer", "result"),
    [
        (("202", "200"), TransferResult(ok=True, sip_status=200, reason="success")),
        (("202", "486"), TransferResult(ok=False, sip_status=486, reason="the target refused")),
        (("603", ""), TransferResult(ok=False, sip_status=603, reason="the REFER was refused")),
    ],
)
async def test_given_a_transfer_then_its_result_is_told_and_the_call_survives(
    server: FreeSwitchServer, refer: tuple[str, str], result: TransferResult
) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        channel.variables |= {"sip_refer_status_code": "202", "sip_refer_target_status_code": "200"}  # of one before
        server.calls.refer, server.calls.keeps_who_was_refused = refer, True
        assert await leg.transfer("sip:bob@example.com;transport=tcp", {"X-Why": "a b", "Referred-By": "<sip:x@y>"}) == result
        assert channel.said[-1] == "refer sip:bob@example.com"
        (said, _back) = on.said("uuid_setvar_multi")[-2:]
        assert said.arguments.endswith(";sip_h_X-Why=a b")
        assert "Referred-By" not in said.arguments
        assert channel.ended == ""


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("tel:+4930123", "sip:+4930123@203.0.113.7"),
        ("<tel:+4930123;phone-context=x>", "sip:+4930123@203.0.113.7"),
        ("<sip:bob@example.com>", "sip:bob@example.com"),
    ],
)
async def test_given_a_target_then_it_is_an_address_that_freeswitch_can_refer_to(server: FreeSwitchServer, target: str, sent: str) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        await leg.transfer(target, {})
        assert channel.said[-1] == f"refer {sent}"


@pytest.mark.parametrize("target", ["sips:a@b", "mailto:a@b", "sip:a@b\nexit", "sip:a@b c", "sip:a@b?Replaces=x", "", "sip:a'@b"])
async def test_given_a_target_that_freeswitch_cannot_refer_to_then_nothing_is_said(server: FreeSwitchServer, target: str) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        with pytest.raises(LocalProtocolError):
            await leg.transfer(target, {})
        assert on.said() == []


async def test_given_a_transfer_with_a_tone_when_it_is_refused_then_the_next_connect_brings_the_audio_back(
    server: FreeSwitchServer,
) -> None:
    async with exchange(server) as on, a_node() as first, a_node() as second:
        channel, leg = await on.talking(first)
        server.calls.refer, server.calls.keeps_who_was_refused = ("202", "486"), True
        result = await leg.transfer("sip:bob@example.com", {}, dial_tone=True)
        assert not result.ok
        assert "425" in channel.application
        assert channel.unicast is None
        assert on.events(leg) == []
        await leg.connect(second.address)
        await until(lambda: second.heard)


async def test_given_a_target_that_refuses_when_freeswitch_hangs_up_on_the_caller_with_it_then_the_call_ends_at_once(
    server: FreeSwitchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leg_module, "LISTENING", 0.05)
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        server.calls.refer = ("202", "486")
        assert await leg.transfer("sip:bob@example.com", {}) == TransferResult(ok=False, sip_status=486, reason="the target refused")
        ending = await leg.ended()
        assert (ending.by, ending.transfer_refused, "refused (486)" in ending.cause) == (EndedBy.PBX, True, True)
        await until(lambda: not on.leases(channel))


async def test_given_a_refused_transfer_then_its_headers_are_not_the_next_ones_and_the_callers_own_stay(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node, **{"sip_h_X-Ticket": "42"})
        server.calls.refer = ("603", "")
        sent: list[dict[str, str]] = []

        def refer(command: EslCommand) -> bytes:
            sent.append({name: value for name, value in channel.variables.items() if name.startswith("sip_h_")})
            return api_response(server.calls.api(command.name, command.arguments))

        server.script("uuid_deflect", refer)
        assert not (await leg.transfer("sip:bob@example.com", {"X-Why": "first", "X-Ticket": "7"})).ok
        assert not (await leg.transfer("sip:eve@example.com", {"X-Other": "second"})).ok
        assert sent == [{"sip_h_X-Ticket": "7", "sip_h_X-Why": "first"}, {"sip_h_X-Ticket": "42", "sip_h_X-Other": "second"}]
        assert {name for name in channel.variables if name.startswith("sip_h_")} == {"sip_h_X-Ticket"}


async def test_given_a_caller_who_leaves_during_a_transfer_then_it_was_one(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        server.calls.refer = ("202", "")
        transferring = asyncio.create_task(leg.transfer("sip:bob@example.com", {}))
        await until(lambda: channel.said[-1].startswith("refer"))
        channel.caller_hangs_up()
        assert (await transferring).ok


async def test_given_a_transfer_when_the_connection_breaks_then_its_result_is_found_in_the_end(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as node:
        channel, leg = await on.talking(node)
        server.calls.refer = ("202", "")
        transferring = asyncio.create_task(leg.transfer("sip:bob@example.com", {}))
        await until(lambda: channel.said[-1].startswith("refer"))
        server.cut()
        channel.variables["sip_refer_target_status_code"] = "404"
        assert (await transferring).sip_status == 404


async def test_given_audio_that_is_gone_when_located_then_the_caller_hears_music_until_connected_again(server: FreeSwitchServer) -> None:
    async with exchange(server) as on, a_node() as first, a_node() as second:
        channel, leg = await on.talking(first)
        await leg.locate()
        await until(lambda: on.events(leg) == [MediaLost()])
        assert "endless_playback" in channel.application
        await leg.connect(second.address)
        await until(lambda: second.heard)


COMMANDS: list[Callable[[Leg], Awaitable[object]]] = [
    lambda leg: leg.ring(),
    lambda leg: leg.reject(486),
    lambda leg: leg.fall_back(),
    lambda leg: leg.connect(ADDRESS),
    lambda leg: leg.locate(),
    lambda leg: leg.received_packets(),
    lambda leg: leg.send_digits("1"),
    lambda leg: leg.transfer("sip:bob@example.com", {}),
    lambda leg: leg.remember("note"),
]


@pytest.mark.parametrize("command", COMMANDS)
async def test_given_a_call_that_has_ended_then_every_command_says_so(
    server: FreeSwitchServer, command: Callable[[Leg], Awaitable[object]]
) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        channel.caller_hangs_up()
        await leg.ended()
        with pytest.raises(LegGone):
            await command(leg)


@pytest.mark.parametrize("command", COMMANDS)
async def test_given_a_channel_that_is_gone_before_we_are_told_then_every_command_says_so(
    server: FreeSwitchServer, command: Callable[[Leg], Awaitable[object]]
) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.calls.gone(channel)
        with pytest.raises((LegGone, Unavailable)):
            await command(leg)


@pytest.mark.parametrize("command", [*COMMANDS, lambda leg: leg.hang_up(EndReason.REQUESTED)])
async def test_given_a_pbx_that_does_not_answer_then_every_command_is_unavailable_and_nothing_else(
    server: FreeSwitchServer, command: Callable[[Leg], Awaitable[object]]
) -> None:
    async with exchange(server, command_timeout=0.1) as on:
        _, leg = await on.call()
        server.mute = True
        with pytest.raises(Unavailable):
            await command(leg)
        server.mute = False


@pytest.mark.parametrize("command", COMMANDS)
async def test_given_a_pbx_that_refuses_then_every_command_is_unavailable_and_nothing_else(
    server: FreeSwitchServer, command: Callable[[Leg], Awaitable[object]]
) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        server.script("sendmsg", lambda _command: reply("-ERR memory error"))
        for name in ("uuid_setvar", "uuid_setvar_multi", "uuid_transfer", "uuid_send_dtmf", "uuid_dump", "uuid_set_media_stats"):
            server.script(name, lambda _command: api_response("-ERR permission denied"))
        with pytest.raises(RoomlineError) as caught:
            await command(leg)
        assert isinstance(caught.value, Unavailable)
