"""Trunks with a user and a password, as FreeSWITCH asks for them, and the callers that it turned away."""

import asyncio

import pytest

from bridge.model.credentials import Refusal, TrunkCredentials
from bridge.pbx.freeswitch.credentials import MOST_WAITING, Credentials
from bridge.pbx.freeswitch.messages import Event

FIRST, SECOND = TrunkCredentials("ST_1", "carrier", "secret-1"), TrunkCredentials("ST_2", "carrier", "secret-2")
FORBIDDEN = {
    "Event-Name": "CUSTOM", "username": "carrier", "auth-result": "FORBIDDEN", "network-ip": "192.0.2.9", "call-id": "1@x",
}  # fmt: skip


async def refused(credentials: Credentials, called: str = "") -> str:
    """The trunk for which the caller is told to have been refused; empty for none."""
    credentials.heard(Event(FORBIDDEN | {"from-user": called}))
    try:
        async with asyncio.timeout(0.01):
            return (await anext(credentials.refusals())).trunk_id
    except TimeoutError:
        return ""


async def test_given_trunks_then_those_before_are_forgotten() -> None:
    credentials = Credentials()
    assert await refused(credentials) == ""
    credentials.keep([FIRST, SECOND])
    assert await refused(credentials) == "ST_1"
    credentials.keep([SECOND])
    assert await refused(credentials) == "ST_2"
    credentials.keep([])
    assert await refused(credentials) == ""


@pytest.mark.parametrize(("called", "trunk"), [("+15550101", "ST_2"), ("+1 (555) 0102", "ST_3"), ("+15550199", "ST_4"), ("", "ST_4")])
async def test_given_trunks_with_one_user_then_it_is_the_one_whose_number_was_called(called: str, trunk: str) -> None:
    credentials = Credentials()
    numbers = {"ST_2": ("+15550101",), "ST_3": ("+15550102",), "ST_4": ()}
    credentials.keep([TrunkCredentials(name, "carrier", "secret", numbers=of_it) for name, of_it in numbers.items()])
    assert await refused(credentials, called) == trunk


async def test_given_a_caller_with_a_wrong_password_then_it_is_told_and_nothing_of_it() -> None:
    credentials = Credentials()
    credentials.keep([FIRST])
    for changes in ({"username": "other"}, {"auth-result": "SUCCESS"}, {"auth-result": "RENEWED"}, {}):
        credentials.heard(Event(FORBIDDEN | changes))
    async with asyncio.timeout(1):
        refusal = await anext(credentials.refusals())
    assert refusal == Refusal("ST_1", "192.0.2.9", "1@x", "the user or the password is another one", 403)


def test_given_an_attacker_then_what_waits_has_a_limit() -> None:
    credentials = Credentials()
    credentials.keep([FIRST])
    for _ in range(MOST_WAITING + 5):
        credentials.heard(Event(FORBIDDEN))
