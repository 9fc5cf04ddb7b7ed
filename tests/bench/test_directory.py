"""The bench runs and says what it found; its figures are judged where it is run, not here."""

import json

import pytest

from tests.bench import directory


async def test_given_a_few_questions_when_measured_then_the_last_line_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    await directory.main(trunks=20, questions=30)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["bench"], figures["trunks"], figures["questions"]) == ("directory", 20, 30)
    assert 0 < figures["answer_ms"]["p50"] <= figures["over_http_ms"]["worst"]
    assert set(figures["targets"].values()) <= {True, False}
