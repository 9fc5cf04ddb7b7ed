"""docker/ as files: what the compose file promises of every service, secrets that are made, a lock that is the tree's own. Whether it
works is the lane's to say (tests/real/docker)."""

import os
import re
import shutil
import stat
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.settings import Settings
from bridge.testing.asterisk_config import modules_conf

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRETS = (
    "REDIS_PASSWORD",
    "ROOMLINE_AMI_SECRET",
    "ROOMLINE_ARI_SECRET",
    "ROOMLINE_ESL_SECRET",
    "LIVEKIT_API_SECRET",
    "SOFTPHONE_PASSWORD",
)


@pytest.mark.parametrize("name", SERVICES)
def test_given_a_service_then_it_is_watched_and_has_no_rights(name: str) -> None:
    service = SERVICES[name]
    dockerfile = (ROOT / service["build"]["dockerfile"]).read_text() if "build" in service else ""
    assert "healthcheck" in service or "HEALTHCHECK --interval" in dockerfile
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" in service or "USER 1000" in dockerfile, "it runs as root"


@pytest.mark.parametrize("name", SERVICES)
def test_given_a_service_then_it_is_published_where_bind_says_and_its_image_is_pinned(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert str(port).startswith("${BIND:-127.0.0.1}:")
    image = re.fullmatch(r"\$\{\w+:-(.+)\}", SERVICES[name]["image"])
    assert image is not None, "one's own image can be named"
    if "build" not in SERVICES[name]:
        assert re.search(r":[\w.-]*\d+\.\d+[\w.-]*$", image[1]), f"{image[1]} is not pinned"


def test_given_the_server_then_docker_waits_for_it_as_long_as_systemd_does() -> None:
    unit = (ROOT / "docs" / "systemd" / "roomline.service").read_text()
    found = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert found is not None
    assert SERVICES["roomline"]["stop_grace_period"] == f"${{ROOMLINE_STOP_WITHIN:-{found[1]}s}}"


SECRET = re.compile(r"""(?ix) (?:secret|password) \w* ["']? \s* (?:[:=]>?|"\ value=) \s* ["']? ([^\s"',}]+)""")
"""`password = x`, `secret: x`, `PASSWORD="x"`, `name="password" value="x"`."""

HARMLESS = ("$", "{env", ".*")
"""A variable's value, the name of a variable of the environment, and a pattern that is replaced."""


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(DOCKER.rglob("*")) if path.is_file() and path.name not in ("environment", "requirements.lock", ".env")],
    ids=lambda path: str(path.relative_to(DOCKER)),
)
def test_given_a_file_then_no_secret_stands_in_it(path: Path) -> None:
    """But for docker/environment, which makes them, and the lock, which has hashes."""
    for line in path.read_text().splitlines():
        if line.lstrip().startswith(("#", ";", "<!--")):
            continue
        for found in SECRET.finditer(re.sub(r"\$\$?\{[^}]*\}", "$", re.sub(r'echo "[^"]*"', "", line))):
            assert found[1].startswith(HARMLESS), line.strip()


@pytest.mark.parametrize(
    "line", ["password=1234", "secret = abc", 'REDIS_PASSWORD: "abc"', '<param name="password" value="ClueCon"/>', "secret=>abc"]
)
def test_given_a_line_with_a_secret_then_it_would_be_seen(line: str) -> None:
    found = SECRET.search(line)
    assert found is not None
    assert not found[1].startswith(HARMLESS)


