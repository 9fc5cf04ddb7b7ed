"""Real parts for the tests of this folder. What cannot be had here skips its tests with the reason; with CI=true it fails."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest
import pytest_asyncio

from bridge.testing.carrier import Carrier
from bridge.testing.demo_config import CONFIGURATION
from bridge.testing.get_asterisk import Asterisk, NoAsterisk, get_asterisk
from bridge.testing.get_freeswitch import FreeSwitch, NoFreeSwitch, get_freeswitch
from bridge.testing.livekit_server import LiveKitServer, NoLiveKit, get_livekit_server
from bridge.testing.pbx import OperatorPbx
from bridge.testing.stack import Stack


def not_to_be_had(reason: str) -> NoReturn:
    """A part is missing on this machine."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: a lane may not be skipped)")
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def asterisk() -> Asterisk:
    try:
        return get_asterisk()
    except NoAsterisk as error:
        not_to_be_had(str(error))


@pytest.fixture(scope="session")
def freeswitch() -> FreeSwitch:
    """Skipped without one, in CI too: nobody packages it, so that nothing here could fetch it."""
    try:
        return get_freeswitch()
    except NoFreeSwitch as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def livekit_binary() -> Path:
    try:
        return get_livekit_server()
    except NoLiveKit as error:
        not_to_be_had(str(error))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def livekit(livekit_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveKitServer]:
    """A LiveKit server, for the module."""
    async with LiveKitServer(livekit_binary, tmp_path_factory.mktemp("livekit-server")) as livekit:
        yield livekit


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pbx(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OperatorPbx]:
    """A PBX without Roomline, for the module."""
    async with OperatorPbx(asterisk, tmp_path_factory.mktemp("pbx")) as pbx:
        yield pbx


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def carrier(asterisk: Asterisk, pbx: OperatorPbx, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Carrier]:
    """A carrier that calls this PBX, for the module."""
    async with Carrier(asterisk, tmp_path_factory.mktemp("carrier")) as carrier:
        carrier.default_to = pbx.sip_address
        yield carrier
        assert await carrier.channels() == []
        await pbx.quiet()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """PBX, carrier and Roomline's server with the demo's numbers, for the module; at its end no call has left anything."""
    async with Stack(CONFIGURATION, asterisk=asterisk, keep=tmp_path_factory.mktemp("stack")) as stack:
        yield stack
        await stack.nothing_left()


@pytest_asyncio.fixture(loop_scope="module")
async def no_call_left(stack: Stack) -> AsyncIterator[None]:
    """A test that fails shall not fail the next: its calls are hung up."""
    yield
    for call in stack.carrier.calls:
        await call.hang_up()
