"""systemd's units: what they say of each other, and what systemd itself says of them."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.cli import SUPERSEDED
from bridge.shipped import shipped_folders

SERVER, NODE = "roomline.service", "roomline-node@.service"
MOST_EXPOSED = 2.0
"""Of 10, as `systemd-analyze security` counts: 1.4 and 1.6 with systemd 252. Below 2 it calls a service well protected."""


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names are case sensitive
    parsed.read_string((shipped_folders()["systemd"] / name).read_text())
    return parsed


def test_given_the_two_units_then_stopping_one_leaves_the_other_and_its_sockets_alone() -> None:
    for name, other in ((SERVER, "roomline-node"), (NODE, "roomline.service")):
        bound = [key for key in ("Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "Conflicts") if key in unit(name)["Unit"]]
        assert bound == [], f"{name} is bound to something: {bound}"
        assert other not in unit(name)["Unit"].get("Wants", "")
        service = unit(name)["Service"]
        assert (service["RuntimeDirectory"], service["RuntimeDirectoryPreserve"]) == ("roomline", "yes")
        assert service["User"] == "roomline", "a node lets in its own user only"


def test_given_the_server_then_it_starts_no_nodes_and_gives_way_to_a_newer_one() -> None:
    service = unit(SERVER)["Service"]
    assert "ROOMLINE_MEDIA__START_WORKERS=false" in service["Environment"].split()
    assert service["RestartPreventExitStatus"] == str(SUPERSEDED)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Copies whose program exists on this machine."""
    if shutil.which("systemd-analyze") is None:
        reason = "systemd-analyze is not installed here"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    for name in (SERVER, NODE):
        text = (shipped_folders()["systemd"] / name).read_text()
        (tmp_path / name.replace("@.", "@0.")).write_text(text.replace("/opt/roomline/bin/roomline", sys.executable))
    return tmp_path


@pytest.mark.parametrize("name", [SERVER, NODE])
def test_given_systemd_then_it_finds_nothing_wrong(units: Path, name: str) -> None:
    verified = analyze("verify", "--man=no", units / name.replace("@.", "@0."))
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("name", [SERVER, NODE])
def test_given_systemd_then_it_calls_the_service_well_protected(units: Path, name: str) -> None:
    told = analyze("security", "--offline=true", "--no-pager", units / name.replace("@.", "@0.")).stdout
    level = re.search(r"exposure level for \S+: ([\d.]+)", told)
    assert level is not None, told
    assert float(level[1]) < MOST_EXPOSED


def analyze(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
