"""How long callers wait, call after call into one room in which a `Human` is company: what `./run bench setup` and `livekit` measure."""

from dataclasses import dataclass, field
from typing import Any

from bridge.testing.human import Human
from bridge.testing.stack import Stack
from tests.bench.report import milliseconds, percentile


@dataclass(slots=True)
class Times:
    """Seconds since the INVITE, one for each call."""

    ringing: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    joined: list[float] = field(default_factory=list)
    published: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {name: spread(getattr(self, name)) for name in ("ringing", "answered", "joined", "published")}


def spread(seconds: list[float]) -> dict[str, float]:
    return {"p50": milliseconds(percentile(seconds, 50)), "p95": milliseconds(percentile(seconds, 95))}


async def call_times(stack: Stack, human: Human, number: str, calls: int) -> Times:
    """One call more than `calls` is made: the first one, which loads things, does not count."""
    times = Times()
    for place in range(calls + 1):
        call = await stack.carrier.call(number)
        identity = f"sip_{call.caller}"
        await call.answered()
        published = await human.until("published", identity)
        if place and call.ringing_at and call.answered_at:
            times.ringing.append(call.ringing_at - call.placed_at)
            times.answered.append(call.answered_at - call.placed_at)
            times.joined.append(human.happened("joined", identity)[0].at - call.placed_at)
            times.published.append(published.at - call.placed_at)
        await call.hang_up()
        await human.until("left", identity)
    return times
