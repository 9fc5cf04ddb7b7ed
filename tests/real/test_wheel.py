"""The wheel in an environment of its own: all that a server needs is inside."""

import io
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from rich.console import Console

from bridge.testing.demo_calls import DemoCalls
from bridge.testing.demo_config import CONFIGURATION
from bridge.testing.demo_story import Storyteller
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.stack import Stack
from tests.real.conftest import not_to_be_had

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    (built,) = folder.glob("roomline-*.whl")
    return built


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a user does it, with what a package index gives; where none can be reached, with the packages that are here (CI wants one)."""
    home = make_environment(tmp_path_factory.mktemp("whole"))
    try:
        pip(home, wheel)
    except subprocess.CalledProcessError as error:
        if "No matching distribution" not in error.stderr:
            raise
        if os.environ.get("CI") == "true":
            not_to_be_had("no package index can be reached from here")
        return lent(wheel, make_environment(tmp_path_factory.mktemp("lent")))
    return home


def lent(wheel: Path, home: Path) -> Path:
    """Only the wheel is new; a path file lends it the packages that are here. Path files over there do not count, so that this tree, which
    is installed there by one, is not seen."""
    pip(home, "--no-deps", "--no-index", wheel)
    (site,) = home.glob("lib/python3*/site-packages")
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "lent.pth").write_text("".join(f"{path}\n" for path in here))
    return home


async def test_given_pip_install_of_the_wheel_then_its_server_takes_the_demos_calls(home: Path, asterisk: Asterisk, tmp_path: Path) -> None:
    """The embedded room and the prompts are heard; the dialplan of this very installation is what the PBX includes."""
    program = home / "bin" / "roomline"
    assert str(home) in run(home / "bin" / "python", "-c", "import bridge; print(bridge.__file__)"), "it is this tree's"
    async with Stack(CONFIGURATION, asterisk=asterisk, program=[str(program)]) as stack:
        results = await DemoCalls(stack, Storyteller(Console(file=io.StringIO())), tmp_path).all()
        assert [result.problems for result in results] == [[], [], [], []]


def test_given_the_wheel_then_what_ships_beside_the_program_is_inside(home: Path, tmp_path: Path) -> None:
    program = home / "bin" / "roomline"
    dialplans = [(name, ROOT / "dialplan" / name) for name in ("asterisk", "freeswitch")]
    for name, folder in (*dialplans, ("systemd", ROOT / "docs" / "systemd")):
        assert str(home) in run(program, "files", name), "it is this tree's"
        run(program, "files", name, "--to", tmp_path / name)
        wanted = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} == wanted


def make_environment(folder: Path) -> Path:
    venv.create(folder, with_pip=False)
    return folder


def pip(home: Path, *what: object) -> None:
    run(sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "-q", "--disable-pip-version-check", *what)


def run(*command: object) -> str:
    """Away from the tree, which Python would find by the working folder or by PYTHONPATH; behind those that carry calls meanwhile."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    words = ["nice", *(str(word) for word in command)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=380, check=True, cwd="/", env=environ)
    return done.stdout
