"""How long a caller waits: from the INVITE to ringing, to the answer, to the seat in the room, one call after the other, company present.

    ./run bench setup [--calls 40]

A real Asterisk, a real LiveKit server; a second Asterisk calls. Before and after, the bare SDK joins the same server from a process of its
own, which is what "room joined" is compared with. Every caller says a tone from the first moment on: how much of it the room hears, and how
far behind it is at first and five seconds later, is measured where the other participant hears it. The last line is JSON; DESIGN §14 names
the targets.
"""

import argparse
import asyncio
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bridge.testing.human import RATE, Human
from bridge.testing.listening import chirp, find, likenesses, tone
from bridge.testing.livekit_server import LiveKitServer, get_livekit_server
from bridge.testing.stack import Stack
from tests.bench.parts.call_times import Times, call_times, spread
from tests.bench.report import finish, milliseconds, percentile, say

RINGING_TO_REACH = 0.030  # seconds, p95
ANSWERED_TO_REACH = 0.060  # seconds, p50
JOINED_BEYOND_BARE = 0.050  # seconds, p50
DELAY_TO_REACH = 0.040  # seconds of kept words, five seconds after the answer
NUMBER, ROOM = "+15552001", "company"
CHIRP = 0.2
WHOLE = 0.7
_HZ = 700.0

BARE_JOIN = """
import asyncio, json, os, sys, time
from livekit import api, rtc
url, key, secret, room, name, times = sys.argv[1:]
async def main():
    found = []
    for number in range(int(times)):
        identity = f"{name}-{number}"
        grants = api.VideoGrants(room_join=True, room=room)
        token = api.AccessToken(key, secret).with_identity(identity).with_kind("sip").with_grants(grants).to_jwt()
        session = rtc.Room()
        began = time.monotonic()
        await session.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
        found.append((identity, began, time.monotonic() - began))
        await session.local_participant.publish_track(rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(48_000, 1)))
        await asyncio.sleep(0.5)
        await session.disconnect()
        await asyncio.sleep(0.1)
    print(json.dumps(found[1:]), flush=True)
    os._exit(0)
asyncio.run(main())
"""
"""The SDK alone, as its documentation shows it. The first join, which loads things, does not count."""


@dataclass(slots=True)
class BareJoins:
    """Seconds from the SDK's `connect` to its return, and to the moment that somebody in the room sees the participant, who has begun to
    publish as soon as they could (without a track, nobody is told of them for long): what a caller's join is measured by."""

    returned: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FirstWords:
    """Seconds: how far behind the room heard one caller, for the very first words and for words said 5 and 10 s later; `wholeness` is
    how well the worst 20 ms of the first words came through (1: unchanged, below 0.5: not at all). `unheard` is from the first word to the
    moment that somebody in the room saw the caller's track: so long, at the least, that word had to be kept, by the room's own clock."""

    first: float
    after_5_s: float
    after_10_s: float
    wholeness: float
    unheard: float

    @property
    def won_back(self) -> bool:
        """Of what the first words were kept for, no more than `DELAY_TO_REACH` is left 5 s later. Two measurements that are equally late
        say nothing: what was never won back is as late at the end as at first."""
        rest = max(self.after_5_s - self.after_10_s, self.unheard - (self.first - self.after_5_s))
        return rest <= DELAY_TO_REACH


async def main(calls: int, listened: int) -> None:
    binary = await asyncio.to_thread(get_livekit_server, say)
    with TemporaryDirectory(prefix="roomline-bench-") as folder:
        async with LiveKitServer(binary, Path(folder) / "livekit") as livekit:
            configuration = {
                "rooms": livekit.rooms(),
                "media": {"workers": 1},
                "dispatch_rules": [{"rule": {"dispatch_rule_direct": {"room_name": ROOM}}}],
            }
            async with Stack(configuration, progress=say) as stack, Human(livekit.access, ROOM) as human:
                human.hum(tone(RATE, 1.0, [_HZ]))
                await asyncio.sleep(1.0)
                bare = BareJoins()
                await _measure_bare_joins(livekit, human, "before", bare)
                say(f"{calls} calls, one after the other")
                times = await call_times(stack, human, NUMBER, calls)
                await _measure_bare_joins(livekit, human, "after", bare)
                say(f"listening to the first words of {listened} callers")
                words = [await _first_words(stack, human) for _ in range(listened)]
    _report(calls, bare, times, words)


