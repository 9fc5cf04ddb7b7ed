"""The event socket: what is sent, what comes back, and each thing that greenswitch was seen to do badly."""

import asyncio
import logging

import pytest
from hypothesis import HealthCheck, example, given, settings
from structlog.testing import capture_logs

from bridge.errors import LocalProtocolError, Unavailable
from bridge.pbx.freeswitch.messages import Event
from bridge.pbx.freeswitch.wire import COMMAND_LIMIT, Down, Up
from bridge.testing.freeswitch import FreeSwitchServer, api_response, event, reply, silence
from tests.pbx.freeswitch.stage import PASSWORD, until, wired
from tests.pbx.freeswitch.test_messages import CUTS, FORGED, STREAM


async def test_given_a_command_then_its_own_words_come_back(server: FreeSwitchServer) -> None:
    async with wired(server) as on:
        assert (await on.wire.api("global_setvar roomline=1 2 3")).ok
        assert (await on.wire.api("global_getvar roomline")).text == "1 2 3"
        refused = await on.wire.api("nonsense x")
        assert (refused.ok, refused.text) == (False, "-ERR nonsense Command not found!")
        refused = await on.wire.command("nonsense")
        assert (refused.ok, refused.text) == (False, "-ERR command not found")


async def test_given_a_command_with_headers_then_they_are_lines_of_their_own(server: FreeSwitchServer) -> None:
    async with wired(server) as on:
        await on.wire.command("sendmsg abc", {"call-command": "execute", "execute-app-name": "answer"})
        (sent,) = server.named("sendmsg")
        assert (sent.arguments, sent.headers) == ("abc", (("call-command", "execute"), ("execute-app-name", "answer")))


async def test_given_commands_at_once_and_long_ones_then_each_leaves_whole_and_gets_its_own_answer(server: FreeSwitchServer) -> None:
    async with wired(server) as on:
        texts = [f"{number}-" + "x" * 60_000 for number in range(20)]
        replies = await asyncio.gather(*(on.wire.api(f"echo {text}") for text in texts))
        assert [each.text for each in replies] == texts


@pytest.mark.parametrize("text", ["echo a\nb", "echo a\r", "echo \0", "echo \ud83d", "echo " + "x" * COMMAND_LIMIT])
async def test_given_what_could_be_read_as_more_than_a_command_then_nothing_is_sent(server: FreeSwitchServer, text: str) -> None:
    async with wired(server) as on:
        before = len(server.commands)
        with pytest.raises(LocalProtocolError):
            await on.wire.api(text)
        with pytest.raises(LocalProtocolError):
            await on.wire.command("sendmsg abc", {"execute-app-arg": text})
        assert server.commands[before:] == []
        assert await on.works()


@pytest.mark.parametrize("name", ["a\nb", "a: b", "", " "])
async def test_given_a_headers_name_that_is_more_than_a_name_then_nothing_is_sent(server: FreeSwitchServer, name: str) -> None:
    async with wired(server) as on:
        with pytest.raises(LocalProtocolError):
            await on.wire.command("sendmsg abc", {name: "x"})
        assert server.named("sendmsg") == []


async def test_given_an_answer_that_comes_too_late_then_the_next_command_gets_its_own(server: FreeSwitchServer) -> None:
    async with wired(server, command_timeout=0.1) as on:
        server.script("show", silence)
        with pytest.raises(Unavailable, match="not answered within"):
            await on.wire.api("show channels as json")
        server.send(api_response("late"))
        assert await on.works()


async def test_given_a_slow_server_then_commands_wait_for_it(server: FreeSwitchServer) -> None:
    async with wired(server) as on:
        server.delay = 0.1
        assert all(await asyncio.gather(*(on.works() for _ in range(10))))


async def test_given_a_header_forged_through_a_callers_name_then_it_is_none(server: FreeSwitchServer) -> None:
    async with wired(server) as on:
        name = FORGED.encode()
        body = b"Event-Name: CHANNEL_PARK\nCaller-Caller-ID-Name: " + name + b"\nUnique-ID: mine\n\n"
        server.send(b"Content-Length: %d\nContent-Type: text/event-plain\n\n" % len(body) + body)
        await until(lambda: on.events)
        forged = on.events[-1]
        assert (forged.name, forged["Unique-ID"], forged["Hangup-Cause"]) == ("CHANNEL_PARK", "mine", "")
        assert "\nHangup-Cause: USER_BUSY\n" in forged["Caller-Caller-ID-Name"]
        assert on.downs == []


