"""What a call costs the bridge, and how steady its sound is: callers through a real Asterisk into rooms, two in each, audio both ways.

    ./run bench audiosocket [--calls 100] [--seconds 30]

A second Asterisk is the carrier: every caller says a test tone all the time. A few of them are listened to: frames are counted and timed
where the caller hears them. CPU is the server's own (user and system); the rhythm is the node's histogram as /metrics shows it. The last
line is JSON; DESIGN §14 names the targets.
"""

import argparse
import asyncio
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from bridge.testing.carrier import CarrierCall
from bridge.testing.listening import is_tone, tone
from bridge.testing.stack import Stack
from tests.bench.parts.rhythm import Counts, counted, rhythm
from tests.bench.report import finish, percentile, say

CPU_TO_REACH = 0.15  # % of a core per call at 100 calls
LATENESS_TO_REACH = 5.0  # ms, p99
LISTENERS = 4  # callers whose own hearing is measured: in two rooms
SETTLE = 3.0
SPEECH_HZ = 700.0
NUMBER = "+1555"

CONFIGURATION: dict[str, Any] = {
    "rooms": {"kind": "local"},
    "dispatch_rules": [{"rule": {"dispatch_rule_callee": {"room_prefix": "pair", "randomize": False}}}],
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server has used and counted up to a moment."""

    at: float
    cpu_seconds: float
    counts: Counts


@dataclass(frozen=True, slots=True)
class Heard:
    """At the callers who are listened to: frames a second, and milliseconds between two of them."""

    callers: int
    hear_the_other: int
    frames_per_second: float
    gap_ms_p99: float
    gap_ms_longest: float


async def main(calls: int, seconds: float) -> None:
    configuration = CONFIGURATION | {"calls": {"limit": calls + 10}, "media": {"max_calls": calls + 10}}
    async with Stack(configuration, calls_at_once=calls + 10, progress=say) as stack:
        say(f"placing {calls} calls, two in each room")
        listened = [await stack.carrier.call(f"{NUMBER}{place // 2:05d}") for place in range(min(LISTENERS, calls))]
        for place in range(len(listened), calls):
            await stack.asterisk_carrier.place_load(f"{NUMBER}{place // 2:05d}")
            await asyncio.sleep(0.02)
        await asyncio.gather(*(call.answered() for call in listened))
        talking = await _until_talking(stack, calls)
        async with asyncio.TaskGroup() as speaking:
            said = [speaking.create_task(call.say(tone(8000, seconds + SETTLE + 30, [SPEECH_HZ]))) for call in listened]
            await asyncio.sleep(SETTLE)
            say(f"{talking} calls talk; measuring for {seconds:.0f} s")
            before = await _sample(stack)
            await asyncio.sleep(seconds)
            after = await _sample(stack)
            for speech in said:
                speech.cancel()
        cpu = 100 * (after.cpu_seconds - before.cpu_seconds) / (after.at - before.at) / max(talking, 1)
        steady, heard = rhythm(before.counts, after.counts), _heard(listened, before.at, after.at)
    underruns = steady.skipped + steady.frames_unsent
    targets = {
        "all calls talk": talking == calls,
        f"cpu_percent_of_a_core_per_call <= {CPU_TO_REACH}": cpu <= CPU_TO_REACH,
        f"late_ms_p99 <= {LATENESS_TO_REACH:g}": steady.late_ms_p99 <= LATENESS_TO_REACH,
        "underruns == 0": underruns == 0,
    }
    for target, met in targets.items():
        say(f"{'✔' if met else '✘'} {target}")
    finish(
        "audiosocket",
        {
            "calls": calls,
            "failed_calls": calls - talking,
            "seconds": round(after.at - before.at, 1),
            "cpu_percent_of_a_core_per_call": round(cpu, 4),
            "rhythm": asdict(steady),
            "underruns": underruns,
            "heard": asdict(heard),
            "targets": targets,
            "ok": all(targets.values()),
        },
    )


async def _until_talking(stack: Stack, calls: int, within: float = 20.0) -> int:
    """How many channels have their sound at the node, once all have or time is up."""
    deadline = time.monotonic() + within
    while True:
        channels = await stack.asterisk.channels()
        talking = sum(1 for channel in channels if channel["Context"] == "roomline-media" and channel["ChannelStateDesc"] == "Up")
        if talking >= calls or time.monotonic() > deadline:
            return talking
        await asyncio.sleep(0.2)


async def _sample(stack: Stack) -> Sample:
    counts = await counted(stack)
    return Sample(time.monotonic(), stack.server.cpu_seconds(), counts)


def _heard(calls: list[CarrierCall], since: float, until: float) -> Heard:
    gaps: list[float] = []
    frames = hear = 0
    for call in calls:
        times = [frame.at for frame in call.heard.frames if since <= frame.at <= until]
        frames += len(times)
        gaps += [later - earlier for earlier, later in pairwise(times)]
        hear += is_tone(call.heard.samples(until - 1.0, until), call.heard.rate, [SPEECH_HZ])
    return Heard(
        callers=len(calls),
        hear_the_other=hear,
        frames_per_second=round(frames / (until - since) / max(len(calls), 1), 2),
        gap_ms_p99=round(1000 * percentile(gaps, 99), 2) if gaps else 0.0,
        gap_ms_longest=round(1000 * max(gaps, default=0.0), 2),
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(prog="./run bench audiosocket", description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--calls", type=int, default=100, help="callers at once, an even number (%(default)s)")
    arguments.add_argument("--seconds", type=float, default=30.0, help="how long to measure (%(default)s)")
    given = arguments.parse_args()
    asyncio.run(main(given.calls, given.seconds))
