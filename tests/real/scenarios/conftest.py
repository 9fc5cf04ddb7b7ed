"""One list of scenarios for every PBX: what stands here is run on a real Asterisk, on the scripted FreeSWITCH, and on a real FreeSWITCH
where this machine has one.

A scenario that is nothing for the scripted one says so by `not_scripted`, with the reason.
"""

from dataclasses import dataclass
from typing import Any

import pytest

from bridge.testing.get_asterisk import Asterisk
from bridge.testing.get_freeswitch import FreeSwitch

SCRIPTED = "scripted-freeswitch"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a stack is made of."""

    asterisk: Asterisk | None = None
    """The carrier, and the PBX where there is no other."""
    freeswitch: FreeSwitch | None = None
    scripted: bool = False

    def __call__(self) -> dict[str, Any]:
        """As arguments of a Stack."""
        return {"asterisk": self.asterisk, "freeswitch": self.freeswitch, "scripted": self.scripted}


@pytest.fixture(scope="session", params=["asterisk", SCRIPTED, "freeswitch"])
def parts(request: pytest.FixtureRequest) -> Parts:
    return parts_of(request.param, request)


def parts_of(pbx: str, request: pytest.FixtureRequest) -> Parts:
    """Skips who asks where this machine has no such PBX."""
    if pbx == SCRIPTED:
        return Parts(scripted=True)
    freeswitch = request.getfixturevalue("freeswitch") if pbx == "freeswitch" else None
    return Parts(request.getfixturevalue("asterisk"), freeswitch)


def not_scripted(reason: str) -> pytest.MarkDecorator:
    """Not for the scripted FreeSWITCH, since `reason`."""
    return pytest.mark.not_scripted(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mark = item.get_closest_marker("not_scripted")
        call = getattr(item, "callspec", None)
        if mark is not None and call is not None and call.params.get("parts") == SCRIPTED:
            item.add_marker(pytest.mark.skip(reason=f"not for the scripted FreeSWITCH: {mark.args[0]}"))
