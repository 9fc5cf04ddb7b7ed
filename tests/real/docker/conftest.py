"""The engine, the images and the compositions of this lane. What cannot be had skips with the reason, by name; with CI=true it fails (the
FreeSWITCH image excepted)."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import RoomlineError
from bridge.testing.get_freeswitch import get_freeswitch
from bridge.testing.livekit_server import get_livekit_server
from tests.real.conftest import not_to_be_had
from tests.real.docker.composition import Composition
from tests.real.docker.engine import Engine, NoEngine, gather_freeswitch, get_engine

IMAGES = Path(__file__).parent / "images"
REDIS, LIVEKIT = "redis:7.4.1-bookworm", "livekit/livekit-server:v1.13.5"
FREESWITCH = "safarov/freeswitch:1.10.12"
"""As docker/compose.yaml has them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    try:
        engine = get_engine()
    except NoEngine as error:
        not_to_be_had(str(error))
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def images(engine: Engine) -> dict[str, str]:
    """The base images, as build arguments."""
    try:
        return {"DEBIAN_PYTHON": engine.debian("bookworm"), "DEBIAN_ASTERISK": engine.debian("forky")}
    except NoEngine as error:
        not_to_be_had(str(error))


@pytest.fixture(scope="session")
def built(engine: Engine, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Ours are built once, under names of this lane."""
    names = {f"{name.upper()}_IMAGE": f"roomline-lane-{name}" for name in ("roomline", "asterisk", "carrier")}
    composition = Composition(engine, tmp_path_factory.mktemp("build"), "roomline-lane-build", {**images, **names})
    composition.build()
    return {**images, **names}


@pytest.fixture(scope="session")
def with_livekit(engine: Engine, built: dict[str, str]) -> dict[str, str]:
    """The public images of Redis and LiveKit, or ones of our own where those cannot be pulled."""
    found = dict(built)
    if (redis := engine.image(REDIS)) is None:
        redis = _build(engine, "redis", built["DEBIAN_PYTHON"], IMAGES)
    if (livekit := engine.image(LIVEKIT)) is None:
        try:
            binary = get_livekit_server()
        except RoomlineError as error:
            not_to_be_had(f"{LIVEKIT}: {engine.missing[LIVEKIT]}; and {error}")
        with tempfile.TemporaryDirectory() as context:
            shutil.copy(binary, Path(context) / "livekit-server")
            livekit = _build(engine, "livekit", built["DEBIAN_PYTHON"], Path(context))
    return {**found, "REDIS_IMAGE": redis, "LIVEKIT_IMAGE": livekit}


def _build(engine: Engine, name: str, debian: str, context: Path) -> str:
    image = f"roomline-lane-{name}"
    file = str(IMAGES / f"{name}.Dockerfile")
    engine.docker("build", "-q", "-f", file, "--build-arg", f"DEBIAN={debian}", "-t", image, str(context), timeout=600)
    return image


@pytest.fixture(scope="module")
def local(engine: Engine, built: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """Asterisk, Roomline and its node, up; rooms of Roomline's own."""
    yield from _up(Composition(engine, tmp_path_factory.mktemp("local"), "roomline-lane-local", built))


@pytest.fixture(scope="module")
def livekit(engine: Engine, with_livekit: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """The same with LiveKit and Redis."""
    yield from _up(Composition(engine, tmp_path_factory.mktemp("livekit"), "roomline-lane-livekit", with_livekit, ["--livekit"]))


@pytest.fixture(scope="module")
def freeswitch(engine: Engine, built: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """FreeSWITCH as the PBX: the community's image, or the one that FREESWITCH_IMAGE names; else one of the FreeSWITCH that is here."""
    wanted = os.environ.get("FREESWITCH_IMAGE", FREESWITCH)
    if (image := engine.image(wanted)) is None:
        try:
            image = _image_of(engine, Path(get_freeswitch().binary))
        except RoomlineError as error:
            pytest.skip(f"{wanted}: {engine.missing[wanted]}; and {error}")
    images = {**built, "FREESWITCH_IMAGE": image}
    yield from _up(Composition(engine, tmp_path_factory.mktemp("freeswitch"), "roomline-lane-freeswitch", images, ["--freeswitch"]))


def _image_of(engine: Engine, freeswitch: Path) -> str:
    """Raises NoEngine, NoFreeSwitch."""
    debian = engine.debian(platform.freedesktop_os_release()["VERSION_CODENAME"])
    with tempfile.TemporaryDirectory() as context:
        gather_freeswitch(freeswitch, Path(context))
        return _build(engine, "freeswitch", debian, Path(context))


def _up(composition: Composition) -> Iterator[Composition]:
    try:
        composition.up()
        yield composition
    finally:
        composition.down(volumes=True)


@pytest.fixture(autouse=True)
def _no_call_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that fails shall not fail the next."""
    yield
    for name in {"local", "livekit", "freeswitch"} & set(request.fixturenames):
        request.getfixturevalue(name).end_calls()
