"""What could make the LiveKit SDK itself cheaper: one thing done otherwise at a time, against what Roomline does, in one run.

    ./run bench livekit_tries [--calls 10] [--seconds 12] [--only NAME …]

Each try is held against the mean of what Roomline does just before and just after it, so that a machine whose speed drifts does not
decide. docs/performance.md says what followed from it. The last line is JSON.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bridge.testing.livekit_server import LiveKitServer, get_livekit_server
from tests.bench.parts.livekit_processes import TRY, crowd, measured
from tests.bench.parts.livekit_try import Try
from tests.bench.report import finish, say

CPU = "cpu_percent_of_a_core_per_call"


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    tried: Try = field(default_factory=Try)
    environ: dict[str, str] = field(default_factory=dict)


CANDIDATES = (
    Candidate("the phone is silent: zeros", Try(sound="zeros")),
    Candidate("the phone is silent: faint noise", Try(sound="noise")),
    Candidate("the phone is silent: a faint hum", Try(sound="hum")),
    Candidate("the phone is silent: zeros, dtx off", Try(sound="zeros", dtx=False)),
    Candidate("nothing sent", Try(sends=False)),
    Candidate("nothing heard", Try(listens=False)),
    Candidate("frames of 10 ms", Try(frame_ms=10)),
    Candidate("frames of 10 ms, no queue", Try(frame_ms=10, queue_ms=0)),
    Candidate("frames of 40 ms", Try(frame_ms=40)),
    Candidate("frames of 100 ms", Try(frame_ms=100)),
    Candidate("dtx off", Try(dtx=False)),
    Candidate("red off", Try(red=False)),
    Candidate("16 kbit/s", Try(bitrate=16_000)),
    Candidate("one peer connection", Try(single_connection=True)),
    Candidate("one thread of tokio's", environ={"TOKIO_WORKER_THREADS": "1"}),
    Candidate("two arenas of malloc's", environ={"MALLOC_ARENA_MAX": "2"}),
)


async def main(calls: int, seconds: float, only: Sequence[str]) -> None:
    binary = await asyncio.to_thread(get_livekit_server, say)
    found: dict[str, Any] = {}
    with TemporaryDirectory(prefix="roomline-bench-") as folder:
        async with LiveKitServer(binary, Path(folder) / "livekit") as livekit, crowd(livekit, calls):

            async def figures(candidate: Candidate) -> dict[str, Any]:
                return await measured(livekit, TRY, json.dumps(asdict(candidate.tried)), calls, seconds, candidate.environ)

            before = await figures(Candidate("as Roomline does it"))
            say(f"as Roomline does it: {before[CPU]} % of a core per call")
            for candidate in CANDIDATES:
                if only and not any(word in candidate.name for word in only):
                    continue
                tried = await figures(candidate)
                after = await figures(Candidate("as Roomline does it"))
                of_ours = round(2 * tried[CPU] / (before[CPU] + after[CPU]), 3)
                found[candidate.name] = tried | {"of_ours": of_ours}
                say(f"{candidate.name}: {tried[CPU]} %, {of_ours} of {before[CPU]} and {after[CPU]}; heard {tried['heard_share']}")
                before = after
    finish("livekit_tries", {"calls": calls, "seconds": seconds, "tries": found})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="./run bench livekit_tries", description="What could make the LiveKit SDK cheaper.")
    parser.add_argument("--calls", type=int, default=10, help="at once (10)")
    parser.add_argument("--seconds", type=float, default=12.0, help="measured each time (12)")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="tries whose name has one of these words")
    options = parser.parse_args()
    asyncio.run(main(options.calls, options.seconds, options.only))
