"""The demo's command line, its judgement and its JSON; the calls themselves are in tests/real/test_demo.py."""

import io
import json
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from rich.console import Console

from bridge.errors import RoomlineError
from bridge.testing import demo
from bridge.testing.demo_calls import CallResult
from bridge.testing.demo_config import CONFIGURATION, NUMBERS
from bridge.testing.demo_story import Storyteller
from bridge.testing.ports import free_port

SECRET = "a secret of a length that nobody complains of"


def options(*arguments: str) -> demo.Options:
    return demo._options(arguments)


def test_without_arguments_it_calls_and_stays_up() -> None:
    assert options() == demo.Options(once=False, json=False, calls=True, sip=None, config=None, livekit=None, keep=None)


def test_a_configuration_of_ones_own_makes_no_calls(tmp_path: Path) -> None:
    given = options("--config", str(tmp_path / "my.yaml"), "--keep", str(tmp_path))
    assert not given.calls
    assert given.keep == tmp_path


def test_livekit_is_ones_own_or_one_that_is_there() -> None:
    assert options("--livekit", "--once").livekit == ""
    assert options("--livekit", "wss://example.test").livekit == "wss://example.test"


def test_the_pbx_is_an_asterisk_unless_it_is_said_otherwise() -> None:
    assert not options("--pbx", "asterisk").freeswitch
    assert options("--pbx", "freeswitch").freeswitch


def test_without_a_freeswitch_it_says_what_is_missing_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FREESWITCH", "/nowhere/freeswitch")
    monkeypatch.setattr(sys, "argv", ["demo", "--pbx", "freeswitch", "--once", "--json"])
    assert demo.main() == 1
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["ok"], outcome["calls"]) == (False, [])
    assert "/nowhere/freeswitch does not run" in outcome["error"]
    assert "docs/freeswitch.md" in outcome["error"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--once", "--no-calls"),
        ("--sip", "nonsense"),
        ("--sip", "127.0.0.1:0"),
        ("--unknown",),
        ("--pbx", "elsewhere"),
        ("--livekit", "--config", "my.yaml"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options(*arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_place_that_is_taken_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(SystemExit):
            options("--sip", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "cannot listen" in capsys.readouterr().err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options("--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("--once", "--json", "--no-calls", "--sip", "--config", "--livekit", "--keep", "ASTERISK"))


@pytest.mark.parametrize(("text", "reason"), [("- a list", "mapping"), ("a: [", "my.yaml")])
def test_a_configuration_that_is_none_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(RoomlineError, match=reason):
        demo._configuration(path)
    with pytest.raises(RoomlineError, match="cannot be read"):
        demo._configuration(tmp_path / "nothing.yaml")


async def test_a_livekit_without_its_key_is_refused_with_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.delenv("LIVEKIT_API_SECRET", raising=False)
    async with AsyncExitStack() as cleaning:
        with pytest.raises(RoomlineError, match="needs LIVEKIT_API_SECRET in the environment"):
            await demo._with_livekit("ws://127.0.0.1:1", cleaning, Storyteller(Console(file=io.StringIO())))


async def test_a_livekit_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    url = f"ws://127.0.0.1:{free_port()}"
    async with AsyncExitStack() as cleaning:
        with pytest.raises(RoomlineError, match="LiveKit") as refused:
            await demo._with_livekit(url, cleaning, Storyteller(Console(file=io.StringIO())))
    assert SECRET not in str(refused.value)


def test_one_call_that_went_wrong_is_enough_to_fail(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = CallResult("one", sip_status=200), CallResult("two", problems=["silence"])
    given = options("--json")
    assert demo._finish(given, [good], "") == 0
    assert demo._finish(given, [good, bad], "") == 1
    assert demo._finish(given, [], "no Asterisk") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ok"] for line in lines] == [True, False, False]
    assert lines[2]["error"] == "no Asterisk"
    wanted = {"name", "sip_status", "room", "answered", "pin_tries", "ended_by", "heard_seconds", "round_trip_ms", "trace"}
    assert wanted <= lines[0]["calls"][0].keys()


def test_every_number_of_the_demo_is_configured_and_explained() -> None:
    configured = {number for trunk in CONFIGURATION["trunks"] for number in trunk["numbers"]}
    assert configured == {number for number, _ in NUMBERS}


def test_a_story_has_one_line_per_event() -> None:
    console = Console(record=True, width=120, file=io.StringIO())
    story = Storyteller(console)
    story.progress("downloading 3 packages: 1 of 9 MB")
    story.progress("downloading 3 packages: 2 of 9 MB")
    story.progress("unpacking")
    story.begin("a call")
    story.tell("hears", "[a tone] of 900 Hz")
    story.verdict([])
    story.verdict(["no tone"])
    story.numbers("127.0.0.1:5060", NUMBERS)
    lines = console.export_text().splitlines()
    assert [line for line in lines if line.startswith("·")] == ["· downloading 3 packages: 1 of 9 MB", "· unpacking"]
    assert any("hears" in line and "[a tone] of 900 Hz" in line for line in lines)
    assert any("✘" in line and "no tone" in line for line in lines)
    assert any(f"sip:{NUMBERS[0][0]}@127.0.0.1:5060" in line for line in lines)
