"""What the media plane costs without a PBX: loopback AudioSocket callers, each in a room of their own with an echo, under uvloop.

    ./run bench media_node [--calls 100] [--seconds 20] [--rate 8000] [--profile]

The callers live in a process of their own and send as channels do: every 20 ms each, evenly spread. In the same run, before and after,
a bare uvloop Protocol that sends back what it gets carries the same callers: its CPU is the floor that machines can be compared by.
The last line is JSON.
"""

import argparse
import asyncio
import cProfile
import json
import logging
import os
import pstats
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from resource import RUSAGE_SELF, getrusage
from statistics import quantiles
from typing import cast

import structlog
import uvloop

from bridge.media.audiosocket import Identified, audio_header, encode
from bridge.media.clips import Clips
from bridge.media.figures import Figures
from bridge.media.frames import FRAME_SECONDS, FRAMES_PER_SECOND, RATES, bytes_per_frame
from bridge.media.node import InProcessNode
from bridge.media.options import NodeOptions
from bridge.media.prompts import Prompts
from bridge.media.tones import Tones
from bridge.model.media_address import MediaAddress
from bridge.model.ticket import RoomTicket
from bridge.rooms.local import LocalRooms, LocalRoomsOptions
from bridge.rooms.options import BuiltIn, BuiltInKind

CPU_TO_REACH = 0.15  # % of a core per call at 100 calls, DESIGN §14
LATENESS_TO_REACH = 5.0  # ms, p99
CONNECT_TIMEOUT = 30.0
SETTLE = 1.0
SLOTS = 20  # the callers' phases, a millisecond apart


class PreciseFigures(Figures):
    """Keeps every lateness, where the histogram has buckets only."""

    __slots__ = ("lateness",)

    def __init__(self) -> None:
        super().__init__()
        self.lateness: list[float] = []

    def beat_came(self, late: float) -> None:
        super().beat_came(late)
        self.lateness.append(late)


@dataclass(frozen=True)
class Measured:
    """One window of steady calls."""

    cpu_percent_per_call: float
    user: float
    system: float
    frames_heard_per_call_and_second: float


@dataclass(frozen=True)
class Rhythm:
    """How the beat kept its time in the window."""

    beats: int
    late_ms_p50: float
    late_ms_p99: float
    late_ms_max: float
    skipped: int
    frames_missing: int
    frames_dropped: int
    frames_unsent: int


# The callers


class Caller(asyncio.Protocol):
    """A channel: presents its token, sends a frame when told to, counts what it hears."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self.heard = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(encode(Identified(self._token)))

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)


async def be_callers(port: int, rate: int, tokens: Sequence[str]) -> None:
    """Runs in a process of its own: calls until standard input ends; prints the bytes heard so far for every line it gets."""
    loop = asyncio.get_running_loop()
    callers = [(await loop.create_connection(lambda t=t: Caller(bytes.fromhex(t)), "127.0.0.1", port))[1] for t in tokens]  # type: ignore[misc]  # bound per caller
    loop.add_reader(sys.stdin.fileno(), lambda: answer(callers))
    message = audio_header(rate) + b"\x10\x02" * (bytes_per_frame(rate) // 2)
    slots = [callers[slot::SLOTS] for slot in range(SLOTS)]
    begun, step = time.monotonic(), FRAME_SECONDS / SLOTS
    count = 0
    while True:
        for caller in slots[count % SLOTS]:
            caller.transport.write(message)
        count += 1
        await asyncio.sleep(max(0.0, begun + count * step - time.monotonic()))


def answer(callers: Sequence[Caller]) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        raise SystemExit
    print(sum(caller.heard for caller in callers), flush=True)


@asynccontextmanager
async def calling(port: int, rate: int, tokens: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.media_node",
        "--callers",
        f"{port}:{rate}:{','.join(tokens)}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def heard_by(process: asyncio.subprocess.Process) -> int:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the callers have pipes")
    process.stdin.write(b"?")
    return int(await process.stdout.readline())


# The measurement


async def measure(process: asyncio.subprocess.Process, rate: int, calls: int, seconds: float) -> Measured:
    heard, cpu, wall = await heard_by(process), getrusage(RUSAGE_SELF), time.monotonic()
    await asyncio.sleep(seconds)
    now, passed = getrusage(RUSAGE_SELF), time.monotonic() - wall
    frames = (await heard_by(process) - heard) / (bytes_per_frame(rate) + 3)
    user, system = now.ru_utime - cpu.ru_utime, now.ru_stime - cpu.ru_stime
    per_call = 100 / passed / calls
    return Measured(
        round((user + system) * per_call, 4), round(user * per_call, 4), round(system * per_call, 4), round(frames / calls / passed, 2)
    )


class BareEcho(asyncio.Protocol):
    """The floor: what comes in goes out, with no meaning to it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def bare_echo(rate: int, calls: int, seconds: float) -> Measured:
    server = await asyncio.get_running_loop().create_server(BareEcho, "127.0.0.1", 0)
    async with server, calling(server.sockets[0].getsockname()[1], rate, [os.urandom(16).hex() for _ in range(calls)]) as process:
        await heard_by(process)
        await asyncio.sleep(SETTLE)
        return await measure(process, rate, calls, seconds)


