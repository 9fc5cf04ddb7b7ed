"""What a caller hears, in words: a recording as a list of stretches, each of one kind (a tone, hold music, a prompt, silence).

A pure look at samples; the call that they come from is `caller`'s business.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Final

from bridge.media.port import ClipName
from bridge.media.tones import REGIONS, WRONG_PIN, Part
from bridge.testing.clips import LIKE, clip
from bridge.testing.listening import SILENCE_DB, dominant_frequency, find, is_tone, level, tone_share
from bridge.testing.pbx_config import FALLBACK_HZ, HOLD_MUSIC_HZ
from bridge.testing.recording import Recording, Samples

WINDOW: Final = 0.1
"""Seconds that are looked at in one piece; what is shorter than two of them is the edge between two sounds."""

_TONE_LASTS = 4
"""Windows."""

_FIRST_WORDS, _SHORTEST_SPEECH = 1.2, 0.3
"""Seconds."""

_OTHER_TONE = "a tone of "

_RINGBACK = REGIONS["us"][ClipName.RINGBACK]
BUSY_CADENCE: Final = (Part((480, 620), 0.5), Part((), 0.5))
"""A PBX's, in the United States."""

SILENCE, SPEECH, MUSIC, RINGBACK, BUSY, FALLBACK, WRONG = (
    "nothing",
    "speech",
    "music on hold",
    "ringback",
    "busy tone",
    "the fallback's test tone",
    "the wrong-PIN tone",
)

_TONES: Final[Mapping[str, tuple[tuple[float, ...], ...]]] = {
    MUSIC: (HOLD_MUSIC_HZ,),
    RINGBACK: (_RINGBACK[0].frequencies,),
    BUSY: (BUSY_CADENCE[0].frequencies,),
    FALLBACK: ((FALLBACK_HZ,),),
    WRONG: tuple(part.frequencies for part in WRONG_PIN if part.frequencies),
}

_PAUSES: Final = {RINGBACK: _RINGBACK[1].seconds + 2 * WINDOW, BUSY: BUSY_CADENCE[1].seconds + 2 * WINDOW, SPEECH: 1.0, WRONG: 0.2}
"""Silence that belongs to the sound before it."""

_PROMPTS: Final = {
    ClipName.ENTER_PIN: '"Please enter room pin and press hash to confirm."',
    ClipName.ROOM_JOIN: '"You are now entering the room."',
    ClipName.UNAVAILABLE: '"We cannot connect you right now. Please try again later. Goodbye."',
    ClipName.NO_COMPANY: '"Nobody has joined the room. Goodbye."',
    ClipName.WELCOME: '"Welcome to Roomline. This is the announcer speaking. You are now in the room."',
}


@dataclass(frozen=True, slots=True)
class Heard:
    """From `since` to `until`, in seconds from the recording's first sample, `what` was heard."""

    what: str
    since: float
    until: float

    @property
    def seconds(self) -> float:
        return self.until - self.since


def a_tone_of(hertz: float) -> str:
    """What a tone is called that is none of a call's own."""
    return f"{_OTHER_TONE}{round(hertz / 10) * 10} Hz"


def hear(heard: Recording) -> list[Heard]:
    """The whole recording, in order. A prompt of ours is named by its words."""
    samples, rate = heard.samples(), heard.rate
    size = round(WINDOW * rate)
    kinds = [_kind(samples[start : start + size], rate) for start in range(0, len(samples) - size + 1, size)]
    return [
        part
        for stretch in _joined(_settled(kinds))
        for part in (_with_prompts(stretch, samples, rate) if stretch.what == SPEECH else (stretch,))
    ]


def _kind(window: Samples, rate: int) -> str:
    if level(window) <= SILENCE_DB:
        return SILENCE
    for what, choices in _TONES.items():
        if any(is_tone(window, rate, frequencies) for frequencies in choices):
            return what
    hertz = dominant_frequency(window, rate)
    return a_tone_of(hertz) if tone_share(window, rate, [hertz]) > 0.9 else SPEECH


def _settled(kinds: list[str]) -> list[Heard]:
    """Equal windows as one. What is too short to be a sound of its own goes with the one before: it was the edge between two; a tone that
    is none of ours has to last longer, since vowels are nearly tones."""
    runs: list[tuple[str, int]] = []
    for what, windows in groupby(kinds):
        count = len(list(windows))
        kind = SPEECH if what.startswith(_OTHER_TONE) and count < _TONE_LASTS else what
        if runs and (count == 1 or runs[-1][0] == kind):
            runs[-1] = (runs[-1][0], runs[-1][1] + count)
        else:
            runs.append((kind, count))
    edges = [WINDOW * count for count in accumulate((count for _, count in runs), initial=0)]
    return [Heard(what, since, until) for (what, _), (since, until) in zip(runs, pairwise(edges), strict=True)]


def _joined(stretches: list[Heard]) -> Iterator[Heard]:
    """A cadence, or a sentence, with its pauses is one sound."""
    kept: Heard | None = None
    pause: Heard | None = None
    for stretch in stretches:
        if kept is not None and pause is None and stretch.what == SILENCE and stretch.seconds <= _PAUSES.get(kept.what, 0.0):
            pause = stretch
        elif kept is not None and stretch.what == kept.what:
            kept, pause = Heard(kept.what, kept.since, stretch.until), None
        else:
            yield from (one for one in (kept, pause) if one is not None)
            kept, pause = stretch, None
    yield from (one for one in (kept, pause) if one is not None)


def _with_prompts(stretch: Heard, samples: Samples, rate: int) -> Iterator[Heard]:
    """Speech, with those of our prompts named that are in it: by their first words, since keys interrupt them."""
    first = max(0, round((stretch.since - WINDOW) * rate))
    within = samples[first : round((stretch.until + WINDOW) * rate)]
    found = []
    for name, words in _PROMPTS.items():
        whole = clip(name, rate)
        match = find(whole[: round(_FIRST_WORDS * rate)], within, rate)
        if match.likeness >= LIKE:
            since = max(stretch.since, first / rate + match.delay)
            found.append(Heard(words, since, min(stretch.until, since + len(whole) / rate)))
    if not found:
        yield stretch
        return
    at = stretch.since
    found.sort(key=lambda prompt: prompt.since)
    for prompt, later in zip(found, [*found[1:], None], strict=True):
        if prompt.since - at >= _SHORTEST_SPEECH:
            yield Heard(SPEECH, at, prompt.since)
        at = min(prompt.until, later.since) if later else prompt.until
        yield Heard(prompt.what, prompt.since, at)
    if stretch.until - at >= _SHORTEST_SPEECH:
        yield Heard(SPEECH, at, stretch.until)