@pytest.mark.parametrize(
    "path",
    sorted([*DOCKER.glob("*/Dockerfile"), *(ROOT / "tests" / "real" / "docker" / "images").glob("*.Dockerfile")]),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_given_a_dockerfile_then_hadolint_finds_nothing(path: Path) -> None:
    """What it is told to pass over has its reason beside it."""
    hadolint = shutil.which("hadolint", path=f"{sysconfig.get_path('scripts')}:{os.environ.get('PATH', os.defpath)}")
    if hadolint is None:
        reason = "hadolint is not installed here (the lock has it for Linux)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def make_environment(file: Path, *options: str) -> dict[str, str]:
    subprocess.run([DOCKER / "environment", *options, "--to", file], check=True, capture_output=True, timeout=30)
    lines = [line for line in file.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_given_the_environment_then_its_secrets_are_made_kept_and_nobody_elses_to_read(tmp_path: Path) -> None:
    file = tmp_path / "env"
    first, other = make_environment(file), make_environment(tmp_path / "other")
    assert all(re.fullmatch(r"[0-9a-f]{64}", first[name]) for name in SECRETS)
    assert len({values[name] for values in (first, other) for name in SECRETS}) == 2 * len(SECRETS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with file.open("a") as added:
        added.write("BIND=192.0.2.1\n")
    later = make_environment(file, "--livekit")
    assert {name: later[name] for name in SECRETS} == {name: first[name] for name in SECRETS}
    assert later["BIND"] == "192.0.2.1"
    assert file.read_text().count("# ---- yours ----") == 1


@pytest.mark.parametrize(
    ("options", "profiles", "rooms"),
    [
        ((), "asterisk", "local"),
        (("--livekit",), "asterisk,livekit", "livekit"),
        (("--freeswitch", "--livekit"), "freeswitch,livekit", "livekit"),
        (("--own-pbx",), "", "local"),
        (("--own-pbx", "--livekit"), "livekit", "livekit"),
    ],
)
def test_given_what_shall_run_then_the_profiles_are_those(tmp_path: Path, options: tuple[str, ...], profiles: str, rooms: str) -> None:
    made = make_environment(tmp_path / "env", *options)
    assert (made["COMPOSE_PROFILES"], made["ROOMLINE_ROOMS"]) == (profiles, rooms)
    redis = "127.0.0.1" if "--own-pbx" in options else "redis"
    wanted = f"redis://:{made['REDIS_PASSWORD']}@{redis}:6379/0" if rooms == "livekit" else "sqlite:////var/lib/roomline/roomline.db"
    assert made["ROOMLINE_STORE"] == wanted


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--nonsense"], "usage"),
        (["--own-pbx", "--freeswitch"], "one of them"),
        (["--freeswitch", "--livekit", "--own-pbx"], "one of them"),
    ],
)
def test_given_words_that_make_no_sense_then_nothing_is_written(tmp_path: Path, options: list[str], told: str) -> None:
    words = [str(DOCKER / "environment"), *options, "--to", str(tmp_path / "env")]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["local", "livekit"])
def test_given_roomlines_configuration_then_it_is_sound(name: str) -> None:
    environment = {
        "ROOMLINE_AMI_SECRET": "x",
        "ROOMLINE_ARI_SECRET": "x",
        "ROOMLINE_STORE_URL": "sqlite:////var/lib/roomline/roomline.db",
        "LIVEKIT_API_SECRET": "0" * 64,
        "LIVEKIT_URL": "ws://livekit:7880",
    }
    loaded = Settings.load(DOCKER / "config" / f"{name}.yaml", environment).sound()
    assert loaded.warnings == []
    assert not loaded.settings.media.start_workers
    assert loaded.settings.rooms.kind == name


def test_given_the_asterisk_of_the_tests_then_the_images_loads_the_same_modules() -> None:
    assert (DOCKER / "asterisk" / "etc" / "modules.conf").read_text() == modules_conf(carrier=False)


def test_given_the_images_lock_then_it_is_the_part_of_the_trees_that_a_server_needs() -> None:
    whole, image = (entries(path) for path in (ROOT / "requirements.lock", DOCKER / "roomline" / "requirements.lock"))
    strange = [name for name, text in image.items() if whole.get(name) != text]
    assert strange == [], "./run lock writes both"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=\[;~! ]", line)[0].lower() for line in wanted}
    assert names <= {name.split("==")[0] for name in image}, "./run lock writes both"
    assert not {"mypy", "pytest", "livekit-agents"} & {name.split("==")[0] for name in image}


def entries(path: Path) -> dict[str, str]:
    """`name==version ; marker` → its hashes."""
    found = re.findall(r"^(\S+==[^\\\n]+?) ?\\?\n((?:    --hash.*\n?)+)", path.read_text(), re.MULTILINE)
    return {name.partition(" ;")[0].strip(): hashes.rstrip() for name, hashes in found}


def test_given_the_scripts_then_they_can_be_run() -> None:
    for path in (DOCKER / "environment", DOCKER / "asterisk" / "start", DOCKER / "freeswitch" / "start"):
        assert os.access(path, os.X_OK), path
        subprocess.run(["sh", "-n", path], check=True, timeout=10)
