"""What `./run bench setup` takes for a delay that was won back."""

import pytest

from tests.bench.setup import FirstWords

PATH, KEPT = 0.09, 0.25


@pytest.mark.parametrize(
    ("after_5_s", "after_10_s", "won_back"),
    [(0.0, 0.0, True), (0.03, 0.0, True), (KEPT, KEPT, False), (0.1, 0.1, False), (0.1, 0.0, False), (KEPT, 0.0, False)],
    ids=["at once", "but for a rest", "never", "never quite", "late", "much too late"],
)
def test_given_kept_words_then_only_a_delay_that_goes_within_five_seconds_counts(
    after_5_s: float, after_10_s: float, won_back: bool
) -> None:
    assert FirstWords(PATH + KEPT, PATH + after_5_s, PATH + after_10_s, 0.9, KEPT).won_back is won_back
