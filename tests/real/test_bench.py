"""The benches on real parts run and say what they found; their figures are judged where they are run, not here."""

import json

import pytest

from bridge.testing.get_asterisk import Asterisk
from tests.bench import audiosocket


@pytest.mark.alone
async def test_given_a_few_calls_when_measured_then_the_last_line_has_every_figure(
    asterisk: Asterisk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asterisk.version
    await audiosocket.main(calls=4, seconds=1.0)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["bench"] == "audiosocket"
    assert figures["failed_calls"] == 0
    assert figures["cpu_percent_of_a_core_per_call"] > 0
    assert figures["rhythm"]["beats"] > 25
    assert figures["heard"]["hear_the_other"] == 4
    assert set(figures["targets"].values()) <= {True, False}
