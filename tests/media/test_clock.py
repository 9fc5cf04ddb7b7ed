"""The beat against a time of the test's own."""

import heapq
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.clock import MADE_UP_FOR, SHORTEST_STEP, Beat
from bridge.media.figures import Figures


class FakeTime:
    """Time that passes only while the test says so; callbacks may take some of it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due: list[tuple[float, int, FakeTimer]] = []
        self._count = 0

    def call_later(self, delay: float, callback: Callable[[], None], /) -> "FakeTimer":
        self._count += 1
        timer = FakeTimer(callback)
        heapq.heappush(self._due, (self.now + delay, self._count, timer))
        return timer

    def pass_until(self, end: float) -> None:
        while self._due and self._due[0][0] <= end:
            when, _, timer = heapq.heappop(self._due)
            self.now = max(self.now, when)
            if not timer.cancelled:
                timer.callback()
        self.now = max(self.now, end)

    @property
    def pending(self) -> int:
        return sum(not timer.cancelled for _, _, timer in self._due)


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Band:
    """A beat, when it came, and stalls that happen inside of it."""

    def __init__(self, stalls: dict[int, float] | None = None) -> None:
        self.time = FakeTime()
        self.figures = Figures()
        self.came: list[float] = []
        self._stalls = stalls or {}
        self.beat = Beat(self._tick, self.time, self.figures, lambda: self.time.now)

    def _tick(self) -> None:
        self.came.append(self.time.now - 1000.0)
        self.time.now += self._stalls.get(len(self.came), 0.0)

    def play(self, seconds: float) -> None:
        self.beat.start()
        self.time.pass_until(1000.0 + seconds)


def test_given_a_quiet_machine_when_a_minute_passes_then_every_beat_is_in_its_place() -> None:
    band = Band()
    band.play(60.001)
    assert len(band.came) == 3000
    assert band.came == pytest.approx([0.02 * number for number in range(1, 3001)])
    assert band.figures.beats == 3000
    assert band.figures.beats_skipped == 0


def test_given_a_short_stall_when_it_is_over_then_it_is_made_up_for_at_no_more_than_twice_the_pace() -> None:
    band = Band(stalls={5: 0.050})
    band.play(0.4005)
    assert len(band.came) == 20, "none left out"
    assert band.figures.beats_skipped == 0
    steps = [after - before for before, after in zip(band.came, band.came[1:], strict=False)]
    assert min(steps) >= SHORTEST_STEP - 1e-9
    assert band.came[-5:] == pytest.approx([0.32, 0.34, 0.36, 0.38, 0.40]), "and the old places are kept"


def test_given_a_long_stall_when_it_is_over_then_one_beat_comes_and_the_others_are_left_out_and_counted() -> None:
    band = Band(stalls={5: 0.500})
    band.play(0.7005)
    during = [came for came in band.came if 0.1 < came < 0.625]
    assert during == pytest.approx([0.600, 0.620])
    assert len(band.came) + band.figures.beats_skipped == 35
    assert band.came[-4:] == pytest.approx([0.64, 0.66, 0.68, 0.70])


@given(stalls=st.dictionaries(st.integers(1, 60), st.floats(0.0, 0.7), max_size=6))
def test_given_any_stalls_when_played_then_never_a_burst_and_every_beat_is_played_or_counted(stalls: dict[int, float]) -> None:
    band = Band(stalls)
    band.play(8.0)
    steps = [after - before for before, after in zip(band.came, band.came[1:], strict=False)]
    assert min(steps) >= SHORTEST_STEP - 1e-9
    assert abs(len(band.came) + band.figures.beats_skipped - 400) <= 1
    assert sum(stalls.values()) >= band.figures.beats_skipped * 0.02 - 1e-9
    assert band.came[-1] % 0.02 == pytest.approx(0.0, abs=1e-6) or band.came[-1] % 0.02 == pytest.approx(0.02, abs=1e-6)


def test_given_lateness_that_can_be_made_up_for_when_it_reaches_the_limit_then_beats_are_left_out() -> None:
    kept, left_out = Band(stalls={5: MADE_UP_FOR + 0.019}), Band(stalls={5: MADE_UP_FOR + 0.021})
    kept.play(1.0)
    left_out.play(1.0)
    assert kept.figures.beats_skipped == 0
    assert left_out.figures.beats_skipped == 3


def test_given_a_loop_that_wakes_too_early_when_a_beat_comes_then_it_waits_for_its_place() -> None:
    band = Band()

    class Early(FakeTime):
        def call_later(self, delay: float, callback: Callable[[], None], /) -> FakeTimer:
            return super().call_later(delay - 0.005 if delay > 0.006 else delay, callback)

    band.time = Early()
    band.beat = Beat(band._tick, band.time, band.figures, lambda: band.time.now)
    band.play(0.1005)
    assert band.came == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.10])


def test_given_a_fault_on_a_beat_when_it_is_over_then_the_next_one_comes_all_the_same() -> None:
    band = Band()
    band.beat = Beat(lambda: band._tick() or 1 / 0, band.time, band.figures, lambda: band.time.now)  # type: ignore[func-returns-value, arg-type]
    band.play(0.1005)
    assert len(band.came) == 5
    assert band.figures.faults == 5


def test_given_a_beat_that_is_stopped_when_time_passes_then_nothing_comes_and_no_timer_is_left() -> None:
    band = Band()
    band.beat.start()
    band.beat.start()
    assert band.time.pending == 1
    band.play(0.05)
    band.beat.stop()
    band.beat.stop()
    assert band.time.pending == 0
    band.time.pass_until(1001.0)
    assert len(band.came) == 2


def test_given_late_beats_when_the_figures_are_read_then_the_histogram_has_them() -> None:
    band = Band(stalls={5: 0.050})
    band.play(0.4005)
    lateness = next(family for family in band.figures.collect() if family.name.endswith("beat_lateness_seconds"))
    counts = {sample.labels["le"]: sample.value for sample in lateness.samples if sample.name.endswith("_bucket")}
    assert counts["+Inf"] == 20
    assert counts["0.001"] < 20
    assert counts["0.05"] == 20
