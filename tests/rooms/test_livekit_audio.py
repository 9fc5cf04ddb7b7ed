"""What waits between the SDK and the beat, and the SDK's public way when the SDK raises or hangs."""

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from livekit import rtc

from bridge.rooms import livekit_audio
from bridge.rooms.livekit_audio import MOST_WAITING, PATIENCE, PublicListener, PublicSpeaker, TrackFrames
from tests.media.test_remote import eventually


def frame(number: int) -> bytes:
    return number.to_bytes(2, "little") * 160


def test_given_a_frame_before_each_beat_then_each_is_heard_at_once() -> None:
    frames = TrackFrames()
    assert frames.take() is None
    for number in range(100):
        frames.put(frame(number))
        assert frames.take() == frame(number)


def test_given_a_frame_that_was_missing_once_then_one_is_held_back_from_then_on() -> None:
    frames = TrackFrames()
    frames.put(frame(0))
    assert frames.take() == frame(0)
    assert frames.take() is None
    frames.put(frame(1))
    assert frames.take() is None
    frames.put(frame(2))
    assert frames.take() == frame(1)
    # From here on a beat may come before its frame.
    assert frames.take() == frame(2)
    frames.put(frame(3))
    frames.put(frame(4))
    assert frames.take() == frame(3)


def test_given_a_stall_then_the_oldest_are_dropped_and_the_delay_is_won_back() -> None:
    frames = TrackFrames()
    for number in range(50):
        frames.put(frame(number))
    heard = [frames.take()]
    assert heard == [frame(50 - MOST_WAITING)]
    for number in range(50, 50 + MOST_WAITING * (PATIENCE + 2)):
        frames.put(frame(number))
        heard.append(frames.take())
    assert heard[-1] == frame(number)
    assert None not in heard


def test_given_a_track_that_stops_without_a_word_then_silence() -> None:
    frames = TrackFrames()
    frames.put(frame(1))
    frames.take()
    assert [frames.take() for _ in range(1000)] == [None] * 1000


def test_given_frames_that_nobody_wanted_in_their_time_then_they_are_not_heard_late() -> None:
    frames = TrackFrames()
    for number in range(4):
        frames.put(bytes([number]) * 2)
    assert frames.take() == bytes([0, 0])
    frames.forget()
    assert frames.take() is None
    frames.put(b"now")
    assert b"now" in (frames.take(), frames.take())


def test_given_digital_silence_then_a_track_counts_as_quiet_and_with_anything_else_as_heard() -> None:
    frames = TrackFrames()
    frames.put(bytes(320))
    assert frames.sounded_at == 0.0
    before = time.monotonic()
    frames.put(bytes(319) + b"\x01")
    assert frames.sounded_at >= before
    heard_at = frames.sounded_at
    frames.put(bytes(320))
    assert frames.sounded_at == heard_at


class Sdk:
    """In the place of `livekit.rtc`: an audio source and audio streams that do as they are told."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.trouble: list[str] = []
        """What becomes of the next frames that are handed in: "raises", "hangs"; those after them are taken."""
        self.streams: list[list[bytes]] = []
        """What each stream that is opened gives before it breaks; the last one just ends."""
        self.closed = 0
        self.ended = False

    def AudioSource(self, *_given: Any, **_named: Any) -> "Sdk":
        return self

    def AudioFrame(self, data: bytes, *_given: int) -> bytes:
        return data

    LocalAudioTrack = SimpleNamespace(create_audio_track=lambda _name, source: source)

    async def capture_frame(self, frame: bytes) -> None:
        trouble = self.trouble.pop(0) if self.trouble else ""
        if trouble == "raises":
            raise Exception("an error was returned")
        if trouble == "hangs":
            await asyncio.Event().wait()
        self.taken.append(frame)

    async def aclose(self) -> None:
        self.closed += 1

    def AudioStream(self, *_given: Any, **_named: Any) -> Any:
        return Stream(self, self.streams.pop(0), ends=not self.streams)


class Stream:
    """One stream of a track."""

    def __init__(self, sdk: Sdk, gives: list[bytes], *, ends: bool) -> None:
        self._sdk, self._gives, self._ends = sdk, gives, ends

    async def __aiter__(self) -> AsyncIterator[Any]:
        for frame in self._gives:
            yield SimpleNamespace(frame=SimpleNamespace(data=frame))
        if not self._ends:
            raise RuntimeError("the stream broke")
        self._sdk.ended = True

    async def aclose(self) -> None:
        self._sdk.closed += 1


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Sdk:
    sdk = Sdk()
    monkeypatch.setattr(livekit_audio, "rtc", sdk)
    monkeypatch.setattr(livekit_audio, "SDK_LIMIT", 0.05)
    monkeypatch.setattr(livekit_audio, "LISTEN_AGAIN", 0.01)
    return sdk


@pytest.mark.parametrize(("trouble", "why"), [("raises", "an error was returned"), ("hangs", "TimeoutError")])
async def test_given_a_frame_that_the_sdk_does_not_take_then_those_after_it_are_heard(sdk: Sdk, trouble: str, why: str) -> None:
    sdk.trouble = [trouble, "", trouble]
    speaker = PublicSpeaker("caller", 8000)
    with structlog.testing.capture_logs() as logs:
        for number in range(5):
            speaker.send(frame(number))
        await eventually(lambda: len(sdk.taken) == 3, within=20)
    await speaker.close()
    assert sdk.taken == [frame(1), frame(3), frame(4)]
    assert [(line["event"], line["why"]) for line in logs] == [("the SDK did not take a frame", why)]


async def test_given_a_stream_that_breaks_then_the_track_is_heard_by_another_one_and_it_is_said(sdk: Sdk) -> None:
    sdk.streams = [[frame(0)], [], [frame(1)]]
    frames = TrackFrames()
    with structlog.testing.capture_logs() as logs:
        listener = PublicListener(cast(rtc.Track, object()), 8000, frames)
        await eventually(lambda: sdk.ended, within=20)
        heard = [frames.take(), frames.take()]
    await listener.close()
    assert heard == [frame(0), frame(1)]
    assert sdk.closed == 3
    assert [(line["event"], line["why"]) for line in logs] == [("a participant is not heard for a moment", "the stream broke")] * 2
