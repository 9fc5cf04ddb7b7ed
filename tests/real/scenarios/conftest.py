"""One list of scenarios for every PBX: what stands here is run on a real Asterisk, and on a real FreeSWITCH where this machine has one."""

from dataclasses import dataclass
from typing import Any

import pytest

from bridge.testing.get_asterisk import Asterisk
from bridge.testing.get_freeswitch import FreeSwitch


@dataclass(frozen=True, slots=True)
class Parts:
    """What a stack is made of."""

    asterisk: Asterisk
    """The carrier, and the PBX where there is no other."""
    freeswitch: FreeSwitch | None = None

    def __call__(self) -> dict[str, Any]:
        """As arguments of a Stack."""
        return {"asterisk": self.asterisk, "freeswitch": self.freeswitch}


@pytest.fixture(scope="session", params=["asterisk", "freeswitch"])
def parts(request: pytest.FixtureRequest, asterisk: Asterisk) -> Parts:
    return Parts(asterisk, request.getfixturevalue("freeswitch") if request.param == "freeswitch" else None)
