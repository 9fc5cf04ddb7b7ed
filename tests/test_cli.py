"""The command line: what an operator types, and what it says."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import bridge.cli
from bridge.model.ending import EndedBy, EndReason
from bridge.model.record import CallRecord
from bridge.model.rule import DirectRule, DispatchRule, Rule
from bridge.model.trunk import InboundTrunk
from bridge.store.port import Edit, StoredObject
from bridge.store.sqlite import SqliteStore
from bridge.store.sqlite_objects import SqliteObjects
from bridge.testing.freeswitch import FreeSwitchServer

PIN, PASSWORD, SECRET = "80428617", "open sesame", "the manager's own"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "roomline.yaml"
    path.touch(mode=0o600)
    path.write_text(
        f"""
pbx:
  - {{name: hq, ami: {{port: 1, secret: "{SECRET}"}}}}
store: sqlite:///{tmp_path}/roomline.db
trunks:
  - {{sip_trunk_id: ST_main, numbers: ["+15550100"], allowed_addresses: [203.0.113.0/24]}}
  - {{sip_trunk_id: ST_password, numbers: ["+15550101"], auth_username: someone, auth_password: "{PASSWORD}"}}
dispatch_rules:
  - {{sip_dispatch_rule_id: SDR_pin, trunk_ids: [ST_main], rule: {{dispatch_rule_direct: {{room_name: lobby, pin: "{PIN}"}}}}}}
"""
    )
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output, standard error. Nothing secret is ever in either."""
    with pytest.raises(SystemExit) as ended:
        bridge.cli.main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    for secret in (PIN, PASSWORD, SECRET):
        assert secret not in told.out + told.err
    assert "Traceback" not in told.err
    status = ended.value.code
    return (status if isinstance(status, int) else 0 if status is None else 1), told.out, told.err


@pytest.mark.parametrize("command", ["serve", "check", "explain", "calls", "hangup", "transfer", "token"])
def test_given_help_then_it_shows_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"Example: roomline {command}" in out
    assert "--config" in out


