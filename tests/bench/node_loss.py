"""How long callers who talk in LiveKit rooms hear the PBX's music when the process that carries them dies: until they hear the room again.

    ./run bench node_loss [--calls 6] [--times 3]

A real Asterisk, a real LiveKit server, two workers. Each time half of the calls lose theirs: killed (SIGKILL) and, in a second row, frozen
(SIGSTOP), which has to be noticed first. The last line is JSON. The target is DESIGN §8's: a killed worker costs its callers under 3 s.
"""

import argparse
import asyncio
import os
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge.testing.carrier import CarrierCall
from bridge.testing.human import RATE, Human
from bridge.testing.listening import pitches, tone
from bridge.testing.livekit_server import LiveKitServer, get_livekit_server
from bridge.testing.stack import Stack
from tests.bench.parts.call_times import spread
from tests.bench.report import finish, say

NUMBER = "+15552001"
KILLED_TO_REACH = 3.0  # seconds, the slowest
_HZ = 600.0
_LISTENED = 12.0
_STEP = 0.1
_WITHIN_HZ = 15.0


async def main(calls: int, times: int) -> None:
    binary = await asyncio.to_thread(get_livekit_server, say)
    away: dict[str, list[float]] = {"killed": [], "frozen": []}
    with TemporaryDirectory(prefix="roomline-bench-") as folder:
        async with LiveKitServer(binary, Path(folder) / "livekit") as livekit:
            configuration = {
                "rooms": livekit.rooms(),
                "media": {"workers": 2},
                "dispatch_rules": [{"rule": {"dispatch_rule_direct": {"room_name": "company"}}}],
            }
            async with Stack(configuration, progress=say) as stack, Human(livekit.access, "company") as human:
                human.hum(tone(RATE, 1.0, [_HZ]))
                for number in range(times):
                    for name, blow in (("killed", signal.SIGKILL), ("frozen", signal.SIGSTOP)):
                        away[name] += await _one_loss(stack, human, calls, blow)
                        say(f"{number + 1} of {times}, {name}: {[round(each, 2) for each in away[name]]}")
    targets = {f"killed: the slowest <= {KILLED_TO_REACH} s": max(away["killed"]) <= KILLED_TO_REACH}
    for target, met in targets.items():
        say(f"{'✔' if met else '✘'} {target}")
    figures = {name: spread(values) | {"calls": len(values)} for name, values in away.items()}
    finish("node_loss", {"milliseconds_without_the_room": figures, "targets": targets, "ok": all(targets.values())})


async def _one_loss(stack: Stack, human: Human, calls: int, blow: signal.Signals) -> list[float]:
    """Seconds without the room, of each call that lost it."""
    talking = [await stack.carrier.call(NUMBER) for _ in range(calls)]
    for call in talking:
        await human.until("published", f"sip_{call.caller}")
    await asyncio.sleep(2.0)
    struck_at = time.monotonic()
    os.kill(_busiest(stack), blow)
    await asyncio.sleep(_LISTENED)
    lost = [seconds for call in talking if (seconds := _seconds_away(call, struck_at)) is not None]
    for call in talking:
        await call.hang_up()
    await asyncio.sleep(2.0)  # both workers are there, and empty
    if not lost:
        raise RuntimeError("no call was carried by the worker that was struck")
    return lost


def _seconds_away(call: CarrierCall, struck_at: float) -> float | None:
    """From the blow until the room's tone is there to stay; None for a call that was never without it. Raises RuntimeError for one that
    never came back."""
    heard = [abs(pitch.hz - _HZ) < _WITHIN_HZ for pitch in pitches(call.heard.samples(struck_at), call.heard.rate, _STEP)]
    away = [place for place in range(len(heard) - 1) if not heard[place] and not heard[place + 1]]
    if not away:
        return None
    if away[-1] >= len(heard) - 5:
        raise RuntimeError(f"a caller did not hear the room again within {_LISTENED:g} s")
    return (away[-1] + 2) * _STEP


def _busiest(stack: Stack) -> int:
    """Of the workers; the SDK has threads for each call."""
    return max(stack.server.workers(), key=lambda pid: len(list(Path(f"/proc/{pid}/task").iterdir())))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="./run bench node_loss", description="What a dying media process costs those who talk.")
    parser.add_argument("--calls", type=int, default=6, help="at once, over two processes (6)")
    parser.add_argument("--times", type=int, default=3, help="each kind of death (3)")
    options = parser.parse_args()
    asyncio.run(main(options.calls, options.times))
