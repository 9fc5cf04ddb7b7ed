"""Which FreeSWITCH is taken, and what is said where there is none."""

from pathlib import Path

import pytest

from bridge.testing.get_freeswitch import NoFreeSwitch, get_freeswitch


def program(folder: Path, says: str) -> Path:
    path = folder / "freeswitch"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_given_one_that_is_named_then_it_is_taken_with_its_version(tmp_path: Path) -> None:
    named = program(tmp_path, "FreeSWITCH version: 1.10.12-release~64bit ( 64bit)")
    found = get_freeswitch({"FREESWITCH": str(named), "PATH": "/nowhere"})
    assert (found.binary, found.version) == (str(named), "1.10.12-release")


def test_given_one_on_path_then_it_is_taken(tmp_path: Path) -> None:
    on_path = program(tmp_path, "FreeSWITCH Version: 1.10.9~x")
    assert get_freeswitch({"PATH": f"/nowhere:{tmp_path}"}).binary == str(on_path)


@pytest.mark.parametrize("says", ["", "Asterisk 22"])
def test_given_one_that_is_none_then_it_is_said(tmp_path: Path, says: str) -> None:
    with pytest.raises(NoFreeSwitch, match="does not say its version"):
        get_freeswitch({"FREESWITCH": str(program(tmp_path, says))})


def test_given_none_then_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.testing.get_freeswitch._FOLDERS", "/nowhere")
    with pytest.raises(NoFreeSwitch, match=r"FREESWITCH=PATH"):
        get_freeswitch({"PATH": "/nowhere"})
    with pytest.raises(NoFreeSwitch, match="does not run"):
        get_freeswitch({"FREESWITCH": "/nowhere/freeswitch"})
