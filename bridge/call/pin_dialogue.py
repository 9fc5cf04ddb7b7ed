"""Asking for the PIN: plays, listens and has the entry judged. What counts as an entry is `pin.py`'s."""

import asyncio
from collections.abc import Callable

import structlog

from bridge.call.clock import Clock
from bridge.call.commands import remember
from bridge.call.live import AskAgain, Call, PromptEnded
from bridge.call.options import PinOptions
from bridge.call.over import CallOver
from bridge.call.pin import Entered, Failure, PinEntry
from bridge.call.throttle import Guess, Throttle
from bridge.dispatch.outcome import Accept, AskPin, Decision, Refuse
from bridge.media.port import Clip, ClipName, Sound
from bridge.model.ending import EndReason

log = structlog.get_logger(__name__)

PROMPT_LIMIT = 90.0
"""Seconds: a clip (at most 60, `media/prompts.py`) that has not ended by then never will."""


class PinDialogue:
    """The dialogue with one caller, who has been answered."""

    def __init__(self, call: Call, sound: Sound, options: PinOptions, throttle: Throttle, clock: Clock) -> None:
        self._call = call
        self._sound = sound
        self._options = options
        self._throttle = throttle
        self._clock = clock

    @staticmethod
    def guess(call: Call, rule_id: str) -> Guess:
        """What a guess of this caller is counted for."""
        return Guess(source=call.leg.caller.source_address, called=call.leg.caller.called, rule=rule_id)

    async def ask(self, guess: Guess, judge: Callable[[str], Decision]) -> Accept | Refuse:
        """Ask until the PIN is right or the attempts are used up (then CallOver, the tone already played). A Refuse is passed on
        when nothing can be decided (conflicting rules)."""
        while True:
            entry = await self._entry()
            outcome = await self._judge(entry, guess, judge)
            if not isinstance(outcome, CallOver):
                return outcome
            await self._play(ClipName.WRONG_PIN)
            if outcome.reason is EndReason.PIN_THROTTLED or self._call.note.pin_tries >= self._options.attempts:
                raise outcome

    async def _judge(self, entry: Entered | Failure, guess: Guess, judge: Callable[[str], Decision]) -> Accept | Refuse | CallOver:
        await remember(self._call, pin_tries=self._call.note.pin_tries + 1)
        if isinstance(entry, Failure):
            reason = EndReason.PIN_TIMEOUT if entry is Failure.TOO_SLOW else EndReason.WRONG_PIN
            return CallOver(reason, detail=f"the PIN entry was {entry.value}")
        # `#` alone is no guess: it asks for the rules without a PIN.
        if entry.pin and not await self._throttle.charge(guess):
            return CallOver(EndReason.PIN_THROTTLED, detail="too many wrong PINs lately")
        decision = judge(entry.pin)
        if isinstance(decision, Accept):
            if entry.pin:
                await self._throttle.give_back(guess)
            log.info("PIN accepted", tries=self._call.note.pin_tries)
            await self._play(ClipName.ROOM_JOIN)
            return decision
        if isinstance(decision, AskPin) or not decision.conflict:
            return CallOver(EndReason.WRONG_PIN, detail="no rule has the PIN that was entered")
        return decision

    async def _play(self, name: ClipName) -> None:
        """To the end. A sound that is not heard because the PBX is away is the watchers' affair, and not ours to wait for."""
        try:
            async with asyncio.timeout(PROMPT_LIMIT):
                await self._sound.play(Clip(name))
        except TimeoutError:
            log.warning("a prompt did not end", clip=name.value)

    async def _entry(self) -> Entered | Failure:
        """One prompt and what is pressed, from its first moment on; anew whenever keys may have been lost meanwhile."""
        while True:
            entry = PinEntry(self._options)
            async with asyncio.TaskGroup() as group:
                prompt = group.create_task(self._prompt())
                outcome = await self._listen(entry)
                prompt.cancel()
                await self._sound.stop()
            if outcome is not None:
                return outcome

    async def _prompt(self) -> None:
        await self._play(ClipName.ENTER_PIN)
        self._call.press(PromptEnded())

    async def _listen(self, entry: PinEntry) -> Entered | Failure | None:
        """None: ask again. While the prompt plays there is no deadline; `_prompt` says when it is over, at the latest after its limit."""
        while True:
            left = None if entry.deadline is None else max(0.0, entry.deadline - self._clock.monotonic())
            try:
                async with asyncio.timeout(left):
                    event = await self._call.keys.get()
            except TimeoutError:
                if self._call.control.is_set():
                    return Failure.TOO_SLOW
                # Keys do not reach us: no fault of the caller's. Once they do again, the watchers ask for a new prompt.
                event = await self._call.keys.get()
            now = self._clock.monotonic()
            match event:
                case AskAgain():
                    return None
                case PromptEnded():
                    entry.prompt_ended(now)
                case str():
                    if not entry.started:
                        await self._sound.stop()
                    outcome = entry.key(event, now)
                    if outcome is not None:
                        return outcome
