"""The carrier's command line and its softphone account; its calls are tried in tests/real."""

import asyncio
import io
import threading
import time
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from bridge.errors import RoomlineError
from bridge.testing import carrier_program
from bridge.testing.ami import Message
from bridge.testing.asterisk_process import Manager
from bridge.testing.caller import Caller, Outcome, Plan, Told
from bridge.testing.carrier import AsteriskCall, CallEnding, Carrier, CarrierCall
from bridge.testing.carrier_config import CarrierSettings, Softphone, carrier_files
from bridge.testing.demo_story import Storyteller
from bridge.testing.ear import Ear
from bridge.testing.hearing import Heard
from bridge.testing.recording import Recording, Samples

SETTINGS = CarrierSettings(Manager("127.0.0.1", 5038, "test", "x"), 5060, (10000, 10040), "127.0.0.2")


def test_given_a_call_then_the_rest_has_usual_values() -> None:
    given = carrier_program._options(["call", "2000", "--pin", "1234", "--save", "heard.wav"])
    assert (given.number, given.pin, given.talk, given.save) == ("2000", "1234", 4.0, Path("heard.wav"))
    assert not given.json


@pytest.mark.parametrize("arguments", [(), ("call",), ("call", "1", "--json", "--save", "-"), ("call", "1", "--talk", "long")])
def test_given_what_makes_no_sense_then_it_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        carrier_program._options(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("password", ["", "with space", "two\nlines", "semi;colon"])
def test_given_a_password_that_asterisk_would_read_otherwise_then_it_is_refused(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("SOFTPHONE_PASSWORD", password)
    with pytest.raises(RoomlineError, match="SOFTPHONE_PASSWORD"):
        carrier_program._softphone_password()


def test_given_a_pbx_without_a_name_then_the_exit_status_says_that_nobody_was_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PBX", "nowhere.invalid:5060")
    monkeypatch.setattr("sys.argv", ["carrier", "call", "2000"])
    assert carrier_program.main() == 2
    assert "nowhere.invalid" in capsys.readouterr().out


def test_given_a_softphone_then_it_has_an_account_and_dials_the_pbx() -> None:
    plain = carrier_files(SETTINGS)
    assert "softphone" not in plain["pjsip.conf"] + plain["extensions.conf"]
    softphone = Softphone(5060, "Secret1", ("192.0.2.1", 5062))
    files = carrier_files(CarrierSettings(SETTINGS.manager, 5060, SETTINGS.rtp, SETTINGS.host, softphone))
    assert "password=Secret1" in files["pjsip.conf"]
    assert "sip:${EXTEN}@192.0.2.1:5062" in files["extensions.conf"]
    assert "Secret1" not in repr(softphone)


def test_given_an_outcome_then_only_the_room_is_a_good_one() -> None:
    for outcome in Outcome:
        told = Told(outcome, 200, 0.0, 0.5, 3.0, ended_by_caller=True, heard=())
        assert told.ok == (outcome is Outcome.IN_ROOM)
        assert told.to_json()["outcome"] == outcome.value
    assert "1234" not in repr(Plan("2000", pin="1234"))


class EndedUnanswered:
    """A carrier whose Asterisk tells each call's end at once, as 22.10 does both when its own time is up and when it gets a 480."""

    async def call(self, number: str, *, caller: str, ring_for: float) -> AsteriskCall:
        call = AsteriskCall(cast(Carrier, self), Ear(8000), caller, number, ring_for)
        told = {"Event": "Hangup", "Cause": "19", "Cause-txt": "User alerting, no answer", "TechCause": "480"}
        call.told(Message(tuple(told.items())))
        return call


@pytest.mark.parametrize(
    ("patience", "outcome", "status", "line", "verdict"),
    [
        (0.0, Outcome.UNANSWERED, 487, "gives up: CANCEL", "not answered, 0.0 s"),
        (60.0, Outcome.REFUSED, 480, "gets 480", "refused, SIP 480, 0.0 s"),
    ],
    ids=["the caller's time is up", "the other side refuses"],
)
def test_given_a_call_that_ends_unanswered_then_it_is_told_who_ended_it(
    patience: float, outcome: Outcome, status: int, line: str, verdict: str
) -> None:
    story = io.StringIO()
    caller = Caller(cast(Carrier, EndedUnanswered()), Storyteller(Console(file=story)))
    told, _ = asyncio.run(caller.call(Plan("2001", ring=patience)))
    assert (told.outcome, told.sip_status, told.ended_by_caller) == (outcome, status, outcome is Outcome.UNANSWERED)
    assert line in story.getvalue()
    assert carrier_program._verdict(told) == verdict


class AnsweredAtOnce(CarrierCall):
    """A call whose words are said in no time."""

    def __init__(self) -> None:
        super().__init__(Ear(8000), "+15550111", "2001")
        self._was_answered()
        self.ear.connected.set()

    async def say(self, samples: Samples, rate: int | None = None) -> float:
        return time.monotonic()

    async def press(self, digits: str, *, duration_ms: int = 100, gap_ms: int = 150) -> None:
        raise AssertionError("nobody asks for keys")

    async def hang_up(self) -> None:
        self._is_over(CallEnding(200, 16, "Normal Clearing", by_us=True, at=time.monotonic()))


def test_given_a_call_that_is_up_then_its_loop_goes_on_hearing_and_judges_only_once_it_has_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    call = AnsweredAtOnce()
    judged: list[bool] = []

    def listen(_: Recording) -> list[Heard]:
        if threading.current_thread() is threading.main_thread():
            judged.append(call.ending is not None)
        return []

    class Placing:
        async def call(self, number: str, *, caller: str, ring_for: float) -> CarrierCall:
            return call

    monkeypatch.setattr("bridge.testing.caller.hear", listen)
    told, _ = asyncio.run(Caller(cast(Carrier, Placing()), Storyteller(Console(file=io.StringIO()))).call(Plan("2001")))
    assert told.outcome is Outcome.IN_ROOM
    assert judged, "nobody listened"
    assert all(judged), "while it was judged, nothing could be heard"


@pytest.mark.parametrize(("rooms", "outcome"), [("local", Outcome.IN_ROOM), ("livekit", Outcome.UNANSWERED), ("ones-own", Outcome.IN_ROOM)])
def test_given_the_rooms_then_the_demo_knows_who_answers_the_open_rule(rooms: str, outcome: Outcome) -> None:
    calls = carrier_program.demo_calls(rooms)
    assert [wanted for _, _, wanted in calls] == [Outcome.IN_ROOM, Outcome.WRONG_PIN, Outcome.REFUSED, outcome]
