"""The demo's four calls: each is placed, heard, told and judged by what was measured at the carrier and what Roomline has recorded."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bridge.errors import RoomlineError
from bridge.media.port import ClipName
from bridge.model.ending import EndedBy, EndReason
from bridge.model.record import CallRecord
from bridge.testing.carrier import CarrierCall
from bridge.testing.clips import LIKE, clip, until_heard, until_heard_through_webrtc, wrong_pin_seconds
from bridge.testing.demo_config import (
    AGENT_OPEN_ROOM,
    AGENT_PIN_ROOM,
    ANNOUNCER_DELAY,
    NUMBER_WITHOUT_RULE,
    OPEN_NUMBER,
    OPEN_ROOM,
    PIN,
    PIN_NUMBER,
    PIN_ROOM,
)
from bridge.testing.demo_story import Storyteller
from bridge.testing.listening import round_trip, segments
from bridge.testing.stack import Stack

_LONGEST_CALL = 60.0


@dataclass
class CallResult:
    """What became of one call. `problems` is empty when all went as it should.

    `sip_status` is the INVITE's final status as the carrier got it; `room`, `pin_tries`, `ended_by`, `reason` and `trace` are from
    Roomline's record; `heard_seconds` is how long something louder than silence was heard.
    """

    name: str
    sip_status: int | None = None
    room: str = ""
    answered: bool = False
    pin_tries: int = 0
    ended_by: str = ""
    reason: str = ""
    heard_seconds: float = 0.0
    round_trip_ms: float | None = None
    wav: str | None = None
    trace: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def expect(self, what: bool, otherwise: str) -> None:
        if not what:
            self.problems.append(otherwise)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


class DemoCalls:
    """`await DemoCalls(…).all()` makes them one after another, so that each story can be read."""

    PIN_ROOM, OPEN_ROOM = PIN_ROOM, OPEN_ROOM

    def __init__(self, stack: Stack, story: Storyteller, recordings: Path) -> None:
        self._stack = stack
        self._story = story
        self._recordings = recordings

    async def all(self) -> list[CallResult]:
        return [
            await self._one("right PIN", PIN_NUMBER, self._right_pin),
            await self._one("wrong PIN", PIN_NUMBER, self._wrong_pin),
            await self._one("no rule", NUMBER_WITHOUT_RULE, self._no_rule),
            await self._one("open rule", OPEN_NUMBER, self._open_rule),
        ]

    async def _one(self, name: str, number: str, play: Callable[[CarrierCall, CallResult], Awaitable[None]]) -> CallResult:
        result = CallResult(name)
        self._story.begin(f"{name}: a call to {number}")
        call = await self._stack.carrier.call(number)
        self._story.tell("carrier", f"{call.caller} calls {number}: INVITE", call.placed_at)
        try:
            async with asyncio.timeout(_LONGEST_CALL):
                await play(call, result)
        except (RoomlineError, TimeoutError, ConnectionError) as error:
            result.problems.append(str(error) or "the call took too long")
        finally:
            await call.hang_up()
        await self._account(call, result)
        self._story.verdict(result.problems)
        return result

    # (a)

    async def _right_pin(self, call: CarrierCall, result: CallResult) -> None:
        await self._ringing_and_answer(call)
        await self._asked_for_pin(call, whole=True)
        await self._press(call, f"{PIN}#")
        began = await until_heard(call.heard, ClipName.ROOM_JOIN, since=call.placed_at, within=8.0)
        self._story.tell("hears", '"You are now entering the room."', began)
        await asyncio.sleep(max(0.0, began + len(clip(ClipName.ROOM_JOIN, 8000)) / 8000 + 0.3 - time.monotonic()))
        await self._in_the_lobby(call, result)
        await call.hang_up()
        self._story.tell("caller", "hangs up")

    async def _in_the_lobby(self, call: CarrierCall, result: CallResult) -> None:
        # Recorded speech that may be shipped: the announcer's words serve as the caller's.
        speech = clip(ClipName.WELCOME, call.heard.rate)
        seconds = len(speech) / call.heard.rate
        self._story.tell("says", f"{seconds:.1f} s of speech")
        spoken_at = await call.say(speech)
        await asyncio.sleep(0.6)
        match = round_trip(call.said, call.heard, spoken_at, seconds=seconds)
        self._story.tell("hears", f"the same speech, {match.delay * 1000:.0f} ms later, likeness {match.likeness:.2f} of 1")
        result.expect(match.likeness >= LIKE, f"the echo is unlike what was said: {match.likeness:.2f}")
        result.round_trip_ms = round(match.delay * 1000, 1) if match.likeness >= LIKE else None

    # (b)

    async def _wrong_pin(self, call: CarrierCall, result: CallResult) -> None:
        await self._ringing_and_answer(call)
        await self._asked_for_pin(call, whole=False)
        pressed_at = time.monotonic()
        await self._press(call, "9999#")
        ending = await call.ended(15.0)
        tone = wrong_pin_seconds(call.heard, pressed_at)
        self._story.tell("hears", f"the wrong-PIN tone for {tone:.1f} s", ending.at)
        self._story.tell("carrier", "BYE from the PBX" if not ending.by_us else "no BYE", ending.at)
        result.expect(tone > 0.7, f"no wrong-PIN tone was heard, or only {tone:.1f} s of it")
        result.expect(not ending.by_us, "Roomline did not end the call")

    # (c)

    async def _no_rule(self, call: CarrierCall, result: CallResult) -> None:
        ending = await call.ended(15.0)
        self._story.tell("carrier", f"gets {ending.sip_status}", ending.at)
        result.expect(not call.heard.frames, "something was heard of a call that has no room")

    # (d)

    async def _open_rule(self, call: CarrierCall, result: CallResult) -> None:
        waited = await self._ringing_and_answer(call)
        await self._in_the_open_room(call, result, waited)
        await call.hang_up()
        self._story.tell("caller", "hangs up")

    async def _in_the_open_room(self, call: CarrierCall, result: CallResult, waited: float) -> None:
        result.expect(
            waited > ANNOUNCER_DELAY - 1.0,
            f"answered {waited:.1f} s after the first ring: nobody published before {ANNOUNCER_DELAY:.0f} s",
        )
        await self._welcomed(call)

    async def _welcomed(self, call: CarrierCall) -> None:
        began = await self._until_welcomed(call)
        self._story.tell("hears", '"Welcome to Roomline. This is the announcer speaking. You are now in the room."', began)

    async def _until_welcomed(self, call: CarrierCall) -> float:
        return await until_heard(call.heard, ClipName.WELCOME, since=call.placed_at, within=10.0)

    async def _ringing_and_answer(self, call: CarrierCall) -> float:
        """Seconds from ringing to the answer."""
        await call.ringing()
        self._story.tell("carrier", "180 Ringing", call.ringing_at)
        await call.answered()
        self._story.tell("carrier", "200 OK: answered", call.answered_at)
        return (call.answered_at or 0.0) - (call.ringing_at or 0.0)

    async def _asked_for_pin(self, call: CarrierCall, *, whole: bool) -> None:
        seconds = None if whole else 1.2
        began = await until_heard(call.heard, ClipName.ENTER_PIN, since=call.placed_at, within=8.0, seconds=seconds)
        self._story.tell("hears", '"Please enter room pin and press hash to confirm."' + ("" if whole else " (interrupts it)"), began)

    async def _press(self, call: CarrierCall, digits: str) -> None:
        self._story.tell("presses", f"{len(digits) - 1} digits and #")
        await call.press(digits)

    # What is the same for all

    async def _account(self, call: CarrierCall, result: CallResult) -> None:
        """Put together what the carrier measured and what Roomline recorded, and hold it against what should be."""
        assert call.ending is not None  # noqa: S101  (hang_up has waited for it)
        result.sip_status = call.ending.sip_status
        result.answered = call.answered_at is not None
        result.heard_seconds = round(sum(part.seconds for part in segments(call.heard.samples(), call.heard.rate)), 2)
        if call.heard.frames:
            path = self._recordings / f"{result.name.replace(' ', '-')}.wav"
            await asyncio.to_thread(call.heard.save, path)
            result.wav = str(path)
        try:
            record = await self._stack.server.call_record(call.caller)
        except AssertionError as error:
            result.problems.append(str(error))
            return
        result.room, result.pin_tries = record.room, record.pin_tries
        result.ended_by, result.reason, result.trace = record.ended_by.value, record.end_reason.value, record.trace
        self._story.tell("Roomline", _reason(record))
        _hold_against(self._expected[result.name], result)

    @property
    def _expected(self) -> "dict[str, _Expected]":
        return {
            "right PIN": _Expected(200, True, self.PIN_ROOM, 1, EndedBy.CALLER, EndReason.HANGUP),
            "wrong PIN": _Expected(200, True, "", 1, EndedBy.ROOMLINE, EndReason.WRONG_PIN),
            "no rule": _Expected(404, False, "", 0, EndedBy.ROOMLINE, EndReason.NO_RULE),
            "open rule": _Expected(200, True, self.OPEN_ROOM, 0, EndedBy.CALLER, EndReason.HANGUP),
        }


class AgentCalls(DemoCalls):
    """The same with LiveKit rooms, where an agent stands in for echo and announcer: it greets, and sends back what is pressed."""

    PIN_ROOM, OPEN_ROOM = AGENT_PIN_ROOM, AGENT_OPEN_ROOM

    async def _in_the_lobby(self, call: CarrierCall, result: CallResult) -> None:
        await self._welcomed(call)
        await self._pressed_back(call, result)

    async def _in_the_open_room(self, call: CarrierCall, result: CallResult, waited: float) -> None:
        self._story.tell("LiveKit", f"the rule's agent has come and published after {waited:.1f} s", call.answered_at)
        await self._welcomed(call)
        await self._pressed_back(call, result)

    async def _until_welcomed(self, call: CarrierCall) -> float:
        return await until_heard_through_webrtc(call.heard, ClipName.WELCOME, since=call.placed_at, within=10.0)

    async def _pressed_back(self, call: CarrierCall, result: CallResult) -> None:
        pressed = "42"
        self._story.tell("presses", pressed)
        await call.press(pressed)
        with suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                while call.keys_heard != pressed:  # noqa: ASYNC110  (the carrier's events come through its manager)
                    await asyncio.sleep(0.05)
        self._story.tell("hears", f"the keys {call.keys_heard or 'not'}, sent by the agent")
        result.expect(call.keys_heard == pressed, f"the agent sent {call.keys_heard!r} back, not {pressed!r}")


@dataclass(frozen=True, slots=True)
class _Expected:
    sip_status: int
    answered: bool
    room: str
    pin_tries: int
    ended_by: EndedBy
    reason: EndReason


def _hold_against(expected: _Expected, result: CallResult) -> None:
    for name in ("sip_status", "answered", "room", "pin_tries", "ended_by", "reason"):
        wanted, found = getattr(expected, name), getattr(result, name)
        result.expect(wanted == found, f"{name} is {str(found)!r}, should be {str(wanted)!r}")


def _reason(record: CallRecord) -> str:
    """One sentence: where the call went, who ended it and why."""
    where = f"room {record.room} (trunk {record.trunk_id or '–'}, rule {record.rule_id or '–'})" if record.room else "no room"
    detail = f": {record.detail}" if record.detail else ""
    return f"{where}; ended by {_BY[record.ended_by]}, {record.end_reason.value}{detail}"


_BY = {EndedBy.CALLER: "the caller", EndedBy.ROOMLINE: "Roomline", EndedBy.ROOM: "the room", EndedBy.PBX: "the PBX"}
