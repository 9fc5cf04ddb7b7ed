"""A minute of talk through a real PBX and a real LiveKit: what arrives at each end, held against what was said.

Both say sweeps, unlike themselves at every moment: a lost frame that was filled in with more of the same is heard as lost.
"""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from bridge.testing.get_asterisk import Asterisk
from bridge.testing.human import RATE, Human
from bridge.testing.listening import chirp, find, likenesses
from bridge.testing.livekit_server import LiveKitServer
from bridge.testing.recording import Recording, Samples
from bridge.testing.stack import Stack
from tests.real.livekit_scenario import OPEN, configuration

SECONDS = 60
MOST_LOST = 0.01
PIECE = 0.1
LIKE = 0.85
"""A tenth of a second with one of its five frames missing is like itself to at most 0.9, Opus and G.711 leave 0.97 and more."""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(200)
async def test_given_a_minute_of_talk_then_at_most_one_frame_in_a_hundred_is_lost_either_way(
    asterisk: Asterisk, livekit: LiveKitServer, tmp_path: Path
) -> None:
    async with Stack(configuration(livekit), asterisk=asterisk, keep=tmp_path / "kept") as stack, Human(livekit.access, "open") as human:
        human.hum(chirp(RATE, 1.0))
        call = await stack.carrier.call(OPEN)
        await call.answered()
        identity = f"sip_{call.caller}"
        await human.until("published", identity)
        async with asyncio.TaskGroup() as group:
            saying = group.create_task(call.say(np.tile(chirp(8000, 1.0), SECONDS + 15)))
            await asyncio.sleep(8.0)  # the first words' delay is worked off by then
            began = time.monotonic()
            await asyncio.sleep(SECONDS + 2)
            ended = time.monotonic()
            saying.cancel()
        await call.hang_up()
        at_the_phone = lost_share(call.heard, began, ended)
        in_the_room = lost_share(human.heard[identity], began, ended)
    assert at_the_phone <= MOST_LOST
    assert in_the_room <= MOST_LOST


def lost_share(heard: Recording, began: float, ended: float) -> float:
    """Of the tenths of seconds in between: how many do not arrive as they were said. Each sweep is looked for where the last one ended."""
    sweep, samples = chirp(heard.rate, 1.0), heard.samples(began, ended)
    at = find(sweep, samples[: 2 * heard.rate], heard.rate).delay
    pieces: list[float] = []
    while (at + 1.2) * heard.rate < len(samples):
        pieces += likenesses(sweep, samples, heard.rate, at, piece=PIECE)
        at = next_sweep(sweep, samples, heard.rate, at + 1.0)
    assert len(pieces) >= 0.9 * SECONDS / PIECE
    return sum(like < LIKE for like in pieces) / len(pieces)


def next_sweep(sweep: Samples, samples: Samples, rate: int, at: float, stray: float = 0.1) -> float:
    begin = max(0, round((at - stray) * rate))
    return begin / rate + find(sweep, samples[begin : round((at + 1.0 + stray) * rate)], rate).delay
