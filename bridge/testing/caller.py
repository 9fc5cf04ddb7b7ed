"""One call by a carrier, from the INVITE to its end, told as it happens, with an outcome: `docker compose run carrier call`.

What is heard is `hearing`'s to say. It asks Roomline nothing: all it knows is what a caller knows.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bridge.media.port import ClipName
from bridge.testing.carrier import CallEnded, Carrier, CarrierCall
from bridge.testing.clips import until_heard
from bridge.testing.demo_story import Storyteller
from bridge.testing.hearing import FALLBACK, SILENCE, SPEECH, WRONG, Heard, a_tone_of, hear
from bridge.testing.listening import tone

_PROMPT_WITHIN = 4.0
_JOINED_WITHIN = 8.0
_FIRST_WORDS = 1.2
"""Seconds of a prompt by which it is known, as it is by somebody who has heard it before."""

_LOOK_EVERY = 0.5
_SURE_AFTER = 0.8
"""Seconds that something has to be heard before it is told."""


class Outcome(StrEnum):
    """Where the call came to."""

    IN_ROOM = "in the room"
    REFUSED = "refused"
    UNANSWERED = "not answered"
    WRONG_PIN = "wrong PIN"
    PIN_WANTED = "a PIN is wanted"
    FELL_BACK = "the PBX's fallback"
    CUT_OFF = "cut off"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the caller does: `pin` once asked, then `talk` seconds of a tone of `hertz`, then the end. `ring` is their patience, `caller`
    their number (the carrier's choice without one)."""

    number: str
    pin: str = ""
    talk: float = 4.0
    hertz: float = 1200.0
    ring: float = 60.0
    caller: str = ""

    def __repr__(self) -> str:
        return f"Plan({self.number}, talk={self.talk})"


@dataclass(frozen=True, slots=True)
class Told:
    """How it went. Times count in seconds from the INVITE, on the caller's clock; `placed_at` is `time.time` of the INVITE."""

    outcome: Outcome
    sip_status: int
    placed_at: float
    answered_after: float | None
    ended_after: float
    ended_by_caller: bool
    heard: Sequence[Heard]

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.IN_ROOM

    def to_json(self) -> dict[str, Any]:
        heard = [{"what": part.what, "since": round(part.since, 2), "until": round(part.until, 2)} for part in self.heard]
        return {
            "ok": self.ok,
            "outcome": self.outcome.value,
            "sip_status": self.sip_status,
            "placed_at": round(self.placed_at, 3),
            "answered_after": None if self.answered_after is None else round(self.answered_after, 2),
            "ended_after": round(self.ended_after, 2),
            "ended_by_caller": self.ended_by_caller,
            "heard": heard,
        }


