"""What ships beside the program is found, and copied without overwriting what an operator has changed."""

from pathlib import Path

import pytest

import bridge.cli
from bridge.errors import ConfigurationError
from bridge.shipped import copy_shipped, shipped_folders


def test_given_the_source_tree_then_the_dialplan_and_the_units_are_found() -> None:
    folders = shipped_folders()
    assert (folders["asterisk"] / "roomline.conf").is_file()
    assert (folders["asterisk"] / "manager.conf").is_file()
    assert (folders["freeswitch"] / "roomline.xml").is_file()
    assert (folders["systemd"] / "roomline-node@.service").is_file()


def test_given_a_new_folder_then_everything_is_copied_and_a_second_time_nothing(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "roomline"
    written = copy_shipped("asterisk", target)
    source = shipped_folders()["asterisk"]
    assert {path.name for path in written} == {path.name for path in source.iterdir()}
    assert (target / "roomline.conf").read_bytes() == (source / "roomline.conf").read_bytes()
    assert copy_shipped("asterisk", target) == []


def test_given_a_file_that_the_operator_has_changed_then_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "manager.conf").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"manager\.conf"):
        copy_shipped("asterisk", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manager.conf"]
    assert (tmp_path / "manager.conf").read_text() == "mine"


def test_given_a_name_or_a_place_that_is_none_then_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="asterisk"):
        copy_shipped("bind", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        copy_shipped("systemd", tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 0, "systemd"),
        (("asterisk",), 0, "asterisk"),
        (("bind",), 2, "there are"),
        (("--to", "somewhere"), 2, "copy which"),
    ],
)
def test_given_the_command_then_it_lists_or_says_why_not(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        bridge.cli.main(["files", *arguments])
    told = capsys.readouterr()
    assert (ended.value.code or 0, said in told.out + told.err) == (status, True)


def test_given_the_command_and_a_folder_then_it_names_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for said in (str(tmp_path / "roomline.service"), "has them all already"):
        with pytest.raises(SystemExit):
            bridge.cli.main(["files", "systemd", "--to", str(tmp_path)])
        assert said in capsys.readouterr().out