async def node_with_echoes(rate: int, calls: int, seconds: float, profile: Callable[[], None]) -> tuple[Measured, Rhythm]:
    figures = PreciseFigures()
    rooms = LocalRooms(LocalRoomsOptions(participants=(BuiltIn("*", BuiltInKind.ECHO),)))
    clips = Clips(Prompts(None), Tones("us"))
    async with InProcessNode(NodeOptions(port=0, max_calls=calls, connect_timeout=CONNECT_TIMEOUT), rooms, clips, figures) as node:
        addresses: list[MediaAddress] = []
        for number in range(calls):
            sound = await node.open(f"call-{number}", rate)
            seat = await sound.take_seat(RoomTicket(f"call-{number}", f"room-{number}", "caller", "caller"))
            await seat.open()
            addresses.append(await sound.invite())
        async with calling(node.port, rate, [address.token.replace("-", "") for address in addresses]) as process:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                for sound in (await node.sounds()).values():
                    await sound.connected()
            await asyncio.sleep(SETTLE)
            before = (figures.beats_skipped, figures.frames_missing, figures.frames_dropped, figures.frames_unsent)
            figures.lateness.clear()
            profile()
            measured = await measure(process, rate, calls, seconds)
            profile()
            late = [1000 * lateness for lateness in figures.lateness]
            after = (figures.beats_skipped, figures.frames_missing, figures.frames_dropped, figures.frames_unsent)
    percentiles = quantiles(late, n=100)
    times = [round(value, 2) for value in (percentiles[49], percentiles[98], max(late))]
    skipped, missing, dropped, unsent = (now - then for now, then in zip(after, before, strict=True))
    return measured, Rhythm(len(late), times[0], times[1], times[2], skipped, missing, dropped, unsent)


def profiler(wanted: bool) -> Callable[[], None]:
    """First call starts, second one stops and prints. Profiled figures are not comparable."""
    profile = cProfile.Profile()

    def stop() -> None:
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)

    turns = iter((profile.enable, stop))

    def turn() -> None:
        if wanted:
            next(turns)()

    return turn


async def bench(options: argparse.Namespace) -> None:
    calls, seconds, rate = options.calls, options.seconds, options.rate
    floors = [await bare_echo(rate, calls, seconds / 2)]
    print("bare echo", floors[0], flush=True)
    measured, rhythm = await node_with_echoes(rate, calls, seconds, profiler(options.profile))
    print("node     ", measured, flush=True)
    floors.append(await bare_echo(rate, calls, seconds / 2))
    print("bare echo", floors[1], flush=True)
    floor = sum(each.cpu_percent_per_call for each in floors) / len(floors)
    figures = {
        "calls": calls,
        "rate": rate,
        "seconds": seconds,
        "node": asdict(measured),
        "bare_echo_cpu_percent_per_call": round(floor, 4),
        "ratio_to_bare_echo": round(measured.cpu_percent_per_call / floor, 3),
        "rhythm": asdict(rhythm),
        "ok": measured.cpu_percent_per_call <= CPU_TO_REACH
        and rhythm.late_ms_p99 <= LATENESS_TO_REACH
        and rhythm.skipped == 0
        and measured.frames_heard_per_call_and_second >= FRAMES_PER_SECOND * 0.999,
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench media_node", description="CPU and rhythm of the media plane alone.")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=RATES[0], choices=RATES)
    parser.add_argument("--profile", action="store_true", help="where the node's time goes, on standard error")
    parser.add_argument("--callers", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.callers:
        port, rate, tokens = options.callers.split(":")
        uvloop.run(be_callers(int(port), int(rate), tokens.split(",")))
    else:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        uvloop.run(bench(options))


if __name__ == "__main__":
    main()
