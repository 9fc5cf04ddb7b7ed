"""What the tests of trunks with a password share: making one by LiveKit's API, calling with one, waiting until it counts."""

import asyncio
import time
from typing import Any

from livekit.protocol import sip

from bridge.model.record import CallRecord
from bridge.testing.phone import Phone
from bridge.testing.stack import Stack
from bridge.testing.stack_pbx import PasswordDoor

KEY, SECRET = "devkey", "a-secret-of-thirty-two-characters!"
USER, PASSWORD = "sales dept, ünit", 'p:ä"ss, w\\rd;☎'
WITHIN = 1.0
"""Seconds from the API's answer until it counts."""


async def made(livekit: Any, number: str, **fields: Any) -> sip.SIPInboundTrunkInfo:
    """A trunk for this number, and a rule into the echo for its calls."""
    info = sip.SIPInboundTrunkInfo(numbers=[number], auth_username=USER, auth_password=PASSWORD, **fields)
    trunk: sip.SIPInboundTrunkInfo = await livekit.create_inbound_trunk(sip.CreateSIPInboundTrunkRequest(trunk=info))
    rule = sip.SIPDispatchRule(dispatch_rule_direct=sip.SIPDispatchRuleDirect(room_name=f"echo-{number}"))
    asked = sip.SIPDispatchRuleInfo(rule=rule, trunk_ids=[trunk.sip_trunk_id])
    await livekit.create_dispatch_rule(sip.CreateSIPDispatchRuleRequest(dispatch_rule=asked))
    return trunk


async def status(door: PasswordDoor, number: str, credentials: tuple[str, str] | None, **phone: Any) -> tuple[int, str]:
    """The final answer's, and the call id."""
    async with Phone(door.address, credentials=credentials, **phone) as caller:
        answer = await caller.call(number)
        return answer.status, answer["Call-ID"]


async def becomes(door: PasswordDoor, number: str, credentials: tuple[str, str] | None, wanted: int, within: float = WITHIN) -> None:
    """Raises AssertionError when it is not so by then."""
    began = time.monotonic()
    while (found := (await status(door, number, credentials))[0]) != wanted:
        assert time.monotonic() - began < within, f"{found} and not {wanted}"
        await asyncio.sleep(0.05)


async def record_of(stack: Stack, sip_call_id: str, within: float = 12.0) -> CallRecord:
    deadline = time.monotonic() + within
    while not (found := [record for record in stack.server.call_records() if record.sip_call_id == sip_call_id]):
        assert time.monotonic() < deadline, "no record"
        await asyncio.sleep(0.1)
    assert len(found) == 1
    return found[0]