def test_given_no_command_then_the_help_says_where_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = run(capsys)
    assert "roomline check" in out + err


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_given_version_then_it_is_shown(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert out.startswith("roomline ")


@pytest.mark.parametrize("arguments", [["sing"], ["serve", "--loud"], ["explain", "--from", "+1"], ["calls", "--limit", "0"]])
def test_given_a_wrong_word_then_the_status_is_2_and_there_is_no_traceback(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert err


def test_given_no_configuration_then_the_error_says_where_it_was_looked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROOMLINE_CONFIG", raising=False)
    status, _, err = run(capsys, "check")
    assert status == 2
    assert "--config" in err
    assert "/etc/roomline/roomline.yaml" in err


# --- check --------------------------------------------------------------------------------------------------------------


def test_given_a_pbx_that_cannot_be_reached_then_check_says_what_to_do_and_fails(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    status, out, _ = run(capsys, "check", "-c", config)
    assert status == 1
    assert "✔" in out
    assert "✘ hq: the AMI at 127.0.0.1:1 cannot be reached" in out
    assert "→" in out


def test_given_a_sound_file_when_the_pbx_is_not_asked_then_check_succeeds(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    status, out, _ = run(capsys, "check", "--offline", "-c", config)
    assert status == 0
    assert "2 trunks, 1 rules, 0 numbers" in out


def test_given_livekit_rooms_then_check_asks_livekit_too(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    with config.open("a") as file:
        file.write(f"rooms: {{kind: livekit, url: 'ws://127.0.0.1:1', key: K, secret: '{PASSWORD * 3}'}}\n")
    status, out, _ = run(capsys, "check", "-c", config)
    assert status == 1
    assert "✘ LiveKit cannot be reached (127.0.0.1:1)" in out
    assert "→ start LiveKit, or compare rooms.url" in out
    _, out, _ = run(capsys, "check", "--offline", "-c", config)
    assert "LiveKit cannot" not in out


def test_given_a_file_with_secrets_that_others_may_read_then_check_warns(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    config.chmod(0o644)
    status, out, _ = run(capsys, "check", "--offline", "-c", config)
    assert status == 0
    assert f"chmod 600 {config}" in out


def test_given_rules_that_contradict_then_check_names_the_line_and_fails(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    with config.open("a") as file:
        file.write(f'  - {{trunk_ids: [ST_main], rule: {{dispatch_rule_direct: {{room_name: other, pin: "{PIN}"}}}}}}\n')
    status, out, _ = run(capsys, "check", "--offline", "-c", config)
    assert status == 1
    assert f"✘ {config}:10: dispatch_rules[1]" in out


def fill(path: Path, *objects: StoredObject) -> None:
    async def write() -> None:
        async with SqliteObjects(path) as store:
            await store.change(lambda _: Edit(put=objects))

    asyncio.run(write())


def test_given_objects_in_file_and_store_then_check_looks_at_them_together(
    capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path
) -> None:
    rule = Rule(dispatch_rule_direct=DirectRule(room_name="r"))
    config.write_text(config.read_text().partition("trunks:")[0] + "phone_numbers: [{e164_format: '+2', sip_dispatch_rule_id: SDR_x}]\n")
    _, out, _ = run(capsys, "check", "--offline", "-c", config)
    assert "! there is no dispatch rule: every caller gets 404" in out
    assert f"✘ PN_config000000 ({config}:5) there is no dispatch rule 'SDR_x': its callers get 404" in out
    fill(tmp_path / "roomline.db", DispatchRule(sip_dispatch_rule_id="SDR_x", rule=rule))
    assert (run(capsys, "check", "--offline", "-c", config)[:2]) == (
        0,
        f"✔ {config}: 0 trunks, 0 rules, 1 numbers\n\nThe configuration is sound; nobody was asked.\n",
    )
    trunk = InboundTrunk(sip_trunk_id="ST_s", numbers=("(2)",), auth_username="u", auth_password=PASSWORD)
    fill(tmp_path / "roomline.db", trunk)
    status, out, _ = run(capsys, "check", "--offline", "-c", config)
    assert status == 1
    assert f"✘ PN_config000000 ({config}:5) +2 is also a number of trunk ST_s" in out
    config.write_text(config.read_text().replace("ami: {", "trusted_endpoints: {a: ST_s, b: ST_none}, ami: {", 1))
    _, out, _ = run(capsys, "check", "--offline", "-c", config)
    assert "✘ pbx[0].trusted_endpoints.b there is no trunk 'ST_none'" in out
    assert "'ST_s'" not in out


def test_given_json_then_check_tells_machines_the_same(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    status, out, _ = run(capsys, "check", "-c", config, "--json")
    told = json.loads(out)
    assert status == 1
    assert told["ok"] is False
    assert {finding["ok"] for finding in told["findings"]} == {True, False}


def test_given_an_unknown_key_then_the_status_is_2_and_the_line_is_named(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    config.write_text("calls: {limt: 3}\n" + config.read_text())
    status, _, err = run(capsys, "serve", "-c", config)
    assert status == 2
    assert f"{config}:1: calls.limt: there is no such key; did you mean limit?" in err


# --- explain ------------------------------------------------------------------------------------------------------------

TO_MAIN = ("--from", "+15551234", "--to", "+15550100", "--source-ip", "203.0.113.7")


def test_given_a_call_when_explained_then_every_trunk_and_rule_is_listed_with_what_does_not_fit(
    capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    status, out, _ = run(capsys, "explain", "-c", config, *TO_MAIN)
    assert status == 0
    assert "✔ trunk ST_main" in out
    assert "✘ trunk ST_password: failed, numbers: +15550100 is not +15550101" in out
    assert "SDR_pin" in out


@pytest.mark.parametrize(("entered", "room"), [(PIN, "lobby"), ("1111", None), ("", None)])
def test_given_a_pin_on_standard_input_then_it_is_judged_and_never_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Path, entered: str, room: str | None
) -> None:
    typed = tmp_path / "typed"
    typed.write_text(entered + "\n")
    with typed.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        status, out, _ = run(capsys, "explain", "-c", config, *TO_MAIN, "--pin", "-", "--json")
    assert status == 0
    told = json.loads(out)
    assert told.get("room") == room
    assert told["decision"] == ("accept" if room else "refuse")
    assert not entered or entered not in out


@pytest.mark.parametrize("value", ["\r\nAction: x", "\0", "🦄", "1" * 65_536, "${SHELL(id)}", "\u202e", "+" * 300])
def test_given_hostile_numbers_when_explained_then_they_are_only_text(capsys: pytest.CaptureFixture[str], config: Path, value: str) -> None:
    status, out, _ = run(capsys, "explain", "-c", config, "--from", value, "--to", value, "--source-ip", value)
    assert status == 0
    assert "\0" not in out
    assert "\r" not in out
    assert len(out) < 20_000


# --- calls --------------------------------------------------------------------------------------------------------------


def test_given_records_then_calls_shows_them_the_newest_last(capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path) -> None:
    async def keep() -> None:
        async with SqliteStore(tmp_path / "roomline.db") as store:
            for number in range(3):
                await store.keep_record(record(number))

    asyncio.run(keep())
    status, out, _ = run(capsys, "calls", "-c", config, "--limit", "2")
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 2
    assert "+1555000 → +15550100" not in out
    assert lines[-1].endswith("room lobby  5 s  hangup by caller (cause 16)")
    status, out, _ = run(capsys, "calls", "-c", config, "--json")
    assert [json.loads(line)["call_id"] for line in out.splitlines()] == ["SCL_0", "SCL_1", "SCL_2"]


def test_given_no_records_then_calls_shows_nothing(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    assert run(capsys, "calls", "-c", config) == (0, "", "")


def test_given_a_store_that_cannot_be_used_then_the_error_says_which(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    (config.parent / "roomline.db").write_text("this is no database, but a text that is long enough to look at" * 20)
    status, _, err = run(capsys, "calls", "-c", config)
    assert status == 2
    assert "roomline.db" in err


def record(number: int) -> CallRecord:
    return CallRecord(
        call_id=f"SCL_{number}",
        pbx="hq",
        leg_id=f"{number}",
        number=f"+1555{number:03}",
        called="+15550100",
        room="lobby",
        started_at=1_700_000_000.0 + 10 * number,
        answered_at=1_700_000_001.0 + 10 * number,
        ended_at=1_700_000_005.0 + 10 * number,
        end_reason=EndReason.HANGUP,
        ended_by=EndedBy.CALLER,
        detail="cause 16",
        sip_status=200,
        pin_tries=0,
    )


@pytest.fixture
def event_socket() -> Iterator[int]:
    """The port of one on which a scripted FreeSWITCH answers, in a loop of its own: the command line has another one."""
    loop, started, port = asyncio.new_event_loop(), threading.Event(), 0

    async def serve() -> None:
        nonlocal port
        async with FreeSwitchServer(SECRET) as server:
            port = server.port
            started.set()
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait(10)
    yield port
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def test_given_a_freeswitch_when_checked_then_it_is_the_one_that_is_asked_and_what_it_lacks_is_said(
    config: Path, capsys: pytest.CaptureFixture[str], event_socket: int
) -> None:
    text = config.read_text().replace(
        f'name: hq, ami: {{port: 1, secret: "{SECRET}"', f'kind: freeswitch, name: fs, esl: {{port: {event_socket}, secret: "{SECRET}"'
    )
    config.write_text(text)
    status, out, _ = run(capsys, "check", "-c", config)
    assert status == 1
    assert "✔ fs: the event socket answers (FreeSWITCH Version" in out
    assert "✘ fs: the dialplan has no context roomline" in out
    assert "✘ fs: nobody gets in by the 1 trunks with a password" in out
    config.write_text(f"{text}api: {{listen: '127.0.0.1:0', directory: {{secret: sixteen-letters-x}}}}\n")
    _, out, _ = run(capsys, "check", "-c", config)
    assert "✘ fs: mod_xml_curl is not loaded: nobody gets in by the 1 trunks with a password" in out
