"""One call on a scripted Asterisk: what is said to it for each command, and what its events come to."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.errors import LegGone, LocalProtocolError, RoomlineError, Unavailable
from bridge.model.ending import EndedBy, EndReason
from bridge.model.media_address import MediaAddress
from bridge.pbx.asterisk.digit_connections import KEPT
from bridge.pbx.asterisk.leg import MOVE_LIMIT, TRANSFER_LIMIT
from bridge.pbx.asterisk.notes import NOTE
from bridge.pbx.digits_out import TONE
from bridge.pbx.port import Leg, MediaLost, TransferResult
from bridge.testing.ami_server import AmiAction, AmiChannel, AmiServer, Script, failure, silence
from tests.pbx.asterisk.stage import exchange, until

TOKEN, OTHER_TOKEN = "7b4c1d9e-0000-4000-8000-000000000001", "7b4c1d9e-0000-4000-8000-000000000002"
ADDRESS = MediaAddress("127.0.0.1", 9092, TOKEN, 8000)


def now() -> float:
    return asyncio.get_running_loop().time()


async def settle() -> None:
    """Until everything that was sent has been read and understood."""
    await asyncio.sleep(0.01)


def moved_to(action: AmiAction) -> tuple[str, str, str, str]:
    return action["Channel"], action["Context"], action["Exten"], action["Priority"]


# Commands


async def test_given_a_new_call_when_it_rings_then_it_is_moved_to_ring(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await leg.ring()
        assert [moved_to(action) for action in on.said()] == [(channel.name, "roomline-ring", "s", "1")]
        assert not leg.answered


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 406, 408, 410, 415, 420, 480, 486, 487, 488, 491, 500, 503, 580, 600, 603, 606, 699]
)
async def test_given_a_sip_call_when_it_is_rejected_then_exactly_this_status_is_said(server: AmiServer, status: int) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await leg.reject(status)
        (action,) = on.said()
        assert (action.name, action["Channel"], action["Cause"]) == ("PJSIPHangup", channel.name, str(status))
        server.channel_event(channel, "SoftHangupRequest", {"Cause": status})
        server.channel_event(channel, "Hangup", {"Cause": 21, "Cause-txt": "Call Rejected", "TechCause": ""})
        ending = await leg.ended()
        assert (ending.by, ending.sip_status, ending.fell_back) == (EndedBy.ROOMLINE, status, False)


@pytest.mark.parametrize(
    ("status", "cause"),
    [(404, 1), (486, 17), (480, 19), (403, 21), (408, 18), (410, 22), (488, 58), (500, 38), (503, 34), (603, 31), (420, 31)],
)
async def test_given_a_call_without_sip_when_it_is_rejected_then_the_nearest_cause_is_said(
    server: AmiServer, status: int, cause: int
) -> None:
    async with exchange(server) as on:
        _, leg = await on.call(technology="IAX2")
        await leg.reject(status)
        (action,) = on.said()
        assert (action.name, action["Cause"]) == ("Hangup", str(cause))


@pytest.mark.parametrize("status", [-1, 0, 200, 302, 399, 700])
async def test_given_a_status_that_rejects_nothing_then_nothing_is_said(server: AmiServer, status: int) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        with pytest.raises(LocalProtocolError):
            await leg.reject(status)
        assert on.said() == []


@pytest.mark.parametrize(
    ("address", "media"),
    [
        (ADDRESS, f"{TOKEN},127.0.0.1:9092,8000,10"),
        (MediaAddress("2001:db8::1", 9092, TOKEN, 16000), f"{TOKEN},[2001:db8::1]:9092,16000,10"),
        (MediaAddress("media.example", 1, TOKEN, 16000), f"{TOKEN},media.example:1,16000,10"),
    ],
)
async def test_given_an_address_when_connected_then_it_is_set_before_the_call_is_moved(
    server: AmiServer, address: MediaAddress, media: str
) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await leg.connect(address, {"X-Answer": "cannot be sent"})
        setvar, redirect = on.said()
        assert (setvar.name, setvar["Channel"], setvar["Variable"], setvar["Value"]) == ("Setvar", channel.name, "ROOMLINE_MEDIA", media)
        assert moved_to(redirect) == (channel.name, "roomline-media", "s", "1")


async def test_given_a_lease_then_the_next_connection_has_it(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        leg.set_media_lease(3600)
        await leg.connect(ADDRESS)
        assert channel.variables["ROOMLINE_MEDIA"].endswith(",3600")


async def test_given_media_lost_then_only_the_loss_of_the_current_connection_is_told(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await leg.connect(ADDRESS)
        await leg.connect(MediaAddress("127.0.0.1", 9092, OTHER_TOKEN, 8000))
        server.user_event(channel, "RoomlineMediaLost", {"Token": TOKEN})
        await settle()
        assert on.events(leg) == []
        server.user_event(channel, "RoomlineMediaLost", {"Token": OTHER_TOKEN})
        await until(lambda: on.events(leg))
        assert on.events(leg) == [MediaLost()]


@pytest.mark.parametrize(
    ("says", "packets"), [("0", 0), ("1287", 1287), ("4294967295", 4294967295), ("", None), ("-1", None), ("²", None), ("9" * 5000, None)]
)
async def test_given_asterisks_count_of_packets_then_it_is_a_number_or_it_cannot_tell(
    server: AmiServer, says: str, packets: int | None
) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        channel.variables["CHANNEL(rtcp,rxcount)"] = says
        assert await leg.received_packets() == packets


async def test_given_a_call_without_sip_then_asterisk_is_not_asked_for_its_packets(server: AmiServer) -> None:
    async with exchange(server) as on:
        _, leg = await on.call(technology="IAX2")
        asked = len(server.named("Getvar"))
        assert await leg.received_packets() is None
        assert len(server.named("Getvar")) == asked


async def test_given_digits_to_send_then_each_is_a_tone_of_its_own_and_w_a_pause(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        before = now()
        await leg.send_digits("1w#d*x,")
        assert [(action["Digit"], action["Duration"], action["Channel"]) for action in on.said("PlayDTMF")] == [
            (digit, "250", channel.name) for digit in "1#D*"
        ]
        assert now() - before == pytest.approx(5 * 0.5, abs=0.05)


async def test_given_digits_to_many_phones_at_once_then_what_is_said_beside_them_does_not_wait_for_their_tones(server: AmiServer) -> None:
    """Asterisk's manager reads nothing of a connection while it plays a digit there."""
    async with exchange(server) as on:
        calls = [await on.call() for _ in range(9)]
        (commands,) = {action.connection for action in server.named("Redirect", "Setvar", "Getvar", "Status")}
        before = now()
        sending = [asyncio.create_task(leg.send_digits("12")) for _, leg in calls]
        await until(lambda: len(server.named("PlayDTMF")) == 9)
        asked_at = now()
        await calls[0][1].remember("{}")
        assert now() - asked_at < TONE / 2
        await asyncio.gather(*sending)
        assert now() - before == pytest.approx(2 * 2 * TONE, abs=0.1), "all phones hear them in the same time"
        played = server.named("PlayDTMF")
        assert sorted((action["Channel"], action["Digit"]) for action in played) == sorted(
            (channel.name, digit) for channel, _ in calls for digit in "12"
        )
        assert commands not in {action.connection for action in played}
        assert {action["Events"] for action in server.named("Login")[1:]} == {"off"}
        assert len(server.connected_at) == 1 + 9, "the second digit goes by the connection of a first one"
        await asyncio.sleep(KEPT + 1.0)
        assert server.open_connections == 1


