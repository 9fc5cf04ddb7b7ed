"""The bench runs, measures every kind of call, and its sets hold no contradiction. No time limits here."""

import json

import pytest

from bridge.dispatch.conflicts import problems
from tests.bench import dispatch
from tests.bench.dispatch_calls import MIX, calls, directory
from tests.bench.report import finish, percentile

TRUNKS = 400


def test_given_a_small_set_when_the_bench_runs_then_each_size_is_measured_and_the_plain_matcher_is_slower(
    capsys: pytest.CaptureFixture[str],
) -> None:
    finish("dispatch", dispatch.run([10], TRUNKS, 400, 2, [300]))
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    (size,) = figures["sizes"]
    assert figures["met"] is None
    assert (size["rules"], size["trunks"], size["decisions"]) == (10, TRUNKS, 400)
    assert sum(size["outcomes"].values()) == 200
    assert size["plain_over_index_p50"] > 1
    assert figures["machine"]["cores"] >= 1
    (changes,) = figures["changes"]
    assert changes["rules"] == 300
    assert changes["put"]["p50"] > 0


def test_given_the_bench_s_set_when_checked_then_nothing_contradicts_and_every_kind_of_call_comes() -> None:
    assert problems(directory(2000, TRUNKS)) == ()
    assert len({call.kind for call in calls(2000, 2000)}) == len(MIX)


def test_given_values_when_a_percentile_is_taken_then_it_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, percent) for percent in (1, 50, 99, 99.9, 100)] == [1, 50, 99, 100, 100]
    assert percentile([7.0], 99) == 7
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)
