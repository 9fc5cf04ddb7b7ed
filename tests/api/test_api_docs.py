"""docs/api.md names every path and every method there is, and no other."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
from livekit.protocol import sip

from bridge.api.auth import Keys
from bridge.api.control import PREFIX, Control, Parts
from bridge.api.outbound import Outbound
from bridge.api.phone_number_messages import SERVICE
from bridge.api.phone_numbers import PhoneNumbers
from bridge.api.sip import SipObjects
from bridge.api.transfer import Transfers
from bridge.model.ending import EndReason
from bridge.model.record import CallRecord, LiveCall

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
NOTHING = cast(Any, None)


def control() -> Control:
    return Control(Keys({}), Parts(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING))


def test_given_the_page_then_its_paths_are_those_of_the_control_api() -> None:
    there = [(each.verb, each.path) for each in control().endpoints]
    assert re.findall(r"^\| `(GET|POST|PUT|PATCH|DELETE)` \| `(/[^`]*)` \|", PAGE, re.MULTILINE) == there
    assert [tuple(heading.split(" ")) for heading in re.findall(r"^### ((?:GET|POST|PUT|PATCH|DELETE) \S+)$", PAGE, re.MULTILINE)] == there
    assert f"`{PREFIX}`" in PAGE


@pytest.mark.parametrize(
    ("service", "methods"),
    [
        (
            sip.DESCRIPTOR.services_by_name["SIP"],
            {
                **SipObjects(NOTHING, NOTHING).methods(),
                **Transfers(NOTHING, NOTHING, NOTHING, NOTHING).methods(),
                **Outbound(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING).methods(),
            },
        ),
        (SERVICE, PhoneNumbers(NOTHING, NOTHING, NOTHING).methods()),
    ],
    ids=["SIP", "PhoneNumberService"],
)
def test_given_the_page_then_its_methods_are_those_that_are_offered(service: Any, methods: dict[str, Any]) -> None:
    (row,) = re.findall(rf"^\| `{re.escape(service.full_name)}` \| (.*?) \|", PAGE, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(methods)


def test_given_a_call_that_is_over_then_the_page_has_each_reason() -> None:
    (listed,) = re.findall(r"^`end_reason`: (.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert sorted(re.findall(r"`([a-z-]+)`", listed)) == sorted(EndReason)


@pytest.mark.parametrize("model", [LiveCall, CallRecord])
def test_given_a_call_then_the_page_names_each_of_its_fields(model: type[LiveCall | CallRecord]) -> None:
    assert [name for name in model.model_fields if f"`{name}`" not in PAGE] == []
