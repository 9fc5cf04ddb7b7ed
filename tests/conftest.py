"""What holds for every test."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import structlog
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from bridge.testing.priority import ahead_of_others

_PBX = re.compile(r"\[(asterisk|freeswitch|scripted-freeswitch)\b")


class _ByFileAndPbx(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """What one process runs from its beginning to its end: a file, and of the scenarios for every PBX those for one of them."""

    def _split_scope(self, nodeid: str) -> str:
        pbx = _PBX.search(nodeid)
        return nodeid.partition("::")[0] + (pbx[0] if pbx else "")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # xdist's workers are of one session with who started them
        ahead = ExitStack()
        ahead.enter_context(ahead_of_others())
        config.add_cleanup(ahead.close)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByFileAndPbx:
    return _ByFileAndPbx(config, log)


@pytest.fixture(autouse=True)
def _logs_end_with_the_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that sets up logs does it for the stream that pytest captures just then: no logger is to keep it."""
    configure = structlog.configure

    def without_keeping(**options: Any) -> None:
        configure(**options | {"cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", without_keeping)
    yield
    structlog.reset_defaults()
