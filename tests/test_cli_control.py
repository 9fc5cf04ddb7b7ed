"""What the command line asks of a server that runs, and its tokens. A call that is up is in tests/real."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

import bridge.cli
from bridge.api.auth import Grants, Keys
from bridge.app import Application
from bridge.cli_control import live_call_line
from bridge.model.note import CallState
from bridge.model.record import LiveCall
from bridge.settings import Settings
from bridge.testing.ports import free_port

SECRET = "a-secret-of-thirty-two-characters!"

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "roomline.yaml"
    path.write_text(
        f"""
pbx: [{{name: hq, ami: {{port: 1, secret: x}}}}]
media: {{listen: "127.0.0.1:0"}}
store: sqlite:///{tmp_path}/roomline.db
api: {{listen: "0.0.0.0:{free_port()}", keys: {{devkey: "{SECRET}", other: "{SECRET[::-1]}"}}}}
"""
    )
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], config: Path) -> Run:
    """Exit status, and what was said."""

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()  # a server in this process has said things
        with pytest.raises(SystemExit) as ended:
            bridge.cli.main([*arguments, "--config", str(config)])
        told = capsys.readouterr()
        assert SECRET not in told.out + told.err
        assert "Traceback" not in told.err
        return int(ended.value.code or 0), told.out + told.err

    return run


@pytest.mark.parametrize(
    ("arguments", "grants"),
    [
        (["--admin"], Grants(sip_admin=True)),
        (["--call", "--room", "lobby", "--identity", "me"], Grants("me", sip_call=True, room_admin=True, room="lobby")),
    ],
)
def test_given_token_then_it_is_one_of_the_servers_and_grants_what_was_asked_for(run: Run, arguments: list[str], grants: Grants) -> None:
    status, said = run("token", *arguments, "--ttl", "60")
    assert (status, len(said.split())) == (0, 1)
    assert Keys({"devkey": SecretStr(SECRET)}).grants(f"Bearer {said.strip()}") == grants
    _, other = run("token", *arguments, "--key", "other")
    assert Keys({"other": SecretStr(SECRET[::-1])}).grants(f"Bearer {other.strip()}") == grants


@pytest.mark.parametrize(("arguments", "says"), [([], "grants nothing"), (["--admin", "--key", "third"], "there are devkey, other")])
def test_given_token_that_cannot_be_made_then_the_sentence_says_why(run: Run, arguments: list[str], says: str) -> None:
    status, said = run("token", *arguments)
    assert (status, says in said) == (2, True), said


def test_given_no_server_then_the_commands_say_where_they_asked(run: Run) -> None:
    for command in (["calls", "--live"], ["hangup", "SCL_a"], ["transfer", "SCL_a", "tel:+1"]):
        status, said = run(*command)
        assert (status, "the server does not answer at http://127.0.0.1:" in said) == (2, True), said


def test_given_a_server_without_an_api_then_the_key_is_named(run: Run, config: Path) -> None:
    config.write_text("pbx: [{name: hq, ami: {port: 1, secret: x}}]\n")
    status, said = run("calls", "--live")
    assert (status, "api.listen" in said) == (2, True), said
    status, said = run("token", "--admin")
    assert (status, "api.keys" in said) == (2, True), said


async def test_given_a_server_then_it_is_asked(run: Run, config: Path) -> None:
    async with Application(Settings.load(config, {}).sound()):
        assert await asyncio.to_thread(run, "calls", "--live") == (0, "")
        for command, says in (
            (["hangup", "SCL_a"], "no live call has the id 'SCL_a'"),
            (["transfer", "SCL_a", "tel:+1"], "no live call has the id 'SCL_a'"),
            (["hangup", "../../calls"], "no live call has the id '../../calls'"),
        ):
            status, said = await asyncio.to_thread(run, *command)
            assert (status, says in said) == (2, True), said


def test_given_a_live_call_then_its_line_tells_who_where_and_what() -> None:
    facts = {"call_id": "SCL_a", "pbx": "hq", "leg_id": "1", "started_at": 0.0, "answered": True, "number": "+1", "called": "+2"}
    talking = LiveCall.model_validate({**facts, "state": CallState.TALKING, "room": "lobby", "identity": "me", "transfer_to": "tel:+3"})
    assert live_call_line(talking, "now", 61.4) == "SCL_a  now  +1 → +2  room lobby as me  61 s  talking, being handed on to tel:+3"
    asked = LiveCall.model_validate({**facts, "state": CallState.PIN, "number": "", "held": True})
    assert live_call_line(asked, "now", 5) == "SCL_a  now  ? → +2  no room yet  5 s  pin, on hold"
