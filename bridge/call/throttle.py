"""How often a caller may guess a PIN: wrong ones are limited per source address, per called number and per rule.

A caller's own number can be forged, so it is not a key. Each key is a bucket: a guess fills it by one, time empties it. A guess is
charged *before* it is judged (a thousand calls at once cannot all slip through the same gap) and given back when it was right.

The defaults against a four-digit PIN (10,000 values), whatever the number of lines and sources: a rule gives 20 guesses at once
and one each 5 minutes, so 308 on the first day and 288 on each further one: 3 % of all values a day, and someone on duty sees it.
One source address has 10 at once and one a minute: enough for a carrier's address that many honest callers share, far too few for
a script.
"""

from dataclasses import dataclass

import structlog

from bridge.call.clock import Clock
from bridge.call.options import Bucket, ThrottleOptions
from bridge.errors import Unavailable
from bridge.store.port import Level, Tries

KEYS_KEPT = 10_000
"""Beyond that many counts the emptied ones are forgotten, then the emptiest: numbers and addresses are the caller's to choose."""

KEY_LENGTH = 128
"""Characters of a key: a called number of 64 KB is not worth more."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Guess:
    """Who guesses what: the three things a guess is counted for. Empty ones are not counted."""

    source: str
    called: str
    rule: str


class Throttle:
    """Counts guesses. Lives as long as the server; what it knows is kept in the store."""

    def __init__(self, options: ThrottleOptions, tries: Tries, clock: Clock) -> None:
        self._buckets = {"source": options.source, "called": options.called, "rule": options.rule}
        self._tries = tries
        self._clock = clock
        self._levels: dict[str, Level] = {}

    async def load(self) -> None:
        """Go on with what an earlier process counted."""
        await self._tries.forget_levels(self._clock.now() - self._emptied_after())
        self._levels = dict(await self._tries.levels())

    @property
    def counted(self) -> int:
        """How many sources, numbers and rules are being counted for."""
        return len(self._levels)

    def may_guess(self, guess: Guess) -> bool:
        """Is there a guess left? Charges nothing."""
        return all(self._level(key, bucket) <= bucket.burst - 1 for key, bucket in self._keys(guess))

    async def charge(self, guess: Guess) -> bool:
        """Take one guess; False (and nothing taken) when there is none left."""
        if not self.may_guess(guess):
            return False
        await self._add(guess, 1.0)
        return True

    async def give_back(self, guess: Guess) -> None:
        """The guess was right."""
        await self._add(guess, -1.0)

    def _keys(self, guess: Guess) -> list[tuple[str, Bucket]]:
        values = {"source": guess.source, "called": guess.called, "rule": guess.rule}
        return [(f"{kind}:{value}"[:KEY_LENGTH], self._buckets[kind]) for kind, value in values.items() if value]

    def _level(self, key: str, bucket: Bucket) -> float:
        kept = self._levels.get(key)
        if kept is None:
            return 0.0
        # A clock that was set back must not empty or fill a bucket.
        return max(0.0, kept.level - max(0.0, self._clock.now() - kept.at) / bucket.refill)

    async def _add(self, guess: Guess, amount: float) -> None:
        changed: list[tuple[str, Level]] = []
        for key, bucket in self._keys(guess):
            level = Level(max(0.0, self._level(key, bucket) + amount), self._clock.now())
            self._levels[key] = level
            changed.append((key, level))
        forgotten = self._forget()
        try:
            for key, level in changed:
                await self._tries.keep_level(key, level)
            if forgotten:
                await self._tries.forget_levels(self._clock.now() - self._emptied_after())
        except Unavailable as error:
            # Counting in memory goes on: a full disk must not open the door, nor close it.
            log.warning("the count of wrong PINs could not be kept", error=str(error))

    def _emptied_after(self) -> float:
        """Seconds after which every bucket has run empty."""
        return max(bucket.burst * bucket.refill for bucket in self._buckets.values())

    def _forget(self) -> bool:
        """Keep what is counted within bounds. The rules' counts stay: there are as many as the operator made, and they guard the PIN."""
        if len(self._levels) <= KEYS_KEPT:
            return False
        levels = {key: self._level(key, self._buckets[key.partition(":")[0]]) for key in self._levels}
        fullest = sorted(levels, key=lambda key: (key.startswith("rule:"), levels[key]), reverse=True)
        self._levels = {key: self._levels[key] for key in fullest[: KEYS_KEPT // 2] if levels[key] > 0.0}
        return True