class Caller:
    """`await Caller(carrier, story).call(plan)`."""

    def __init__(self, carrier: Carrier, story: Storyteller) -> None:
        self._carrier = carrier
        self._story = story

    async def call(self, plan: Plan) -> tuple[Told, CarrierCall]:
        """Returns once the call has ended. Raises RoomlineError when it could not be placed."""
        self._story.begin(f"a call to {plan.number}")
        placed_at = time.time()
        call = await self._carrier.call(plan.number, caller=plan.caller, ring_for=plan.ring)
        self._story.tell("carrier", f"{call.caller} calls {plan.number}: INVITE", call.placed_at)
        try:
            outcome = await self._through(call, plan)
        finally:
            await call.hang_up()
        return self._account(call, outcome, placed_at), call

    async def _through(self, call: CarrierCall, plan: Plan) -> Outcome:
        ringing = asyncio.ensure_future(self._tell_ringing(call))
        try:
            await call.answered(plan.ring + 5.0)
        except (CallEnded, TimeoutError):
            return Outcome.UNANSWERED if call.ending is None or call.ending.by_us else _of_status(call.ending.sip_status)
        finally:
            ringing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ringing
        self._story.tell("carrier", "200 OK: answered", call.answered_at)
        telling = asyncio.ensure_future(self._tell_what_is_heard(call))
        try:
            return await self._answered(call, plan)
        except (CallEnded, ConnectionError):
            return Outcome.CUT_OFF
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling

    async def _answered(self, call: CarrierCall, plan: Plan) -> Outcome:
        if plan.pin and (ended_up := await self._enter_pin(call, plan.pin)) is not None:
            return ended_up
        self._story.tell("says", f"{a_tone_of(plan.hertz)} for {plan.talk:.0f} s")
        speaking = asyncio.ensure_future(call.say(tone(call.heard.rate, plan.talk, (plan.hertz,), -12.0)))
        ended = asyncio.ensure_future(call.ended(plan.talk + 60.0))
        try:
            await asyncio.wait({speaking, ended}, return_when=asyncio.FIRST_COMPLETED)
            cut_off = call.ending is not None or speaking.exception() is not None
        finally:
            for task in (speaking, ended):
                task.cancel()
            await asyncio.gather(speaking, ended, return_exceptions=True)
        # Judging what was heard takes up to a second, in which this loop would take nothing in and the caller seem to hear nothing.
        await call.hang_up()
        if _heard(call, FALLBACK):
            return Outcome.FELL_BACK
        if cut_off:
            return Outcome.CUT_OFF
        prompted = any('"Please enter' in part.what for part in hear(call.heard))
        return Outcome.PIN_WANTED if prompted and not plan.pin else Outcome.IN_ROOM

    async def _enter_pin(self, call: CarrierCall, pin: str) -> Outcome | None:
        """None once the join was announced."""
        try:
            await until_heard(call.heard, ClipName.ENTER_PIN, since=call.placed_at, within=_PROMPT_WITHIN, seconds=_FIRST_WORDS)
        except TimeoutError:
            # On a crowded machine a prompt may have holes: who hears somebody speak enters the PIN all the same.
            if not _heard(call, SPEECH):
                return Outcome.FELL_BACK if _heard(call, FALLBACK) else Outcome.CUT_OFF
        self._story.tell("presses", f"{len(pin)} digits and #")
        pressed_at = time.monotonic()
        await call.press(f"{pin}#")
        try:
            await until_heard(call.heard, ClipName.ROOM_JOIN, since=pressed_at, within=_JOINED_WITHIN, seconds=_FIRST_WORDS)
        except TimeoutError:
            return Outcome.WRONG_PIN if _heard(call, WRONG) else Outcome.FELL_BACK if _heard(call, FALLBACK) else Outcome.CUT_OFF
        return None

    def _account(self, call: CarrierCall, outcome: Outcome, placed_at: float) -> Told:
        assert call.ending is not None  # noqa: S101  (hang_up has waited for it)
        began = (call.heard.started_at or call.placed_at) - call.placed_at
        heard = [Heard(part.what, part.since + began, part.until + began) for part in hear(call.heard)]
        self._story.tell("carrier", _end(call), call.ending.at)
        return Told(
            outcome=outcome,
            sip_status=call.ending.sip_status,
            placed_at=placed_at,
            answered_after=None if call.answered_at is None else call.answered_at - call.placed_at,
            ended_after=call.ending.at - call.placed_at,
            ended_by_caller=call.ending.by_us,
            heard=heard,
        )

    async def _tell_ringing(self, call: CarrierCall) -> None:
        with contextlib.suppress(CallEnded, TimeoutError):
            await call.ringing(120.0)
            self._story.tell("carrier", "180 Ringing", call.ringing_at)

    async def _tell_what_is_heard(self, call: CarrierCall) -> None:
        """Each sound once, a moment after it has begun; a prompt by its words, once it is over."""
        told_until, before = 0.0, ""
        while call.ending is None:
            await asyncio.sleep(_LOOK_EVERY)
            parts = await asyncio.to_thread(hear, call.heard)
            for place, part in enumerate(parts):
                over = place + 1 < len(parts)
                sure = part.seconds >= _SURE_AFTER and (over or part.what != "speech")
                if part.since >= told_until and sure:
                    told_until = part.since + 0.001
                    if part.what not in (before, SILENCE) or (part.what == SILENCE and part.seconds > 1.0):
                        self._story.tell("hears", part.what, (call.heard.started_at or call.placed_at) + part.since)
                        before = part.what


def _of_status(status: int) -> Outcome:
    return Outcome.REFUSED if status >= 300 else Outcome.CUT_OFF


def _heard(call: CarrierCall, what: str) -> bool:
    return any(part.what == what and part.seconds >= 0.4 for part in hear(call.heard))


def _end(call: CarrierCall) -> str:
    ending = call.ending
    assert ending is not None  # noqa: S101  (asked at the end)
    if call.answered_at is None:
        return "gives up: CANCEL" if ending.by_us else f"gets {ending.sip_status}{'' if ending.exact else ' or the like'}"
    return "hangs up: BYE" if ending.by_us else "gets a BYE from the PBX"
