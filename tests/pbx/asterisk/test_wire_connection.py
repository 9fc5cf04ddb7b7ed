"""The connection that is kept: made, watched, given up and made again; nothing of it outlives its end."""

import asyncio
import contextlib
import socket
from itertools import pairwise

import pytest

from bridge.errors import Unavailable
from bridge.pbx.asterisk.wire import Wire
from bridge.testing.ami_server import AmiAction, AmiServer, silence
from tests.pbx.asterisk.stage import SECRET, until, wire_options, wired


async def test_given_actions_that_were_not_answered_when_the_connection_is_new_then_they_are_not_sent_again(server: AmiServer) -> None:
    server.script("Setvar", silence)
    server.script("Status", silence)
    async with wired(server) as on:
        waiting = [
            asyncio.create_task(on.wire.action("Setvar", {"Variable": "V", "Value": "x"})),
            asyncio.create_task(on.wire.list_action("Status")),
        ]
        await server.until(lambda: server.named("Status"))
        server.cut()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
        await until(lambda: on.ups == 2)
        await asyncio.sleep(30.0)
    assert len(server.named("Setvar")) == len(server.named("Status")) == 1


async def test_given_no_connection_then_actions_fail_at_once(server: AmiServer) -> None:
    server.turns_away = True
    async with wired(server, up=False) as on:
        await until(lambda: on.downs)
        with pytest.raises(Unavailable, match="no AMI connection"):
            await on.works()


async def test_given_a_half_open_connection_then_the_pings_notice_and_it_is_made_anew(server: AmiServer) -> None:
    async with wired(server, ping_interval=2.0, ping_timeout=3.0) as on:
        await asyncio.sleep(7.0)
        assert on.downs == []
        server.mute = True
        await until(lambda: on.downs, 2.0 + 3.0 + 0.5)
        assert "Ping was not answered within 3 s" in on.downs[0]
        server.mute = False
        await until(lambda: on.ups == 2)
        assert await on.works()


async def test_given_a_quiet_but_healthy_connection_then_it_stays(server: AmiServer) -> None:
    async with wired(server, ping_interval=2.0) as on:
        await asyncio.sleep(61.0)
        assert len(server.named("Ping")) == 30
        assert on.downs == []


def waits(server: AmiServer) -> list[float]:
    return [later - earlier for earlier, later in pairwise(server.connected_at)]


@pytest.mark.parametrize("why", ["turned away", "garbage", "refused"])
async def test_given_a_pbx_that_stays_away_then_the_tries_become_rare(server: AmiServer, why: str) -> None:
    server.turns_away = why == "turned away"
    server.refuses_login = why == "refused"
    if why == "garbage":
        server.greeting = b"220 mail.example ESMTP\r\n"
    async with wired(server, up=False, shortest_wait=0.1, longest_wait=5.0) as on:
        await asyncio.sleep(60.0)
        between = waits(server)
        assert between[0] <= 0.2
        assert max(between) <= 5.0 * 1.2 + 0.1
        assert min(between[6:]) >= 5.0 * 0.8
        # It is said once, not with every try.
        assert len(on.downs) == 1
        server.turns_away = server.refuses_login = False
        server.greeting = b"Asterisk Call Manager/11.0.0\r\n"
        await until(lambda: on.ups, 7.0)


async def test_given_a_pbx_that_breaks_each_connection_then_the_tries_become_rare_too(server: AmiServer) -> None:
    def breaks(action: AmiAction) -> bytes | None:
        asyncio.get_running_loop().call_later(0.01, server.cut)
        return server.well_behaved(action)

    server.script("Login", breaks)
    async with wired(server, up=False, shortest_wait=0.1, longest_wait=5.0) as on:
        await asyncio.sleep(60.0)
        assert on.ups < 25
        server.script("Login", server.well_behaved)
        await until(lambda: on.wire.connected, 7.0)
        # One that has stood for a while is made again at once when it breaks.
        await asyncio.sleep(30.0)
        server.cut()
        await until(lambda: not on.wire.connected)
        await until(lambda: on.wire.connected, 0.3)


@pytest.mark.parametrize("host", ["127.0.0.1", "pbx..example", "x" * 300])
async def test_given_a_place_where_nobody_listens_then_it_is_said_and_tried_again(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    wire = Wire(wire_options(port, host=host))
    running = asyncio.create_task(wire.run())
    async for item in wire.items():
        assert f"{host}:{port} cannot be reached" in str(item)
        break
    await asyncio.sleep(30.0)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_given_a_place_that_does_not_answer_then_it_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as others:
        for _ in range(8):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        wire = Wire(wire_options(full.getsockname()[1], connect_timeout=1.5))
        running = asyncio.create_task(wire.run())
        async for item in wire.items():
            assert "cannot be reached within 1.5 s" in str(item)
            assert asyncio.get_running_loop().time() == pytest.approx(1.5, abs=0.1)
            break
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("secret", [f"{SECRET}\n", f"{SECRET}\udce9", SECRET * 100])
async def test_given_a_secret_that_no_line_can_carry_then_it_is_said_without_the_secret(
    server: AmiServer, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with wired(server, up=False, secret=secret) as on:
        await until(lambda: on.downs, 10.0)
        assert "'Secret'" in on.downs[0]
        assert SECRET not in on.downs[0] + caplog.text
    assert server.named("Login") == []


@pytest.mark.parametrize("when", ["waiting", "logging in", "connected"])
async def test_given_a_close_at_any_time_then_no_connection_lives_or_comes(server: AmiServer, when: str) -> None:
    server.turns_away = when == "waiting"
    if when == "logging in":
        server.script("Login", silence)
    async with wired(server, up=when == "connected", shortest_wait=3.0) as on:
        await until(lambda: on.downs if when == "waiting" else server.open_connections)
        server.turns_away = False
        on.running.cancel()
        await asyncio.gather(on.running, return_exceptions=True)
        await asyncio.sleep(60.0)
        assert server.open_connections == 0
        assert len(server.connected_at) == 1
        assert not on.wire.connected
        with pytest.raises(Unavailable):
            await on.works()
        # `wired` wants a wire that runs at its end.
        on.running = asyncio.create_task(asyncio.sleep(1.0))


async def test_given_a_refused_login_then_the_user_is_named_and_the_secret_is_not(server: AmiServer) -> None:
    server.refuses_login = True
    async with wired(server, up=False) as on:
        await until(lambda: on.downs)
        assert "'roomline'" in on.downs[0]
        assert "manager.conf" in on.downs[0]
        server.refuses_login = False
        await until(lambda: on.ups)
