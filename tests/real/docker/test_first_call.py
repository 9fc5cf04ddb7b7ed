"""docs/docker.md's first lines, typed as they stand there, in a copy of the tree as a stranger has it."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.testing.ports import free_port
from tests.real.docker.composition import DOCKER
from tests.real.docker.engine import Engine

ROOT = DOCKER.parent
NAME = "roomline-lane-first"
BUILT = ("bridge", "dialplan", "docker", "docs", "README.md", "pyproject.toml", "requirements.lock")
"""What the images are made of."""


@pytest.fixture
def tree(engine: Engine, built: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """Its .env holds already what somebody would set whose usual ports are taken, and who reaches no image registry."""
    tree = tmp_path / "roomline"
    tree.mkdir()
    for name in BUILT:
        if (source := ROOT / name).is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".env*"))
        else:
            shutil.copy(source, tree / name)
    first = 2 * (free_port() // 2)
    ports = {"API_PORT": free_port(), "SIP_PORT": free_port(), "RTP_PORTS": f"{first + 10_000}-{first + 10_019}"}
    settings = {**built, **ports}
    (tree / "docker" / ".env").write_text("# ---- yours ----\n" + "".join(f"{key}={value}\n" for key, value in settings.items()))
    yield tree
    engine.docker("compose", "-p", NAME, "--profile", "*", "down", "-t", "5", "--volumes", check=False)


def test_given_the_first_lines_of_the_page_then_they_build_start_and_call(engine: Engine, tree: Path) -> None:
    page = (ROOT / "docs" / "docker.md").read_text()
    found = re.search(r"^## The first call\n+```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    lines = ["set -eu", found[1], "docker compose down"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=tree,
        env={**engine.environ, "COMPOSE_PROJECT_NAME": NAME, "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "→ in the room" in done.stdout
    assert "You are now entering the room." in done.stdout
