"""What waits between the SDK and the beat."""

from bridge.rooms.livekit_audio import MOST_WAITING, PATIENCE, TrackFrames


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