async def test_given_events_cut_in_the_middle_of_a_header_and_of_a_character_then_they_are_whole(server: FreeSwitchServer) -> None:
    async with wired(server) as on:
        data = "Event-Name: DTMF\nName: 😀\nempty:\nno header\n\n".encode()
        data = b"Content-Length: %d\nContent-Type: text/event-plain\n\n" % len(data) + data
        await server.send_pieces(data * 3, range(5, len(data) * 3, 31))
        await until(lambda: len(on.events) == 3)
        assert {each["Name"] for each in on.events} == {"😀"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (reply("+OK"), "an answer to no command"),
        (api_response("true"), "an answer to no command"),
        (b"Content-Type: text/event-plain\nContent-Length: -1\n\n", "a length"),
        (b"nonsense\n\n", "no event socket"),
        (b"Content-Type: text/disconnect-notice\nContent-Length: 4\n\nbye\n", "closed by FreeSWITCH"),
        (b"Content-Type: text/rude-rejection\nContent-Length: 0\n\n", "ACL"),
    ],
)
async def test_given_what_ends_a_connection_then_there_is_a_new_one(server: FreeSwitchServer, data: bytes, reason: str) -> None:
    async with wired(server) as on:
        server.send(data)
        await until(lambda: on.ups == 2)
        assert reason in on.downs[0]
        assert await on.works()


async def test_given_an_answer_of_the_wrong_kind_then_the_connection_ends_and_the_waiter_is_told(server: FreeSwitchServer) -> None:
    async with wired(server) as on:
        server.script("global_getvar", lambda _command: reply("+OK"))
        with pytest.raises(Unavailable, match="does not fit"):
            await on.wire.api("global_getvar x")


async def test_given_a_command_that_is_not_permitted_then_that_is_its_answer(server: FreeSwitchServer) -> None:
    async with wired(server) as on:
        server.script("global_getvar", lambda _command: reply("-ERR permission denied"))
        assert (await on.wire.api("global_getvar x")).text == "-ERR permission denied"
        assert await on.works()


async def test_given_answers_that_are_one_off_then_a_ping_notices(server: FreeSwitchServer) -> None:
    async with wired(server, ping_interval=0.05, ping_timeout=0.2) as on:
        server.script("echo", lambda _command: api_response("another's"))
        await until(lambda: on.downs)
        server.script("echo", None)
        await until(lambda: on.ups >= 2)
        assert "not those to our commands" in on.downs[0]


async def test_given_a_server_that_falls_silent_then_it_is_noticed(server: FreeSwitchServer) -> None:
    async with wired(server, ping_interval=0.05, ping_timeout=0.1) as on:
        server.mute = True
        await until(lambda: on.downs)
        server.mute = False
        await until(lambda: on.ups == 2)
        assert "was not answered" in on.downs[0]


async def test_given_a_lost_connection_then_everybody_who_waits_is_told_at_once(server: FreeSwitchServer) -> None:
    async with wired(server, command_timeout=30.0) as on:
        server.script("show", silence)
        waiting = [asyncio.create_task(on.wire.api("show channels")) for _ in range(10)]
        await server.until(lambda: len(server.named("show")) == 10)
        server.cut()
        async with asyncio.timeout(2):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        assert len(server.named("show")) == 10, "nothing is sent a second time"


async def test_given_a_connection_that_ends_inside_an_answer_then_nobody_reads_for_ever(server: FreeSwitchServer) -> None:
    async with wired(server) as on:
        server.script("show", lambda _command: b"Content-Type: api/response\nContent-Length: 1000\n\nhalf of it")
        waiting = asyncio.create_task(on.wire.api("show channels"))
        await server.until(lambda: server.named("show"))
        await asyncio.sleep(0.05)
        server.cut()
        with pytest.raises(Unavailable):
            await waiting
        await until(lambda: on.ups == 2)
        assert await on.works()


async def test_given_a_wrong_password_then_it_is_said_once_and_stands_in_no_log() -> None:
    async with FreeSwitchServer("another") as server:
        with capture_logs() as logs:
            async with wired(server, up=False) as on:
                await until(lambda: len(server.connected_at) > 2)
                assert len(on.downs) == 1
                assert "refused the password" in on.downs[0]
        assert PASSWORD not in repr(logs)
        assert len(logs) == 1
        assert PASSWORD not in repr(on.wire._options)


async def test_given_a_password_with_a_line_break_then_nothing_is_sent(server: FreeSwitchServer) -> None:
    async with wired(server, up=False, password="a\nexit") as on:
        await until(lambda: on.downs)
        assert "line break" in on.downs[0]
        assert server.commands == []