async def _measure_bare_joins(livekit: LiveKitServer, human: Human, name: str, joins: BareJoins) -> None:
    say("the bare SDK joins 15 times")
    command = [sys.executable, "-c", BARE_JOIN, livekit.url, livekit.key, livekit.secret, ROOM, name, "16"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    for identity, began, took in json.loads(output):
        joins.returned.append(took)
        joins.seen.append(human.happened("joined", identity)[0].at - began)


async def _first_words(stack: Stack, human: Human) -> FirstWords:
    """A caller who speaks from the moment of the answer, in words of 400 ms with pauses of 300; the first, and those after 5 and 10 s, are
    rising tones that can be told apart."""
    call = await stack.carrier.call(NUMBER)
    marks = [chirp(8000, CHIRP, 400.0, 3000.0), chirp(8000, CHIRP, 3000.0, 400.0), chirp(8000, CHIRP, 400.0, 3000.0)]
    word = np.concatenate((tone(8000, 0.4, [_HZ]), np.zeros(2400, np.int16)))
    between = np.concatenate([np.zeros(1600, np.int16), *[word] * 6, np.zeros(1600, np.int16)])
    speech = np.concatenate([part for mark in marks for part in (mark, between)])
    await call.answered()
    began = await call.say(speech, 8000)
    await asyncio.sleep(0.5)
    identity = f"sip_{call.caller}"
    unheard = (await human.until("published", identity)).at - began
    heard = human.heard[identity]
    delays, wholeness = [], []
    for place, mark in enumerate(marks):
        said_at = began + place * (len(mark) + len(between)) / 8000
        window = heard.samples(said_at, said_at + 2.0)
        found = find(np.repeat(mark, 2), window, heard.rate)
        delays.append(max(said_at, heard.started_at or said_at) + found.delay - said_at)
        wholeness.append(min(likenesses(np.repeat(mark, 2), window, heard.rate, found.delay, piece=0.02)))
    await call.hang_up()
    return FirstWords(delays[0], delays[1], delays[2], wholeness[0], unheard)


def _report(calls: int, bare: BareJoins, times: Times, words: list[FirstWords]) -> None:
    figures = times.figures() | {"bare_sdk_connect": spread(bare.returned), "bare_sdk_joined": spread(bare.seen)}
    targets = {
        f"ringing p95 <= {milliseconds(RINGING_TO_REACH)} ms": percentile(times.ringing, 95) <= RINGING_TO_REACH,
        f"answered p50 <= {milliseconds(ANSWERED_TO_REACH)} ms": percentile(times.answered, 50) <= ANSWERED_TO_REACH,
        f"joined p50 <= bare join + {milliseconds(JOINED_BEYOND_BARE)} ms": percentile(times.joined, 50)
        <= percentile(bare.seen, 50) + JOINED_BEYOND_BARE,
        f"first words whole (worst 20 ms >= {WHOLE})": all(each.wholeness >= WHOLE for each in words),
        f"kept delay after 5 s <= {milliseconds(DELAY_TO_REACH)} ms": all(each.won_back for each in words),
    }
    for target, met in targets.items():
        say(f"{'✔' if met else '✘'} {target}")
    finish(
        "setup",
        {
            "calls": calls,
            "milliseconds": figures,
            "first_words": [
                {
                    "behind_ms": milliseconds(each.first),
                    "behind_ms_after_5_s": milliseconds(each.after_5_s),
                    "behind_ms_after_10_s": milliseconds(each.after_10_s),
                    "kept_ms_at_least": milliseconds(each.unheard),
                    "wholeness": round(each.wholeness, 3),
                }
                for each in words
            ],
            "targets": targets,
            "ok": all(targets.values()),
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="./run bench setup", description="From the INVITE to ringing, answer and LiveKit seat.")
    parser.add_argument("--calls", type=int, default=40, help="one after the other (40)")
    parser.add_argument("--listened", type=int, default=4, help="callers whose first words are measured (4)")
    options = parser.parse_args()
    asyncio.run(main(options.calls, options.listened))
