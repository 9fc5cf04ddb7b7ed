"""A minute of talk through a real PBX and a real LiveKit: what arrives at each end, held against what was said.

Both say sweeps, unlike themselves at every moment: a lost frame that was filled in with more of the same is heard as lost.

A machine that many share stands still for a moment now and then, which costs frames that no product could save. So up to three minutes of
one call are listened to, and each way has to keep the bound in one of them, the whole minute long: what loses frames by itself, loses
them in each.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from bridge.testing.carrier import CarrierCall
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.human import RATE, Human
from bridge.testing.listening import chirp, lost_share
from bridge.testing.livekit_server import LiveKitServer
from bridge.testing.recording import Recording
from bridge.testing.stack import Stack
from tests.real.livekit_scenario import OPEN, configuration, identity_of

SECONDS = 60
MINUTES = 3
MOST_LOST = 0.01
SWEEP = 0.5
SETTLED = 8.0
"""Seconds after the answer: the first words' delay is worked off by then."""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(60 + MINUTES * (SECONDS + 20))
async def test_given_a_minute_of_talk_then_at_most_one_frame_in_a_hundred_is_lost_either_way(
    asterisk: Asterisk, livekit: LiveKitServer, tmp_path: Path
) -> None:
    async with Stack(configuration(livekit), asterisk=asterisk, keep=tmp_path / "kept") as stack, Human(livekit.access, "open") as human:
        human.hum(np.tile(chirp(RATE, SWEEP), round(1 / SWEEP)))
        call = await stack.carrier.call(OPEN)
        await call.answered()
        await human.until("published", identity_of(call))
        shares: dict[str, list[float]] = {"at the phone": [], "in the room": []}
        async with saying_sweeps(call):
            await asyncio.sleep(SETTLED)
            while len(shares["at the phone"]) < MINUTES and any(min(found, default=1.0) > MOST_LOST for found in shares.values()):
                began = time.monotonic()
                await asyncio.sleep(SECONDS)
                ended = time.monotonic()  # what is heard while we reckon does not count: it is this very process that speaks and hears
                for where, heard in (("at the phone", call.heard), ("in the room", human.heard[identity_of(call)])):
                    shares[where].append(await asyncio.to_thread(share_of, heard, began, ended))
                print(f"lost, a minute each: {shares}")
        await call.hang_up()
    assert all(min(found) <= MOST_LOST for found in shares.values()), shares


@asynccontextmanager
async def saying_sweeps(call: CarrierCall) -> AsyncIterator[None]:
    sweeps = np.tile(chirp(8000, SWEEP), round((SETTLED + MINUTES * (SECONDS + 20)) / SWEEP))
    async with asyncio.TaskGroup() as group:
        saying = group.create_task(call.say(sweeps, 8000))
        yield
        saying.cancel()


def share_of(heard: Recording, began: float, ended: float) -> float:
    samples = heard.samples(began, ended)
    assert len(samples) > 0.98 * SECONDS * heard.rate, "not even a minute of it was heard"
    return lost_share(chirp(heard.rate, SWEEP), samples, heard.rate)
