"""What the real LiveKit tests share: the operator's numbers, and waiting for what a caller hears, told in words when it does not come."""

import asyncio
import time
from typing import Any

import numpy as np

from bridge.media.port import ClipName
from bridge.testing.carrier import CarrierCall
from bridge.testing.clips import LIKE, clip
from bridge.testing.hearing import hear
from bridge.testing.listening import SILENCE_DB, find, level
from bridge.testing.livekit_server import LiveKitServer
from bridge.testing.recording import Recording
from tests.real.scenario import PIN, direct, until_heard

OPEN, WITH_PIN, IMPATIENT, FULL, SHORT, HIDDEN, TRUNKLESS, ALL_HEADERS, OWN_ROOM, CALLEES_ROOM = (
    f"+1555100{number:02}" for number in range(1, 11)
)
COMPANY, EMPTY, PIN_FIRST, PIN_EMPTY = (f"+1555200{number}" for number in range(1, 5))
TRUNK_NAME = "the carrier"
METADATA = '{"team": "support"}'


def configuration(livekit: LiveKitServer, **media: Any) -> dict[str, Any]:
    return {
        "rooms": livekit.rooms() | {"lost_limit": 12},
        "media": {"workers": 1, "orphan_limit": 10} | media,
        "trunks": [
            {
                "sip_trunk_id": "ST_carrier",
                "name": TRUNK_NAME,
                "numbers": [OPEN, WITH_PIN, FULL, HIDDEN, OWN_ROOM, CALLEES_ROOM],
                "include_headers": "SIP_X_HEADERS",
                "headers_to_attributes": {"X-Customer": "customer"},
            },
            {"sip_trunk_id": "ST_impatient", "numbers": [IMPATIENT], "ringing_timeout": "2s"},
            {"sip_trunk_id": "ST_short", "numbers": [SHORT], "max_call_duration": "4s"},
            {"sip_trunk_id": "ST_all", "numbers": [ALL_HEADERS], "include_headers": "SIP_ALL_HEADERS"},
        ],
        "dispatch_rules": [
            direct(OPEN, "open") | {"sip_dispatch_rule_id": "SDR_open", "metadata": METADATA, "attributes": {"team": "support"}},
            direct(WITH_PIN, "behind-a-pin", PIN) | {"sip_dispatch_rule_id": "SDR_pin"},
            direct(IMPATIENT, "nobody"),
            direct(FULL, "full"),
            direct(SHORT, "short"),
            direct(HIDDEN, "hidden") | {"sip_dispatch_rule_id": "SDR_hidden", "hide_phone_number": True},
            direct(TRUNKLESS, "trunkless") | {"sip_dispatch_rule_id": "SDR_trunkless"},
            direct(ALL_HEADERS, "all-headers") | {"sip_dispatch_rule_id": "SDR_all"},
            {
                "sip_dispatch_rule_id": "SDR_own",
                "numbers": [OWN_ROOM],
                "hide_phone_number": True,
                "rule": {"dispatch_rule_individual": {"room_prefix": "own", "no_randomness": True}},
            },
            {"sip_dispatch_rule_id": "SDR_callee", "numbers": [CALLEES_ROOM], "rule": {"dispatch_rule_callee": {"room_prefix": "desk"}}},
        ],
    }


def death_configuration(livekit: LiveKitServer, lost_limit: float) -> dict[str, Any]:
    """A number for each state of a call; two nodes, so that one is left. `orphan_limit` as an operator has it who sets none: a start of the
    server may take 10 s on a busy machine."""
    return {
        "rooms": livekit.rooms() | {"lost_limit": lost_limit},
        "media": {"workers": 2},
        "dispatch_rules": [
            direct(COMPANY, "company"),
            direct(EMPTY, "nobody"),
            direct(PIN_FIRST, "first", PIN),
            direct(PIN_EMPTY, "nobody-behind-a-pin", PIN),
        ],
    }


def identity_of(call: CarrierCall) -> str:
    return f"sip_{call.caller}"


def in_words(call: CarrierCall, since: float) -> str:
    """What the caller has heard from that moment (`time.monotonic`) on, in seconds after it."""
    if call.heard.started_at is None:
        return "nothing was heard at all"
    offset = call.heard.position(since) / call.heard.rate
    parts = [f"{part.what} {part.since - offset:.1f} to {part.until - offset:.1f} s" for part in hear(call.heard) if part.until > offset]
    return f"heard was: {', '.join(parts)}; the call's end: {call.ending}"


async def hears(call: CarrierCall, frequencies: tuple[float, ...], since: float, within: float) -> float:
    """`until_heard`, which raises AssertionError with all that was heard instead."""
    try:
        return await until_heard(call, frequencies, since, within)
    except AssertionError as error:
        raise AssertionError(f"{error}; {in_words(call, since)}") from None


async def hears_clip(call: CarrierCall, name: ClipName, since: float, within: float) -> float:
    """The moment at which this prompt began, once most of it was heard, `within` seconds after `since`. Raises AssertionError as `hears`.

    Word by word: a machine that carries everything at once leaves some out, and what comes after them comes earlier.
    """
    while (moment := await asyncio.to_thread(clip_began, call.heard, name, since)) is None:
        assert time.monotonic() - since < within, f"{name} was not heard within {within:.1f} s; {in_words(call, since)}"
        await asyncio.sleep(0.2)
    return moment


def clip_began(heard: Recording, name: ClipName, since: float) -> float | None:
    """When two thirds of the prompt's stretches of 300 ms have been heard, one after the other."""
    whole, samples, size = clip(name, heard.rate), heard.samples(since), round(0.3 * heard.rate)
    starts = [at for at in range(0, len(whole) - size + 1, size) if level(whole[at : at + size]) > SILENCE_DB]
    places: list[int] = []
    first = 0
    for at in starts:
        match = find(whole[at : at + size], samples, heard.rate)
        place = round(match.delay * heard.rate)
        if match.likeness >= LIKE and (not places or place > places[-1]):
            first = first if places else place - at
            places.append(place)
    return heard.moment(heard.position(since) + max(0, first)) if len(places) >= 2 / 3 * len(starts) else None


async def gets_keys(call: CarrierCall, keys: str, within: float = 10.0) -> None:
    """The phone gets these and no others. Raises AssertionError."""
    deadline = time.monotonic() + within
    while len(call.keys_heard) < len(keys) and time.monotonic() < deadline:  # noqa: ASYNC110  (a test's wait)
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    assert call.keys_heard == keys


def seconds_of_comfort(heard: Recording, since: float, until: float) -> float:
    """For how long, windows of 100 ms added up, there was neither sound nor the digital silence of a line that nobody feeds, but the faint
    noise of `bridge.media.tones`."""
    samples, size = heard.samples(since, until), heard.rate // 10
    windows = [samples[at : at + size] for at in range(0, len(samples) - size + 1, size)]
    return 0.1 * sum(-90.0 < level(window) < -65.0 and np.count_nonzero(window) > size / 20 for window in windows)
