"""The guard around panoramisk 1.4, one test for each thing that was seen to go wrong there (shared facts: pbx/asterisk.md), and what
a hostile or broken manager may send."""

import asyncio

import pytest

from bridge.errors import LocalProtocolError, Unavailable
from bridge.pbx.asterisk.wire import LINE_LIMIT, MESSAGE_LIMIT, Answer, Event, read_message
from bridge.testing.ami_server import AmiAction, AmiServer, failure, message, silence, success
from tests.pbx.asterisk.stage import SECRET, Wired, until, wired

SPEECH = "Ünïcödé 😀 名前"


# What leaves us


@pytest.mark.parametrize("broken", ["\r\nAction: Originate", "\n", "\r", "\0", "x\r\n\r\nAction: Hangup"])
@pytest.mark.parametrize("place", ["value", "header", "action"])
async def test_given_a_line_break_or_nul_when_an_action_is_sent_then_nothing_leaves_us(server: AmiServer, place: str, broken: str) -> None:
    async with wired(server) as on:
        name = f"Setvar{broken}" if place == "action" else "Setvar"
        header = f"Variable{broken}" if place == "header" else "Variable"
        value = f"x{broken}" if place == "value" else "x"
        with pytest.raises(LocalProtocolError):
            await on.wire.action(name, {header: value})
        assert await on.works()
    assert [action.name for action in server.actions] == ["Login", "Getvar"]


async def test_given_a_colon_in_a_header_name_then_nothing_leaves_us(server: AmiServer) -> None:
    async with wired(server) as on:
        with pytest.raises(LocalProtocolError):
            await on.wire.action("Setvar", {"Variable: A\tAction: Originate": "x"})
    assert server.named("Setvar") == []


@pytest.mark.parametrize("text", ["x" * LINE_LIMIT, "😀" * 250, "x" * 65_536])
async def test_given_a_line_longer_than_asterisk_reads_then_nothing_leaves_us(server: AmiServer, text: str) -> None:
    async with wired(server) as on:
        with pytest.raises(LocalProtocolError, match="long"):
            await on.wire.action("Setvar", {"Variable": "V", "Value": text})
    assert server.named("Setvar") == []


@pytest.mark.parametrize("text", ["x" * (LINE_LIMIT - len("Value: ")), "😀" * 248, SPEECH, "a: b", "; comment", ""])
async def test_given_any_text_that_fits_a_line_then_it_arrives_whole(server: AmiServer, text: str) -> None:
    async with wired(server) as on:
        await on.wire.action("Setvar", {"Variable": "V", "Value": text})
    assert server.variables["V"] == text


