"""Callers whom Asterisk turned away, from its security events as Asterisk 22.10 words them."""

import asyncio
from collections.abc import Mapping

import pytest

from bridge.model.credentials import Refusal
from bridge.pbx.asterisk import refusals as module
from bridge.pbx.asterisk.refusals import Refusals
from bridge.pbx.asterisk.wire import Event, read_message


def security(name: str, session: str = "call-1", **more: str) -> Event:
    headers: Mapping[str, str] = {
        "Event": name,
        "Severity": "Informational",
        "Service": "PJSIP",
        "AccountID": "roomline-trunk-ST_a",
        "SessionID": session,
        "RemoteAddress": "IPV4/UDP/192.0.2.7/5060",
        **more,
    }
    message = read_message("".join(f"{key}: {value}\r\n" for key, value in headers.items()).encode())
    assert message is not None
    return Event(message)


async def heard(refusals: Refusals) -> Refusal:
    async with asyncio.timeout(3):
        async for refusal in refusals.read():
            return refusal
    raise AssertionError


async def test_given_a_wrong_password_then_it_is_told_at_once_and_its_hash_is_not() -> None:
    refusals = Refusals()
    refusals.heard(security("ChallengeSent", Challenge=""))
    refusals.heard(security("ChallengeResponseFailed", Response="c13d7f17e88de2cb66d244a04fef7471"))
    refusal = await heard(refusals)
    assert refusal == Refusal("ST_a", "192.0.2.7", "call-1", "the user or the password is another one")


async def test_given_a_caller_who_is_challenged_and_not_heard_of_again_then_they_gave_no_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.1)
    refusals = Refusals()
    running = asyncio.create_task(refusals.run())
    refusals.heard(security("ChallengeSent", "right"))
    refusals.heard(security("ChallengeSent", "silent", RemoteAddress="garbage"))
    refusals.heard(security("SuccessfulAuth", "right"))
    assert await heard(refusals) == Refusal("ST_a", "", "silent", "the caller gave no credentials")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_given_any_number_of_tries_that_nobody_reads_then_memory_is_bounded() -> None:
    refusals = Refusals()
    for number in range(3 * module.MOST_WAITING):
        refusals.heard(security("ChallengeSent", f"silent {number}"))
        refusals.heard(security("ChallengeResponseFailed", f"wrong {number}"))
    assert len(refusals._challenged) == module.MOST_WAITING
    assert refusals._refused.qsize() == module.MOST_WAITING
