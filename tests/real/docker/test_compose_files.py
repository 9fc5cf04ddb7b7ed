"""The compose files as Compose itself reads them, for everything that ./environment lets one choose."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.real.docker.composition import Composition
from tests.real.docker.conftest import FREESWITCH
from tests.real.docker.engine import Engine
from tests.test_docker_files import SECRETS

BASE, OWN = ("compose.yaml",), ("compose.yaml", "compose.own-pbx.yaml")


@pytest.mark.parametrize(
    ("files", "options"),
    [
        (BASE, ()),
        (BASE, ("--livekit",)),
        (BASE, ("--freeswitch",)),
        (BASE, ("--freeswitch", "--livekit")),
        (OWN, ("--own-pbx",)),
        (OWN, ("--own-pbx", "--livekit")),
    ],
    ids=lambda words: " ".join(words) or "nothing",
)
def test_given_a_choice_then_compose_finds_nothing_wrong(
    engine: Engine, tmp_path: Path, files: Sequence[str], options: Sequence[str]
) -> None:
    composition = Composition(engine, tmp_path, "roomline-lane-config", {}, options, files=files)
    read = composition.compose("--profile", "*", "config", "-q")
    assert read.stderr == "", "a variable that is not set, say"
    services = set(composition.compose("config", "--services").stdout.split())
    pbx = set() if files is OWN else {"freeswitch" if "--freeswitch" in options else "asterisk"}
    assert services == {"roomline", "node"} | pbx | ({"livekit", "redis"} if "--livekit" in options else set())


def test_given_a_secret_that_was_not_made_then_nothing_starts_without_it(engine: Engine, tmp_path: Path) -> None:
    composition = Composition(engine, tmp_path, "roomline-lane-config", {}, ["--livekit"])
    made = composition.file.read_text()
    for secret in SECRETS:
        composition.file.write_text(re.sub(f"^{secret}=.*\n", "", made, flags=re.MULTILINE))
        read = composition.compose("--profile", "*", "config", "-q", check=False)
        assert read.returncode != 0, secret
        assert f"{secret} is missing a value: run ./environment first" in read.stderr


def test_given_an_image_by_its_digest_then_that_is_what_runs(engine: Engine, tmp_path: Path) -> None:
    pinned = f"{FREESWITCH}@sha256:{'0123456789abcdef' * 4}"
    composition = Composition(engine, tmp_path, "roomline-lane-config", {"FREESWITCH_IMAGE": pinned}, ["--freeswitch"])
    assert pinned in composition.compose("config", "--images").stdout.split()
