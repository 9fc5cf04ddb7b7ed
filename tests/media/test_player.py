"""What is being played on one call: in order, to the end, stopped within a frame."""

import asyncio

import pytest

from bridge.media.clips import Clips
from bridge.media.frames import Frames
from bridge.media.player import Player
from bridge.media.port import ClipName
from bridge.media.tones import Tones

SOUND: Frames = (b"one", b"two", b"three")


async def started(player: Player, loop: bool = False) -> "asyncio.Task[bool]":
    task = asyncio.create_task(player.play(ClipName.WELCOME, SOUND, loop))
    await asyncio.sleep(0)
    assert player.playing is ClipName.WELCOME
    return task


async def test_given_a_clip_when_all_frames_are_out_then_it_is_over_one_beat_later() -> None:
    player = Player()
    task = await started(player)
    assert [player.next_frame() for _ in SOUND] == list(SOUND)
    await asyncio.sleep(0)
    assert not task.done(), "the last frame takes its 20 ms"
    assert player.next_frame() is None
    assert await task is True
    assert player.playing is None


async def test_given_a_loop_when_it_plays_then_it_begins_anew_until_stopped() -> None:
    player = Player()
    task = await started(player, loop=True)
    assert [player.next_frame() for _ in range(7)] == [*SOUND, *SOUND, b"one"]
    player.stop()
    assert await task is False
    assert player.playing is None


async def test_given_a_clip_when_another_comes_then_the_first_was_stopped() -> None:
    player = Player()
    first = await started(player)
    assert player.next_frame() == b"one"
    second = await started(player)
    assert await first is False
    assert player.next_frame() == b"one", "from its beginning"
    player.stop()
    assert await second is False


async def test_given_a_clip_when_who_plays_it_is_cancelled_then_it_stops() -> None:
    player = Player()
    task = await started(player)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert player.playing is None


async def test_given_a_cancelled_clip_when_another_has_begun_then_that_one_goes_on() -> None:
    player = Player()
    first = await started(player)
    first.cancel()
    second = asyncio.create_task(player.play(ClipName.DIAL_TONE, SOUND, True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert player.playing is ClipName.DIAL_TONE
    player.stop()
    assert await second is False


async def test_given_an_empty_clip_when_played_even_in_a_loop_then_it_is_over_at_once() -> None:
    player = Player()
    task = asyncio.create_task(player.play(ClipName.WELCOME, (), True))
    await asyncio.sleep(0)
    assert player.next_frame() is None
    assert await task is True


class Recorded:
    """Speech with one recording of the operator's."""

    def frames(self, name: ClipName, rate: int) -> Frames:
        return (f"speech {name} {rate}".encode(),)

    def override(self, name: ClipName, rate: int) -> Frames | None:
        return (b"the operator's",) if name is ClipName.DIAL_TONE else None


def test_given_recordings_and_tones_when_a_clip_is_asked_for_then_the_operators_come_first() -> None:
    clips = Clips(Recorded(), tones := Tones())
    assert clips.frames(ClipName.DIAL_TONE, 8_000) == (b"the operator's",)
    assert clips.frames(ClipName.RINGBACK, 8_000) == tones.frames(ClipName.RINGBACK, 8_000)
    assert clips.frames(ClipName.ENTER_PIN, 16_000) == (b"speech enter_pin 16000",)
