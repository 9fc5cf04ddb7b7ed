"""The parts put together: what starts, what stops, and what is said when something cannot be had. Calls are in tests/real."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import aiohttp
import pytest
from livekit import api
from livekit.protocol import sip
from structlog.testing import capture_logs

from bridge.app import Application
from bridge.dispatch.outcome import Accept
from bridge.errors import ConfigurationError, Unavailable
from bridge.model.caller import Caller
from bridge.model.trunk import InboundTrunk
from bridge.pbx.asterisk.pbx import HEARTBEAT
from bridge.routes import FEW
from bridge.settings import Loaded, Settings
from bridge.store.sqlite_objects import SqliteObjects
from bridge.testing.ami_server import AmiServer
from tests.store.objects import put, rule

SECRET = "a-secret-of-thirty-two-characters!"


def configure(folder: Path, more: str = "", media: str = "127.0.0.1:0") -> Path:
    path = folder / "roomline.yaml"
    path.write_text(
        f'pbx:\n  - {{name: hq, ami: {{port: 1, secret: "x"}}}}\nmedia: {{listen: "{media}"}}\nstore: sqlite:///{folder}/roomline.db\n{more}'
    )
    return path


def load(folder: Path, more: str = "", media: str = "127.0.0.1:0") -> Loaded:
    return Settings.load(configure(folder, more, media), {}).sound()


async def test_given_a_pbx_that_is_away_then_the_server_runs_and_goes_on_trying(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with Application(load(tmp_path)) as app:
        running = asyncio.create_task(app.run())
        async with asyncio.timeout(5):
            while "cannot be reached" not in (health := await app.pbxes[0].health()).detail:  # noqa: ASYNC110  (the port tells no moment of it)
                await asyncio.sleep(0.01)
        assert not health.connected
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert asyncio.all_tasks() == before


async def test_given_a_port_in_use_then_the_error_names_the_key_and_nothing_stays_open(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for more, media, key in (
            ("", f"127.0.0.1:{port}", "media.listen"),
            (f'http: {{listen: "127.0.0.1:{port}"}}\n', "127.0.0.1:0", "http.listen"),
            (f'api: {{listen: "127.0.0.1:{port}", keys: {{key: secret}}}}\n', "127.0.0.1:0", "api.listen"),
        ):
            with pytest.raises(ConfigurationError, match=key):
                async with Application(load(tmp_path, more, media)):
                    pass
    async with Application(load(tmp_path, f'http: {{listen: "127.0.0.1:{port}"}}\n')):
        pass


async def test_given_a_store_that_cannot_be_written_then_the_error_names_it(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    (tmp_path / "roomline.db").mkdir()
    with pytest.raises(Unavailable, match=r"roomline\.db"):
        async with Application(loaded):
            pass


async def test_given_a_changed_file_when_reloaded_then_its_rules_count_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    async with Application(load(tmp_path, RULE.format(room="first"))) as app:
        configure(tmp_path, RULE.format(room="second"))
        await app.reload()
        assert room_of(app) == "second"
        for broken in ("dispatch_rules: {}\n", RULE.format(room="a") + RULE.format(room="b"), "dispatch_rules: [\n"):
            configure(tmp_path, broken)
            await app.reload()
            assert room_of(app) == "second"
        (tmp_path / "roomline.yaml").unlink()
        await app.reload()
        assert room_of(app) == "second"


RULE = "dispatch_rules:\n  - {{rule: {{dispatch_rule_direct: {{room_name: {room}}}}}}}\n"


async def test_given_reloads_at_once_then_one_follows_the_other_and_calls_get_the_old_answers_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_settings, going_on, reading = Settings.load, threading.Event(), [0, 0]

    def slowly(path: Path) -> Loaded:
        reading[0] += 1
        reading[1] = max(reading)
        assert going_on.wait(10)
        reading[0] -= 1
        return load_settings(path, {})

    async with Application(load(tmp_path, RULE.format(room="first"))) as app:
        monkeypatch.setattr(Settings, "load", slowly)
        configure(tmp_path, RULE.format(room="second"))
        before = asyncio.get_running_loop().time()
        reloads = [asyncio.create_task(app.reload()) for _ in range(3)]
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert decided(app) == "first"
        assert asyncio.get_running_loop().time() - before < 5, "the loop goes on"
        going_on.set()
        await asyncio.gather(*reloads)
        assert reading == [0, 1], "one after the other"
        assert (decided(app), room_of(app)) == ("second", "second")


async def test_given_a_rule_that_another_instance_writes_into_the_store_then_calls_follow_it_within_a_second(tmp_path: Path) -> None:
    async with Application(load(tmp_path)) as app, SqliteObjects(tmp_path / "roomline.db") as other:
        running = asyncio.create_task(app.run())
        for room in ("first", "second"):
            await other.change(put(rule("SDR_a", room, metadata=f"of {room}")))
            async with asyncio.timeout(1.0):
                while app._routes.rule_metadata("SDR_a") != f"of {room}":  # noqa: ASYNC110  (nobody is told when)
                    await asyncio.sleep(0.01)
            assert decided(app) == room
        configure(tmp_path, RULE.format(room="in the file"))
        async with asyncio.timeout(1.5):
            while len(app._routes.inventory.dispatch_rules) < 2:  # noqa: ASYNC110  (nobody is told when)
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_given_objects_in_file_and_store_then_the_server_starts_and_says_once_what_does_not_go_together(tmp_path: Path) -> None:
    path = configure(tmp_path, "phone_numbers: [{e164_format: '+2', sip_dispatch_rule_id: SDR_x}]\n")
    path.write_text(path.read_text().replace("ami: {", "trusted_endpoints: {a: ST_s}, ami: {", 1))
    trunk = InboundTrunk(sip_trunk_id="ST_s", numbers=("2",), auth_username="u", auth_password="geheim")
    async with SqliteObjects(tmp_path / "roomline.db") as other:
        with capture_logs() as logs:
            async with Application(Settings.load(path, {}).sound()) as app:

                def said() -> list[str]:
                    return [f"{line['place']} {line['why']}" for line in logs if line["event"] == "objects do not go together"]

                number = f"PN_config000000 ({path}:5)"
                away = [f"{number} there is no dispatch rule 'SDR_x'", "pbx[0].trusted_endpoints.a there is no trunk 'ST_s'"]
                assert [each.partition(":")[0] for each in said()] == [each.partition(":")[0] for each in away]
                logs.clear()
                await other.change(put(rule("SDR_x"), trunk))
                for _ in range(2):
                    await app.reload()
                    (both,) = said()
                    assert both.startswith(f"{number} +2 is also a number of trunk ST_s")
                assert app._routes.index.authorise(Caller("1", "+2")).status == 403, "its password stands"
        assert "geheim" not in str(logs)


async def test_given_a_rule_made_over_the_api_then_calls_follow_it_within_a_second(tmp_path: Path) -> None:
    async with Application(load(tmp_path, f"api: {{listen: '127.0.0.1:0', keys: {{key: {SECRET}}}}}\n")) as app:
        running = asyncio.create_task(app.run())
        async with api.LiveKitAPI(f"http://127.0.0.1:{app.api_port}", "key", SECRET) as client:
            made = await client.sip.create_dispatch_rule(
                sip.CreateSIPDispatchRuleRequest(
                    dispatch_rule=sip.SIPDispatchRuleInfo(
                        rule=sip.SIPDispatchRule(dispatch_rule_direct=sip.SIPDispatchRuleDirect(room_name="of the API"))
                    )
                )
            )
            async with asyncio.timeout(1):
                while not app._routes.inventory.dispatch_rules:  # noqa: ASYNC110  (nobody is told when)
                    await asyncio.sleep(0.01)
            assert decided(app) == "of the API"
            await client.sip.delete_dispatch_rule(sip.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=made.sip_dispatch_rule_id))
            async with asyncio.timeout(1):
                while app._routes.inventory.dispatch_rules:  # noqa: ASYNC110  (as above)
                    await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


TRUNK = "trunks:\n  - {{numbers: ['+15550100'], auth_username: acme, auth_password: {password}}}\n"


async def test_given_a_directory_when_the_store_breaks_then_nobody_is_let_in_and_a_wrong_file_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = f"api: {{listen: '127.0.0.1:0', directory: {{secret: {SECRET}}}}}\n"
    question = {"section": "directory", "action": "sip_auth", "sip_auth_method": "INVITE", "key_value": "r", "sip_auth_realm": "r"}
    headers = {"Authorization": "Basic " + base64.b64encode(f":{SECRET}".encode()).decode()}
    async with Application(load(tmp_path, access + TRUNK.format(password="one"))) as app, aiohttp.ClientSession() as session:

        async def ask() -> tuple[int, str]:
            body = question | {"user": "acme", "sip_auth_username": "acme"}
            async with session.post(f"http://127.0.0.1:{app.api_port}/freeswitch/directory", data=body, headers=headers) as response:
                return response.status, await response.text()

        status, first = await ask()
        assert (status, "ST_config000000" in first) == (200, True)
        configure(tmp_path, access + "trunks: {}\n")
        await app.reload()
        assert app.objects.trouble
        assert await ask() == (200, first)
        configure(tmp_path, access + TRUNK.format(password="another"))
        await app.reload()
        status, second = await ask()
        assert (status, second != first) == (200, True)
        with monkeypatch.context() as patched:
            patched.setattr(SqliteObjects, "trouble", "the disk is gone")
            assert await ask() == (503, "")
        assert await ask() == (200, second)


async def test_given_an_index_that_was_replaced_then_nothing_of_it_stays_though_all_was_frozen(tmp_path: Path) -> None:
    async with Application(load(tmp_path, RULE.format(room="first"))) as app:
        old = weakref.ref(app._routes.index._rules)
        # More changes than are worked into the index there is.
        many = [f"{{rule: {{dispatch_rule_direct: {{room_name: r, pin: '{number}'}}}}}}" for number in range(FEW + 1)]
        configure(tmp_path, f"dispatch_rules: [{', '.join(many)}]\n")
        await app.reload()
        assert len(app._routes.inventory.dispatch_rules) == FEW + 1
        assert old() is None


async def test_given_hangup_signals_in_a_row_then_what_was_written_last_counts(tmp_path: Path) -> None:
    async with Application(load(tmp_path, RULE.format(room="first"))) as app:
        running = asyncio.create_task(app.run())
        for number in range(10):
            configure(tmp_path, RULE.format(room=f"room-{number}"))
            app.ask_for_reload()
            await asyncio.sleep(0.001)
        async with asyncio.timeout(10):
            while decided(app) != "room-9":  # noqa: ASYNC110  (nobody is told when)
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def decided(app: Application) -> str:
    caller = Caller(number="+15550123", called="+15550100")
    index = app._routes.index
    decision = index.dispatch(caller, index.authorise(caller), call_id="c", room_suffix=lambda: "x")
    assert isinstance(decision, Accept)
    return decision.room_name


def room_of(app: Application) -> str:
    kind = next(iter(app._routes.inventory.dispatch_rules.values())).rule
    assert kind is not None
    assert kind.dispatch_rule_direct is not None
    return kind.dispatch_rule_direct.room_name


async def test_given_two_pbxes_when_a_newer_server_takes_over_one_and_then_the_other_then_the_command_ends_and_says_so(
    tmp_path: Path,
) -> None:
    async with AmiServer("x") as one, AmiServer("x") as other:
        path = tmp_path / "roomline.yaml"
        pbxes = "".join(f'  - {{name: {name}, ami: {{port: {ami.port}, secret: "x"}}}}\n' for name, ami in (("one", one), ("other", other)))
        path.write_text(f"pbx:\n{pbxes}media: {{listen: 127.0.0.1:0}}\nstore: sqlite:///{tmp_path}/roomline.db\nlog: {{format: json}}\n")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "serve", "-c", str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(30):
                while not all(HEARTBEAT in ami.variables for ami in (one, other)):  # noqa: ASYNC110  (the server tells no moment of it)
                    await asyncio.sleep(0.02)
                one.variables[HEARTBEAT] = "99:newer:1"
                await asyncio.sleep(1.5)
                assert process.returncode is None, "it serves the other one"
                other.variables[HEARTBEAT] = "99:newer:1"
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
    assert process.returncode == 3
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["why"] for line in lines if line["level"] == "error"] == ["a newer server has taken over every PBX"]
    assert one.variables[HEARTBEAT] == other.variables[HEARTBEAT] == "99:newer:1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_given_a_signal_then_the_command_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    path = configure(tmp_path, "log: {format: json}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ROOMLINE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bridge",
        "serve",
        "-c",
        str(path),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = b""
    try:
        async with asyncio.timeout(20):
            while b"roomline serves" not in said:
                line = await process.stdout.readline()
                assert line, said.decode()
                said += line
            process.send_signal(number)
            said += await process.stdout.read()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
    assert b"roomline has stopped" in said
    assert b"Traceback" not in said


async def test_given_a_wrong_file_then_the_command_ends_with_status_2_and_a_sentence(tmp_path: Path) -> None:
    path = configure(tmp_path, "nonsense: 1\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "serve", "-c", str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 2
    assert f"{path}:5: nonsense: there is no such key" in out.decode()
    assert len(out.splitlines()) == 1


def test_given_a_controller_with_livekit_rooms_then_the_native_sdk_is_not_in_its_process() -> None:
    """A panic in the SDK ends its process: that must never be the one that controls calls (DESIGN §8)."""
    code = "import sys, bridge.app, bridge.cli; sys.exit('livekit.rtc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_given_livekits_rooms_when_somebody_who_is_no_caller_is_to_be_handed_on_then_its_server_is_asked_who_that_is(
    tmp_path: Path,
) -> None:
    rooms = f"rooms: {{kind: livekit, url: 'ws://127.0.0.1:1', key: key, secret: {SECRET}}}\n"
    more = rooms + f"outbound: {{allow: ['+1*']}}\napi: {{listen: '127.0.0.1:0', keys: {{key: {SECRET}}}}}\n"
    async with Application(load(tmp_path, more)) as app, api.LiveKitAPI(f"http://127.0.0.1:{app.api_port}", "key", SECRET) as client:
        request = sip.TransferSIPParticipantRequest(room_name="lobby", participant_identity="agent", transfer_to="tel:+1")
        with pytest.raises(api.TwirpError, match=r"LiveKit cannot be reached \(127\.0\.0\.1:1\)") as refused:
            await client.sip.transfer_sip_participant(request)
        assert refused.value.code == "unavailable"