async def test_given_half_a_character_in_a_value_then_it_is_refused_and_logged_nowhere(
    server: AmiServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with wired(server) as on:
        with pytest.raises(LocalProtocolError):
            await on.wire.action("Setvar", {"Variable": "V", "Value": f"{SECRET}\udce9"})
    assert server.named("Setvar") == []
    assert SECRET not in caplog.text


# What arrives


async def test_given_a_character_cut_between_two_reads_then_none_is_lost(server: AmiServer) -> None:
    data = message({"Event": "UserEvent", "Name": SPEECH, "Last": "end"})
    async with wired(server) as on:
        for cut in range(1, len(data)):
            await server.send_pieces(data, [cut])
        await server.send_pieces(data, range(1, len(data)))
        await until(lambda: len(on.events) == len(data))
    assert {event["Name"] for event in on.events} == {SPEECH}
    assert {event["Last"] for event in on.events} == {"end"}


async def test_given_bytes_that_are_no_utf8_then_only_they_are_replaced(server: AmiServer) -> None:
    async with wired(server) as on:
        server.send(b"Event: UserEvent\r\nName: caf\xe9 \xf0\x9f\r\nLast: end\r\n\r\n")
        await until(lambda: on.events)
    assert (on.events[0]["Name"], on.events[0]["Last"]) == ("caf\ufffd \ufffd", "end")


@pytest.mark.parametrize("end", [b"Last: ", b"Last:", b"Last:  \t"])
def test_given_an_empty_last_header_then_it_is_not_lost(end: bytes) -> None:
    read = read_message(b"Event: UserEvent\r\nName: \r\n" + end)
    assert read is not None
    assert "Name" in read
    assert read["Last"].strip() == ""


async def test_given_an_answer_with_an_empty_value_then_it_is_empty(server: AmiServer) -> None:
    async with wired(server) as on:
        assert await on.wire.action("Getvar", {"Variable": "V"}) == Answer(True, "", "")


@pytest.mark.parametrize("text", ["a\0b", "\0", "x" * 65_536, "😀" * 16_384, "Response: Success", "\n\nEvent: Hangup", "  padded  "])
async def test_given_a_strange_value_then_the_event_is_whole_and_one(server: AmiServer, text: str) -> None:
    async with wired(server) as on:
        server.event("UserEvent", {"Name": text, "Last": "end"})
        assert await on.works()
        await until(lambda: on.events)
    assert [(event["Name"], event["Last"]) for event in on.events] == [(text, "end")]


async def test_given_a_header_twice_then_the_last_counts(server: AmiServer) -> None:
    async with wired(server) as on:
        server.send(b"Event: UserEvent\r\nName: a\r\nName: b\r\nName: c\r\n\r\n")
        await until(lambda: on.events)
    assert on.events[0]["name"] == "c"


async def test_given_a_message_without_an_end_then_the_connection_ends_and_is_made_anew(server: AmiServer) -> None:
    async with wired(server) as on:
        server.send(b"Event: UserEvent\r\nName: " + b"x" * (MESSAGE_LIMIT + 1))
        await until(lambda: on.ups == 2)
        assert await on.works()
    assert on.downs == ["a message without an end"]


@pytest.mark.parametrize("odd", [b"Response: Success\r\nactionid: a\r\nactionid: b", b"Response: Success\r\nevent: a\r\nevent: b"])
async def test_given_a_message_that_panoramisk_raises_at_then_the_connection_ends_with_a_reason_and_is_made_anew(
    server: AmiServer, odd: bytes
) -> None:
    server.script("Setvar", lambda _: odd + b"\r\n\r\n")
    async with wired(server) as on:
        with pytest.raises(Unavailable, match="does not fit"):
            await on.wire.action("Setvar", {"Variable": "V", "Value": "x"})
        await until(lambda: on.ups == 2)
        assert await on.works()
    assert len(on.downs) == 1


async def test_given_a_reader_that_raises_then_the_connection_stays_and_the_next_reader_goes_on(server: AmiServer) -> None:
    async with wired(server, reads=False) as on:
        server.event("UserEvent", {"Name": "first"})
        server.event("UserEvent", {"Name": "second"})

        async def read_badly() -> None:
            async for item in on.wire.items():
                if isinstance(item, Event) and item["Name"] == "first":
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await read_badly()
        async for item in on.wire.items():
            assert isinstance(item, Event)
            assert item["Name"] == "second"
            break
        assert await on.works()
    assert len(server.connected_at) == 1


@pytest.mark.parametrize(
    "greeting",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"Asterisk Call Mana\r\n",
        b"220 without an end",
        b"Asterisk Call Manager/" + b"1" * 5000,
    ],
)
async def test_given_another_server_on_the_port_then_it_is_said_so_at_once_and_tried_again(server: AmiServer, greeting: bytes) -> None:
    server.greeting = greeting
    server.script("Login", silence)
    async with wired(server, up=False) as on:
        await until(lambda: on.downs, 0.2)
        assert "no Asterisk manager" in on.downs[0]
        server.script("Login", server.well_behaved)
        server.greeting = b"Asterisk Call Manager/9.0.0\r\n"
        await until(lambda: on.ups)
        assert await on.works()


async def test_given_a_greeting_in_pieces_then_it_is_understood(server: AmiServer) -> None:
    server.greeting = b""
    logins: list[AmiAction] = []
    server.script("Login", logins.append)
    async with wired(server, up=False) as on:
        await until(lambda: logins)
        await server.send_pieces(b"Asterisk Call Manager/11.0.0\r\n" + success(logins[0], "Authentication accepted"), range(200))
        await until(lambda: on.wire.connected)
        assert on.downs == []


async def test_given_a_server_that_never_greets_then_it_is_given_up_in_time(server: AmiServer) -> None:
    server.mute = True
    async with wired(server, up=False, connect_timeout=1.5) as on:
        await until(lambda: on.downs, 2.0)
        server.mute = False
        await until(lambda: on.ups)


# Answers


async def test_given_answers_out_of_order_then_each_goes_to_its_action(server: AmiServer) -> None:
    held: list[AmiAction] = []
    server.script("Getvar", held.append)
    async with wired(server) as on:
        asked = [asyncio.create_task(on.wire.action("Getvar", {"Variable": f"V{number}"})) for number in range(20)]
        await until(lambda: len(held) == 20)
        for action in reversed(held):
            server.send(message({"Response": "Success", "ActionID": action["ActionID"], "Value": action["Variable"]}))
        assert [answer.value for answer in await asyncio.gather(*asked)] == [f"V{number}" for number in range(20)]


async def test_given_a_forged_answer_then_no_other_action_gets_it(server: AmiServer) -> None:
    held: list[AmiAction] = []
    server.script("Getvar", held.append)
    async with wired(server) as on:
        first = asyncio.create_task(on.wire.action("Getvar", {"Variable": "A"}))
        second = asyncio.create_task(on.wire.action("Getvar", {"Variable": "B"}))
        await until(lambda: len(held) == 2)
        server.send(message({"Response": "Success", "ActionID": "action/somebody/1/1", "Value": "forged"}))
        server.send(message({"Response": "Success", "Value": "without a number"}))
        # Once answered, an action's number is worth nothing any more.
        server.send(message({"Response": "Success", "ActionID": held[0]["ActionID"], "Value": "a"}) * 2)
        server.send(message({"Response": "Success", "ActionID": held[1]["ActionID"], "Value": "b"}))
        assert ((await first).value, (await second).value) == ("a", "b")
        assert on.events == []
    assert on.downs == []


