"""What a call in a LiveKit room costs its node, against the bare SDK doing the same without a PBX, in one run.

    ./run bench livekit [--calls 5 10 15] [--seconds 12] [--rounds 3]

For each number of calls: (a) the bare SDK by its public way, (b) the bare SDK by our short cut, (c) Roomline's node behind a real Asterisk
whose callers say a tone. The same crowd stands in the rooms each time, the same LiveKit server carries them. CPU is that of the process
that holds the callers' seats, user and system; late is what its beat was late by (of (c) to the next bound of the node's histogram).
Each is measured several times in turn, as the machine's speed drifts; what is compared are the means. Calls that do not talk, or hear
nothing, would cost little: all N have to talk, and of (c) one is listened to, as (b) counts what each of its rooms hears. Beside
Roomline's N calls, further ones are made one after the other: what a caller waits for. The last line is JSON; DESIGN §14 names the targets.
"""

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from bridge.testing.human import RATE, Human
from bridge.testing.listening import seconds_of_tone, tone
from bridge.testing.livekit_server import LiveKitServer, get_livekit_server
from bridge.testing.stack import Stack
from tests.bench.parts.call_times import call_times
from tests.bench.parts.livekit_processes import BARE, SETTLE, crowd, measured, show_out
from tests.bench.parts.rhythm import counted, rhythm
from tests.bench.report import finish, say

OF_BARE_SHORT, OF_BARE_PUBLIC = 1.1, 0.85
HEARD = 0.9
"""Of the crowd's sound, at the least: below it, a call is no call."""
CROWD_HZ = 700.0
NUMBER = "+1555"
FURTHER, FURTHER_CALLS = "+155599999", 8


async def main(calls: list[int], seconds: float, rounds: int) -> None:
    binary = await asyncio.to_thread(get_livekit_server, say)
    figures: dict[str, Any] = {}
    with TemporaryDirectory(prefix="roomline-bench-") as folder:
        async with LiveKitServer(binary, Path(folder) / "livekit") as livekit:
            for count in calls:
                async with crowd(livekit, count):
                    found = [await _round(livekit, count, seconds, f"{count} calls, {each + 1} of {rounds}") for each in range(rounds)]
                figures[str(count)] = {"rounds": found} | _ratios(found)
                say(json.dumps(figures[str(count)]))
    worst_short = max(each["of_bare_short"] for each in figures.values())
    worst_public = max(each["of_bare_public"] for each in figures.values())
    targets = {
        f"node <= {OF_BARE_SHORT} x bare short cut": worst_short <= OF_BARE_SHORT,
        f"node <= {OF_BARE_PUBLIC} x bare public way": worst_public <= OF_BARE_PUBLIC,
    }
    rounds_made = [(count, each) for count in calls for each in figures[str(count)]["rounds"]]
    targets[f"all calls talk, and hear >= {HEARD}"] = all(
        each["roomline"]["talking"] == count and min(each["short"]["heard_share"], each["roomline"]["heard_share"]) >= HEARD
        for count, each in rounds_made
    )
    for target, met in targets.items():
        say(f"{'✔' if met else '✘'} {target}")
    finish("livekit", {"seconds": seconds, "rounds": rounds, "calls": figures, "targets": targets, "ok": all(targets.values())})


async def _round(livekit: LiveKitServer, count: int, seconds: float, name: str) -> dict[str, dict[str, Any]]:
    say(f"{name}: the bare SDK, its public way")
    public = await measured(livekit, BARE, "public", count, seconds)
    say(f"{name}: the bare SDK, our short cut")
    short = await measured(livekit, BARE, "short", count, seconds)
    say(f"{name}: Roomline behind Asterisk")
    return {"public": public, "short": short, "roomline": await _roomline(livekit, count, seconds)}


def _ratios(found: list[dict[str, dict[str, Any]]]) -> dict[str, float]:
    def mean(of: str) -> float:
        return fmean(each[of]["cpu_percent_of_a_core_per_call"] for each in found)

    return {
        "public_percent": round(mean("public"), 2),
        "short_percent": round(mean("short"), 2),
        "roomline_percent": round(mean("roomline"), 2),
        "of_bare_short": round(mean("roomline") / mean("short"), 3),
        "of_bare_public": round(mean("roomline") / mean("public"), 3),
    }


async def _roomline(livekit: LiveKitServer, count: int, seconds: float) -> dict[str, Any]:
    configuration = {
        "rooms": livekit.rooms(),
        "media": {"workers": 1, "max_calls": count + 5},
        "dispatch_rules": [{"rule": {"dispatch_rule_callee": {"room_prefix": "pair", "randomize": False}}}],
    }
    await show_out(livekit)
    async with Stack(configuration, calls_at_once=count + 5) as stack:
        for number in range(1, count):
            await stack.asterisk_carrier.place_load(f"{NUMBER}{number:05d}")
            await asyncio.sleep(0.1)
        listened = await stack.carrier.call(f"{NUMBER}{0:05d}")
        await listened.answered()
        speaking = asyncio.create_task(listened.say(tone(8000, 3 * SETTLE + seconds + 5.0, [CROWD_HZ]), 8000))
        await asyncio.sleep(2 * SETTLE)  # the first words are kept until somebody subscribes, and the crowd does not
        talking = stack.server.child.output().count('"event": "talking"')
        await asyncio.sleep(SETTLE)
        (worker,) = stack.server.workers()
        earlier = await counted(stack)
        began, node, controller = time.monotonic(), _cpu_seconds(worker), stack.server.cpu_seconds()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        heard = seconds_of_tone(listened.heard.samples(began, began + took), listened.heard.rate, CROWD_HZ)
        speaking.cancel()
        figures = {
            "cpu_percent_of_a_core_per_call": round(100 * (_cpu_seconds(worker) - node) / took / count, 3),
            "controller_percent_of_a_core_per_call": round(100 * (stack.server.cpu_seconds() - controller) / took / count, 3),
            "talking": talking,
            "heard_share": round(heard / took, 3),
        }
        steady = rhythm(earlier, await counted(stack))
        figures |= {"late_ms_p99": steady.late_ms_p99, "late_share_over_5_ms": steady.late_share_over_5_ms, "beats_skipped": steady.skipped}
        async with Human(livekit.access, f"pair_{FURTHER}") as human:
            human.hum(tone(RATE, 1.0, [700.0]))
            await asyncio.sleep(1.0)
            times = await call_times(stack, human, FURTHER, FURTHER_CALLS)
        return figures | {"further_calls_ms": times.figures()}


def _cpu_seconds(pid: int) -> float:
    """User and system time (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="./run bench livekit", description="CPU per call of a LiveKit seat, against the bare SDK.")
    parser.add_argument("--calls", type=int, nargs="+", default=[5, 10, 15], help="how many at once, one after the other (5 10 15)")
    parser.add_argument("--seconds", type=float, default=12.0, help="measured each time (12)")
    parser.add_argument("--rounds", type=int, default=3, help="for each number of calls (3)")
    options = parser.parse_args()
    asyncio.run(main(options.calls, options.seconds, options.rounds))