async def test_given_a_manager_that_lets_nobody_in_twice_then_digits_go_by_the_connection_there_is(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.refuses_login = True
        await leg.send_digits("12")
        assert [(action["Digit"], action["Channel"]) for action in on.said("PlayDTMF")] == [("1", channel.name), ("2", channel.name)]
        assert {action.connection for action in server.named("PlayDTMF")} == {1}


async def test_given_a_digit_whose_answer_does_not_come_then_it_is_not_sent_again(server: AmiServer) -> None:
    """It may have sounded; and the connection that commands has nothing to do with it."""
    async with exchange(server) as on:
        _, leg = await on.call()
        server.script("PlayDTMF", silence)
        with pytest.raises(Unavailable, match="not answered"):
            await leg.send_digits("1")
        assert [action.connection for action in server.named("PlayDTMF")] == [2]


async def test_given_connections_that_are_lost_between_two_digits_then_the_next_one_has_a_new_one(server: AmiServer) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        await leg.send_digits("1")
        server.end_connection(2)
        await until(lambda: server.open_connections == 1)
        await leg.send_digits("2")
        assert [action.connection for action in server.named("PlayDTMF")] == [2, 3]


@pytest.mark.parametrize("before", [[], ["the first"]])
async def test_given_a_note_then_it_is_kept_on_the_channel_and_another_controller_reads_it(server: AmiServer, before: list[str]) -> None:
    note = '{"name":"' + "\\ud83d\\ude00" * 256 + '"}'
    async with exchange(server) as on:
        channel, leg = await on.call()
        for text in [*before, note]:
            await leg.remember(text)
        assert leg.note == note
        side = 1 - len(before)
        assert channel.variables[NOTE] == f"{side}:4"
        assert all(len(value) < 1000 for value in channel.variables.values())
    server.actions.clear()
    async with exchange(server) as second:
        await until(lambda: second.legs)
        adopted = second.legs[0]
        assert adopted.note == note
        # It writes beside what it has read, not over it.
        await adopted.remember("the third")
        assert channel.variables[NOTE] == f"{1 - side}:1"
        assert channel.variables[f"{NOTE}_{side}_0"] == f"|{note[:900]}|"


async def test_given_an_answered_call_when_hung_up_then_it_ends_by_us_and_a_second_time_says_nothing(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        await leg.hang_up(EndReason.MAX_DURATION)
        (action,) = on.said()
        assert (action.name, action["Channel"], action["Cause"]) == ("Hangup", channel.name, "16")
        server.channel_event(channel, "SoftHangupRequest", {"Cause": 16})
        assert (await leg.ended()).by is EndedBy.ROOMLINE
        await leg.hang_up(EndReason.MAX_DURATION)
        assert len(on.said()) == 1


async def test_given_a_channel_that_is_gone_when_hung_up_then_that_is_no_error(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        del server.channels[channel.name]
        await leg.hang_up(EndReason.REQUESTED)


COMMANDS: dict[str, Callable[[Leg], Awaitable[object]]] = {
    "ring": lambda leg: leg.ring(),
    "reject": lambda leg: leg.reject(486),
    "fall_back": lambda leg: leg.fall_back(),
    "connect": lambda leg: leg.connect(ADDRESS),
    "received_packets": lambda leg: leg.received_packets(),
    "send_digits": lambda leg: leg.send_digits("1"),
    "transfer": lambda leg: leg.transfer("sip:a@example.net", {}),
    "remember": lambda leg: leg.remember("note"),
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_given_a_channel_that_vanished_unheard_then_each_command_says_the_leg_is_gone(server: AmiServer, command: str) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        del server.channels[channel.name]
        with pytest.raises(LegGone):
            await COMMANDS[command](leg)


@pytest.mark.parametrize("command", COMMANDS)
async def test_given_a_call_that_has_ended_then_commands_say_so_and_nothing_is_sent(server: AmiServer, command: str) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.channel_event(channel, "HangupRequest")
        await leg.ended()
        with pytest.raises(LegGone):
            await COMMANDS[command](leg)
        assert on.said() == []


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("answer", ["refused", "silent"])
async def test_given_an_asterisk_that_does_not_obey_then_commands_say_it_is_unavailable(
    server: AmiServer, command: str, answer: str
) -> None:
    async with exchange(server, action_timeout=1.0) as on:
        _, leg = await on.call()
        disobey: Script = silence if answer == "silent" else lambda action: failure(action, "Permission denied")
        for name in ("Redirect", "Setvar", "PJSIPHangup", "PlayDTMF"):
            server.script(name, disobey)
        server.script("Getvar", lambda action: disobey(action) if action["Channel"] else server.well_behaved(action))
        with pytest.raises(Unavailable, match="Permission denied" if answer == "refused" else "within 1 s"):
            await COMMANDS[command](leg)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("Channel does not exist: PJSIP/carrier-a-00000001", LegGone),
        ("Channel specified does not exist", LegGone),
        ("No such channel", LegGone),
        ("Channel not found", LegGone),
        ("Redirect failed", Unavailable),
        ("Channel not specified", Unavailable),
        ("Permission denied", Unavailable),
        ("", Unavailable),
    ],
)
async def test_given_asterisks_words_for_a_refusal_then_a_vanished_channel_is_told_from_the_rest(
    server: AmiServer, words: str, error: type[RoomlineError]
) -> None:
    server.script("Redirect", lambda action: failure(action, words))
    async with exchange(server) as on:
        _, leg = await on.call()
        with pytest.raises(error):
            await leg.ring()


async def test_given_a_channel_that_is_still_on_its_way_then_it_is_moved_as_soon_as_it_can_be(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        refusals = ["Redirect failed, channel not up."] * 3
        server.script("Redirect", lambda action: failure(action, refusals.pop()) if refusals else server.well_behaved(action))
        await leg.ring()
        assert channel.context == "roomline-ring"
        assert len(on.said("Redirect")) == 4


async def test_given_a_channel_that_never_arrives_then_its_command_ends_in_time(server: AmiServer) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        server.script("Redirect", lambda action: failure(action, "Redirect failed, channel not up."))
        before = now()
        with pytest.raises(Unavailable, match="did not leave its place"):
            await leg.ring()
        assert now() - before == pytest.approx(MOVE_LIMIT, abs=0.2)


async def test_given_a_channel_hung_up_on_its_way_then_the_command_says_the_leg_is_gone(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        server.script("Redirect", lambda action: failure(action, "Redirect failed, channel not up."))
        ringing = asyncio.create_task(leg.ring())
        await server.until(lambda: server.named("Redirect"))
        server.channel_event(channel, "HangupRequest")
        with pytest.raises(LegGone):
            await ringing


# Transfers


def transferred(server: AmiServer, channel: AmiChannel, status: str, protocol: str) -> None:
    server.user_event(channel, "RoomlineTransferred", {"Status": status, "Protocol": protocol})


@pytest.mark.parametrize(
    ("status", "protocol", "result"),
    [
        ("SUCCESS", "200", TransferResult(True, 200, "success")),
        ("FAILURE", "486", TransferResult(False, 486, "failure")),
        ("UNSUPPORTED", "", TransferResult(False, None, "unsupported")),
        ("", "9" * 5000, TransferResult(False, None, "")),
        ("FAILURE", "²", TransferResult(False, None, "failure")),
    ],
)
async def test_given_a_transfer_then_its_outcome_is_what_the_dialplan_tells(
    server: AmiServer, status: str, protocol: str, result: TransferResult
) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        transferring = asyncio.create_task(leg.transfer("<sip:+15550188@example.net>", {"X-Reason": "lunch"}))
        await server.until(lambda: server.named("Redirect"))
        _, setvar, _, redirect = on.said()
        assert (setvar["Variable"], setvar["Value"]) == ("ROOMLINE_TARGET", "PJSIP/<sip:+15550188@example.net>")
        assert moved_to(redirect) == (channel.name, "roomline-transfer", "s", "1")
        transferred(server, channel, status, protocol)
        assert await transferring == result


async def test_given_headers_on_a_transfer_then_who_refers_is_said_and_not_again_with_the_next(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        for headers, says in (({"X-Reason": "lunch", "referred-by": "<sip:desk@example.net>"}, "<sip:desk@example.net>"), ({}, "")):
            transferring = asyncio.create_task(leg.transfer("sip:a@example.net", headers))
            await server.until(lambda: channel.context == "roomline-transfer")
            assert channel.variables["SIPREFERREDBYHDR"] == says
            channel.context = "roomline-watch"
            transferred(server, channel, "FAILURE", "486")
            await transferring


async def test_given_a_dial_tone_with_a_transfer_then_the_dialplan_plays_it_and_not_again_with_the_next(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        for dial_tone, says in ((True, "425/1000,0/4000"), (False, "")):
            transferring = asyncio.create_task(leg.transfer("sip:a@example.net", {}, dial_tone=dial_tone))
            await server.until(lambda: channel.context == "roomline-transfer")
            assert channel.variables["ROOMLINE_DIALTONE"] == says
            channel.context = "roomline-watch"
            transferred(server, channel, "FAILURE", "486")
            await transferring


async def test_given_a_call_without_sip_when_transferred_then_the_target_is_as_it_was_asked(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call(technology="IAX2")
        transferring = asyncio.create_task(leg.transfer("200", {}))
        await server.until(lambda: server.named("Redirect"))
        assert channel.variables["ROOMLINE_TARGET"] == "200"
        transferred(server, channel, "SUCCESS", "")
        assert (await transferring).ok


async def test_given_a_transfer_without_a_result_then_it_has_failed_in_time(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        before = now()
        result = await leg.transfer("sip:a@example.net", {})
        assert not result.ok
        assert now() - before == pytest.approx(TRANSFER_LIMIT, abs=0.5)
        # A word that comes after that is nobody's, nor the next transfer's.
        transferred(server, channel, "SUCCESS", "200")
        await settle()
        again = asyncio.create_task(leg.transfer("sip:b@example.net", {}))
        await server.until(lambda: len(server.named("Redirect")) == 2)
        transferred(server, channel, "FAILURE", "404")
        assert await again == TransferResult(False, 404, "failure")


async def test_given_a_call_that_ends_during_its_transfer_then_that_is_a_success(server: AmiServer) -> None:
    async with exchange(server) as on:
        channel, leg = await on.call()
        transferring = asyncio.create_task(leg.transfer("sip:a@example.net", {}))
        await server.until(lambda: server.named("Redirect"))
        server.channel_event(channel, "HangupRequest")
        assert (await transferring).ok


@pytest.mark.parametrize(
    "target", ["sip:a@b,1", "sip:a@b|1", "sip:a@b&PJSIP/c", "sip:a@b\r\nAction: X", "sip:a\0", "sip:(a)@b", "sip:\ud83d@b", "a\u2028b"]
)
async def test_given_a_target_that_a_dialplan_reads_as_more_then_nothing_is_said(server: AmiServer, target: str) -> None:
    async with exchange(server) as on:
        _, leg = await on.call()
        with pytest.raises(LocalProtocolError):
            await leg.transfer(target, {})
        assert on.said() == []
