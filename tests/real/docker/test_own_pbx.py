"""Roomline in containers, for an Asterisk that runs on the host: compose.own-pbx.yaml."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from rich.console import Console

from bridge.testing.caller import Caller, Outcome, Plan
from bridge.testing.carrier import Carrier
from bridge.testing.demo_story import Storyteller
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.pbx import OperatorPbx
from bridge.testing.ports import free_port
from tests.real.docker.composition import Composition
from tests.real.docker.engine import Engine

FILES = ("compose.yaml", "compose.own-pbx.yaml")


@pytest_asyncio.fixture
async def carrier(engine: Engine, built: dict[str, str], asterisk: Asterisk, tmp_path: Path) -> AsyncIterator[Carrier]:
    """It calls the host's Asterisk, which has Roomline's dialplan and manager user, and nobody who takes the calls but the containers."""
    async with OperatorPbx(asterisk, tmp_path / "pbx") as pbx, Carrier(asterisk, tmp_path / "carrier") as carrier:
        carrier.default_to = pbx.sip_address
        manager = pbx.settings.roomline
        settings = {
            **built,
            "ROOMLINE_AMI_SECRET": manager.secret,
            "ROOMLINE_ARI_SECRET": pbx.settings.ari_secret,
            "ARI_PORT": str(pbx.settings.http_port),
            "AMI_PORT": str(manager.port),
            "MEDIA_PORT": str(free_port()),
            "HTTP_PORT": str(free_port()),
        }
        composition = Composition(engine, tmp_path, "roomline-lane-own", settings, ["--own-pbx"], files=FILES)
        try:
            composition.up()
            assert set(composition.containers()) == {"roomline", "node"}
            assert "Calls can come." in composition.roomline("check")
            yield carrier
        finally:
            composition.down(volumes=True)


async def test_given_an_asterisk_of_ones_own_then_its_callers_get_into_the_room(carrier: Carrier) -> None:
    caller = Caller(carrier, Storyteller(Console(file=io.StringIO())))
    told, _ = await caller.call(Plan("2000", pin="1234"))
    assert told.outcome is Outcome.IN_ROOM
    refused, _ = await caller.call(Plan("2099"))
    assert (refused.outcome, refused.sip_status) == (Outcome.REFUSED, 404)
