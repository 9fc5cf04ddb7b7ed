"""Trunks with a user and a password, as FreeSWITCH asks for them, and the callers that it turned away."""

import asyncio

from bridge.model.credentials import Refusal, TrunkCredentials
from bridge.pbx.freeswitch.credentials import MOST_WAITING, Credentials
from bridge.pbx.freeswitch.messages import Event

FIRST, SECOND = TrunkCredentials("ST_1", "carrier", "secret-1"), TrunkCredentials("ST_2", "carrier", "secret-2")
FORBIDDEN = {
    "Event-Name": "CUSTOM", "username": "carrier", "auth-result": "FORBIDDEN", "network-ip": "192.0.2.9", "call-id": "1@x",
}  # fmt: skip


def test_given_trunks_then_the_first_of_a_user_is_found_and_those_before_are_forgotten() -> None:
    credentials = Credentials()
    assert credentials.find("carrier") is None
    credentials.keep([FIRST, SECOND])
    assert credentials.find("carrier") is FIRST
    credentials.keep([SECOND])
    assert credentials.find("carrier") is SECOND
    credentials.keep([])
    assert credentials.find("carrier") is None


async def test_given_a_caller_with_a_wrong_password_then_it_is_told_and_nothing_of_it() -> None:
    credentials = Credentials()
    credentials.keep([FIRST])
    for changes in ({"username": "other"}, {"auth-result": "SUCCESS"}, {"auth-result": "RENEWED"}, {}):
        credentials.heard(Event(FORBIDDEN | changes))
    async with asyncio.timeout(1):
        refusal = await anext(credentials.refusals())
    assert refusal == Refusal("ST_1", "192.0.2.9", "1@x", "the user or the password is another one")


def test_given_an_attacker_then_what_waits_has_a_limit() -> None:
    credentials = Credentials()
    credentials.keep([FIRST])
    for _ in range(MOST_WAITING + 5):
        credentials.heard(Event(FORBIDDEN))