async def test_given_nobody_who_greets_then_the_next_try_comes() -> None:
    async with FreeSwitchServer(PASSWORD, greeting=b"") as server, wired(server, up=False, connect_timeout=0.1) as on:
        await until(lambda: len(server.connected_at) > 1)
        assert "does not answer" in on.downs[0]
        server.greeting = b"Content-Type: auth/request\n\n"
        await until(lambda: on.wire.connected)
        assert await on.works()


async def test_given_who_hangs_up_at_once_then_the_next_try_comes_later_and_later(server: FreeSwitchServer) -> None:
    server.turns_away = True
    async with wired(server, up=False) as on:
        await until(lambda: len(server.connected_at) > 6)
        gaps = [later - earlier for earlier, later in zip(server.connected_at, server.connected_at[1:], strict=False)]
        assert gaps[5] > 2 * gaps[0]
        server.turns_away = False
        await until(lambda: on.wire.connected)


async def test_given_nobody_there_then_it_is_said_where(server: FreeSwitchServer) -> None:
    async with wired(server, up=False, port=1) as on:
        await until(lambda: on.downs)
        assert "127.0.0.1:1 cannot be reached" in on.downs[0]
        with pytest.raises(Unavailable, match="no event socket connection"):
            await on.works()


@pytest.mark.parametrize("host", ["no such host", "\udcff", "a" * 70 + ".example"])
async def test_given_a_name_that_is_none_then_it_cannot_be_reached(server: FreeSwitchServer, host: str) -> None:
    async with wired(server, up=False, host=host) as on:
        await until(lambda: on.downs)
        assert "cannot be reached" in on.downs[0]


async def test_given_more_events_than_anybody_reads_then_the_connection_is_made_anew(server: FreeSwitchServer) -> None:
    async with wired(server, reads=False, events_kept=50) as on:
        server.send(event({"Event-Name": "DTMF"}) * 500)
        await until(lambda: len(server.connected_at) == 2)
        reading = asyncio.create_task(on.read())
        await until(lambda: on.ups == 2)
        reading.cancel()
        assert "more events than anybody reads" in on.downs[0]
        assert len(on.events) <= 200


async def test_given_a_burst_that_is_read_late_then_no_event_is_missing_and_all_are_in_order(server: FreeSwitchServer) -> None:
    async with wired(server, reads=False, events_kept=400) as on:
        server.send(b"".join(event({"Event-Name": "DTMF", "Number": str(number)}) for number in range(300)))
        await asyncio.sleep(0.1)
        server.send(b"".join(event({"Event-Name": "DTMF", "Number": str(number)}) for number in range(300, 600)))
        await asyncio.sleep(0.1)
        reading = asyncio.create_task(on.read())
        await until(lambda: len(on.events) == 600)
        reading.cancel()
        assert [int(each["Number"]) for each in on.events] == list(range(600))


async def test_given_a_wire_that_is_ended_while_it_connects_then_nothing_of_it_is_left(server: FreeSwitchServer) -> None:
    server.mute = True
    for wait in (0.0, 0.001, 0.01, 0.03):
        async with wired(server, up=False):
            await asyncio.sleep(wait)


async def test_given_greenswitch_then_the_programs_logging_is_as_it_was(server: FreeSwitchServer) -> None:
    before = list(logging.getLogger().handlers)
    async with wired(server) as on:
        server.cut()
        await until(lambda: on.ups == 2)
    assert logging.getLogger().handlers == before


@given(STREAM, CUTS)
@example(b"Content-Type: command/reply\nReply-Text: +OK\n\n" * 3, [3, 50])
@example(b"Content-Type: auth/request\n\n" * 3, [])
@example(b"Content-Type: api/response\nContent-Length: 4\n\ntrueContent-Type: command/reply\n\n", [])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_given_any_bytes_in_any_pieces_then_they_are_events_or_end_the_connection_and_nothing_else(data: bytes, cuts: list[int]) -> None:
    async def hear() -> None:
        async with FreeSwitchServer(PASSWORD) as server, wired(server) as on:
            server.script("show", silence)
            waiting = asyncio.create_task(on.wire.api("show channels"))
            await server.until(lambda: server.named("show"))
            server.turns_away = True
            await server.send_pieces(data, [cut for cut in cuts[:4] if cut < len(data)])
            await asyncio.sleep(0.01)
            # Half a message may be left, which would swallow what comes next: a new connection starts anew.
            server.cut()
            await until(lambda: waiting.done() and not on.wire.connected)
            server.turns_away = False
            await until(lambda: on.wire.connected)
            assert all(isinstance(item, Event | Up | Down) for item in on.items)
            assert waiting.exception() is None or isinstance(waiting.exception(), Unavailable)
            assert await on.works()

    asyncio.run(hear())
