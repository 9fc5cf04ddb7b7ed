"""What a log shows, and what it never does."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from bridge.logs import setup_logs, shorten_livekit

SECRET = "735190"


@pytest.fixture(autouse=True)
def _configuration() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def a_fault_while_holding(pin: str) -> None:
    entered = {"keys pressed": list(pin), "pin entered": pin}
    raise ZeroDivisionError(len(entered))


@pytest.mark.parametrize("form", ["text", "json"])
def test_given_a_fault_with_a_pin_in_a_frame_then_the_traceback_does_not_show_it(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logs("debug", form)
    try:
        a_fault_while_holding(SECRET)
    except ZeroDivisionError:
        structlog.get_logger().exception("a fault of ours")
    written = capsys.readouterr().err
    assert "a_fault_while_holding" in written
    assert SECRET not in written
    assert "'7'" not in written


@pytest.mark.parametrize("form", ["text", "json"])
def test_given_values_under_a_secrets_name_at_any_depth_then_they_are_not_shown(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logs("debug", form)
    structlog.get_logger().info("call", pin=SECRET, outer={"Token": SECRET, "list": [{"password": SECRET}]}, tries=({"digits": SECRET},))
    written = capsys.readouterr().err
    assert "[redacted]" in written
    assert SECRET not in written


def test_given_a_calls_story_then_its_id_is_on_every_line_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logs("info", "auto")  # no terminal: JSON
    with structlog.contextvars.bound_contextvars(call_id="SCL_1"):
        structlog.get_logger().info("talking", room="lobby")
        structlog.get_logger().debug("not shown")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["call_id"], line["room"], line["level"]) == ("talking", "SCL_1", "lobby", "info")


def test_given_nobody_who_reads_the_log_any_more_then_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """`roomline serve 2>&1 | head -1`, or a collector that died: calls go on."""

    class Broken(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    setup_logs("info", "json")
    structlog.get_logger().info("a call ended")


def test_given_the_sdks_own_log_of_an_event_it_could_not_handle_then_the_event_is_not_shown() -> None:
    record = logging.LogRecord("root", logging.ERROR, "/livekit/rtc/room.py", 732, "event %s", (SECRET,), None)
    assert shorten_livekit(record)
    assert SECRET in record.getMessage()  # no fault: left alone
    record.exc_info = (ValueError, ValueError("x"), None)
    assert shorten_livekit(record)
    assert SECRET not in record.getMessage()
