"""What the real tests share: an operator's configuration with a number for each story, and callers brought into each state of a call."""

import asyncio
import time
from enum import StrEnum
from typing import Any

from bridge.model.record import CallRecord
from bridge.testing.carrier import CarrierCall
from bridge.testing.listening import is_tone, tone
from bridge.testing.pbx_config import FALLBACK_HZ, HOLD_MUSIC_HZ
from bridge.testing.recording import Samples
from bridge.testing.stack import Stack
from bridge.testing.stack_pbx import StackPhone

PIN = "80428617"
ECHO, PIN_ECHO, PIN_EMPTY, EMPTY, MEETING, OWN_ECHO = (f"+1555000{number}" for number in range(1, 7))
RINGBACK_HZ = (440.0, 480.0)
SPEECH_HZ = 700.0


def direct(number: str, room: str, pin: str = "") -> dict[str, Any]:
    return {"numbers": [number], "name": room, "rule": {"dispatch_rule_direct": {"room_name": room, "pin": pin}}}


CONFIGURATION: dict[str, Any] = {
    "rooms": {"kind": "local", "participants": [{"rooms": "echo*", "kind": "echo"}]},
    "dispatch_rules": [
        direct(ECHO, "echo"),
        direct(PIN_ECHO, "echo-behind-a-pin", PIN),
        direct(PIN_EMPTY, "nobody-behind-a-pin", PIN),
        direct(EMPTY, "nobody"),
        direct(MEETING, "meeting"),
        {"numbers": [OWN_ECHO], "name": "echo for each", "rule": {"dispatch_rule_individual": {"room_prefix": "echo-"}}},
    ],
}


class State(StrEnum):
    """The columns of the table "who dies" (DESIGN §5)."""

    RINGING = "ringing"
    PIN = "PIN"
    WAITING = "waiting for company"
    TALKING = "talking"


async def caller_in(stack: Stack, state: State) -> CarrierCall:
    """A new caller, brought into this state."""
    match state:
        case State.RINGING:
            call = await stack.carrier.call(EMPTY, ring_for=600.0)
            await call.ringing()
        case State.PIN:
            call = await stack.carrier.call(PIN_ECHO)
            await call.answered()
            await asyncio.sleep(0.3)
        case State.WAITING:
            call = await stack.carrier.call(PIN_EMPTY)
            await call.answered()
            await call.press(f"{PIN}#", gap_ms=150)
            await until_heard(call, RINGBACK_HZ, since=time.monotonic(), within=6.0)
        case State.TALKING:
            call = await stack.carrier.call(ECHO)
            await call.answered()
            await hears_itself(call)
    return call


async def hears_itself(call: CarrierCall, within: float = 5.0) -> None:
    """The caller speaks until the echo comes back. Raises AssertionError when it does not."""
    began = time.monotonic()
    while time.monotonic() - began < within:
        since = await call.say(tone(8000, 0.6, [SPEECH_HZ]), 8000)
        await asyncio.sleep(max(0.0, since + 0.7 - time.monotonic()))
        if is_tone(call.heard.samples(since + 0.3, since + 0.55), call.heard.rate, [SPEECH_HZ]):
            return
    raise AssertionError("the caller does not hear the echo")


def heard_tone(call: CarrierCall, frequencies: tuple[float, ...], since: float) -> float | None:
    """When (`time.monotonic`) this tone was first heard for 200 ms."""
    step, window = 0.1, 0.2
    moment, end = since, time.monotonic()
    while moment + window <= end:
        if is_tone(call.heard.samples(moment, moment + window), call.heard.rate, frequencies):
            return moment
        moment += step
    return None


async def until_heard(call: CarrierCall, frequencies: tuple[float, ...], since: float, within: float) -> float:
    """Returns the moment. Raises AssertionError after `within` seconds."""
    start = since
    while (moment := heard_tone(call, frequencies, start)) is None:
        assert call.ending is None, f"the call ended: {call.ending}"
        assert time.monotonic() - since < within, f"{frequencies} Hz were not heard within {within} s"
        start = max(since, time.monotonic() - 0.5)  # what lies before has been looked at
        await asyncio.sleep(0.1)
    return moment


def is_fallback(samples: Samples) -> bool:
    return is_tone(samples, 8000, (FALLBACK_HZ,))


def is_hold_music(samples: Samples) -> bool:
    return is_tone(samples, 8000, HOLD_MUSIC_HZ)


def records_of(stack: Stack, call: CarrierCall | StackPhone) -> list[CallRecord]:
    return [record for record in stack.server.call_records() if record.number == call.caller]


async def the_record(stack: Stack, call: CarrierCall | StackPhone, within: float = 12.0) -> CallRecord:
    """The one record of this call. Raises AssertionError for none, or more than one."""
    deadline = time.monotonic() + within
    while not (found := records_of(stack, call)):
        assert time.monotonic() < deadline, f"no record of the call from {call.caller} within {within} s"
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.3)
    assert len(records_of(stack, call)) == 1, f"{len(records_of(stack, call))} records of one call"
    return found[0]


def assert_nothing_secret_logged(stack: Stack, *more: str) -> None:
    """Nothing that Roomline or the PBX has logged holds the PIN, the manager's secret, or what else is secret."""
    secrets = {PIN, *stack.pbx.secrets, *more}
    for log in (*stack.logs(), *(stack.folder / "pbx" / "log").rglob("*")):
        if log.is_file() and log.suffix != ".fsxml":  # which is FreeSWITCH's copy of its configuration
            text = log.read_text(errors="replace")
            assert not [secret for secret in secrets if secret in text], f"a secret stands in {log.name}"
