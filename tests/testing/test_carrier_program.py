"""The carrier's command line and its softphone account; its calls are tried in tests/real."""

from pathlib import Path

import pytest

from bridge.errors import RoomlineError
from bridge.testing import carrier_program
from bridge.testing.asterisk_process import Manager
from bridge.testing.caller import Outcome, Plan, Told
from bridge.testing.carrier_config import CarrierSettings, Softphone, carrier_files

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