@pytest.mark.parametrize("twice", ["ActionID", "Response"])
async def test_given_an_answer_with_two_names_then_nobody_is_answered_and_the_connection_ends(server: AmiServer, twice: str) -> None:
    def both(action: AmiAction) -> bytes:
        return f"Response: Error\r\nActionID: {action['ActionID']}\r\n{twice}: Success\r\nValue: forged\r\n\r\n".encode()

    server.script("Getvar", both)
    async with wired(server) as on:
        with pytest.raises(Unavailable, match="two names"):
            await on.wire.action("Getvar", {"Variable": "A"})
        await until(lambda: on.ups == 2)


def still_awaited(on: Wired) -> list[str]:
    """What the connection still keeps of actions: it would grow for ever if it forgot to forget."""
    assert on.wire._protocol is not None
    return list(on.wire._protocol.responses)


async def test_given_an_action_that_is_not_answered_then_it_ends_in_time_and_the_connection_stays(server: AmiServer) -> None:
    held: list[AmiAction] = []
    server.script("Getvar", held.append)
    async with wired(server, action_timeout=2.0) as on:
        before = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable, match="Getvar was not answered within 2 s"):
            await on.wire.action("Getvar", {"Variable": "A"})
        assert asyncio.get_running_loop().time() - before == pytest.approx(2.0, abs=0.1)
        # Too late: it must not reach the next one.
        server.script("Getvar", server.well_behaved)
        server.send(message({"Response": "Success", "ActionID": held[0]["ActionID"], "Value": "late"}))
        assert (await on.wire.action("Getvar", {"Variable": "A"})).value == ""
        assert still_awaited(on) == []
    assert on.downs == []


async def test_given_a_waiter_that_gives_up_then_a_late_answer_harms_nobody(server: AmiServer) -> None:
    held: list[AmiAction] = []
    server.script("Getvar", held.append)
    async with wired(server) as on:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await on.wire.action("Getvar", {"Variable": "A"})
        server.send(message({"Response": "Success", "ActionID": held[0]["ActionID"], "Value": "late"}))
        server.script("Getvar", server.well_behaved)
        assert await on.works()
        assert still_awaited(on) == []
    assert on.downs == []


async def test_given_a_list_then_all_of_it_comes_without_its_frame(server: AmiServer) -> None:
    def three(action: AmiAction) -> bytes:
        number = {"ActionID": action["ActionID"]}
        rows = b"".join(message({"Event": "Status", "Channel": f"PJSIP/{row}", **number}) for row in range(3))
        end = message({"Event": "StatusComplete", **number, "EventList": "Complete", "ListItems": 3})
        return success(action, "Channel status will follow", {"EventList": "start"}) + rows + end

    server.script("Status", three)
    async with wired(server) as on:
        assert [event["Channel"] for event in await on.wire.list_action("Status")] == ["PJSIP/0", "PJSIP/1", "PJSIP/2"]
        assert on.events == []


async def test_given_an_empty_list_then_it_is_empty(server: AmiServer) -> None:
    async with wired(server) as on:
        assert list(await on.wire.list_action("Status")) == []


async def test_given_a_list_that_is_refused_then_it_is_said_at_once_and_why(server: AmiServer) -> None:
    server.script("Status", lambda action: failure(action, "Permission denied"))
    async with wired(server) as on:
        before = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable, match="Permission denied"):
            await on.wire.list_action("Status")
        assert asyncio.get_running_loop().time() - before < 0.5


async def test_given_a_list_that_never_ends_then_it_is_given_up_in_time(server: AmiServer) -> None:
    server.script("Status", lambda action: success(action, "Channel status will follow", {"EventList": "start"}))
    async with wired(server, action_timeout=2.0) as on:
        with pytest.raises(Unavailable, match="not answered within 2 s"):
            await on.wire.list_action("Status")


# Events


async def test_given_many_events_in_one_piece_then_they_come_in_order(server: AmiServer) -> None:
    async with wired(server) as on:
        server.send(b"".join(message({"Event": "DTMFEnd", "Digit": number}) for number in range(2000)))
        await until(lambda: len(on.events) == 2000)
    assert [event["Digit"] for event in on.events] == [str(number) for number in range(2000)]


async def test_given_more_events_than_anybody_reads_then_the_connection_ends_and_no_more_are_kept(server: AmiServer) -> None:
    async with wired(server, reads=False, events_kept=100) as on:
        server.send(message({"Event": "DTMFEnd", "Digit": "1"}) * 5000)
        await until(lambda: not on.wire.connected)
        reading = asyncio.create_task(on.read())
        await until(lambda: on.ups == 2)
        reading.cancel()
        assert await on.works()
    assert on.downs == ["more events than anybody reads"]
    assert len(on.events) <= 100


async def test_given_events_after_a_shutdown_then_they_are_not_of_this_world_any_more(server: AmiServer) -> None:
    async with wired(server) as on:
        server.send(message({"Event": "Shutdown", "Shutdown": "Cleanly"}) + message({"Event": "DTMFEnd", "Digit": "1"}))
        await until(lambda: on.ups == 2)
    assert on.downs == ["Asterisk is shutting down"]
    assert [event.name for event in on.events] in ([], ["Shutdown"])
