"""Metrics of earlier versions."""

import json
from pathlib import Path

import numpy as np

from surgery.evaluation import AGAIN, BASELINE, CorrectedTest, Evaluation, Sample, row_scores, summarise
from surgery.files import without_nan
from surgery.runs import (
    AnswerTime,
    RunMetrics,
    metrics_record,
    parse_metrics,
)


def test_metrics_that_an_earlier_version_wrote_are_read_and_written_as_they_were():
    """The file is that version's record of the evaluation below: without, with and after random controls."""
    text = (Path(__file__).parent / "metrics_before.json").read_text().rstrip()
    found = parse_metrics(json.loads(text))
    assert json.dumps(without_nan(metrics_record(found)), indent=1) == text
    exact = [[0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    loss = [[0.5, 1.25, 2, 0.25], [0.5, 1, 1.5, 0.125], [0.5, 1.5, 2, 0.5], [0.75, 1.25, 2, 0.25]]
    names = (BASELINE, "edit", "random 0", "random 1", AGAIN)
    scores = {
        name: row_scores(np.array(numbers), np.array(right, dtype=float), [""] * 4)
        for name, numbers, right in zip(names, [*loss, loss[0]], exact, strict=True)
    }
    samples = tuple(Sample(str(n), "", "") for n in range(4))
    aggregates = {"edit": {"acc": 0.5}, BASELINE: {"acc": float("nan")}}
    summary = summarise(Evaluation(scores, samples, notes=("a note",), aggregates=aggregates))
    again = RunMetrics("ab" * 32, summary, AnswerTime(1.5, 20))
    assert json.dumps(without_nan(metrics_record(again)), indent=1) == text
    assert found.summary.variants["edit"].tests["exact"] == CorrectedTest(2, 0, 0.5, 1.0)
    assert found.summary.variants["random 0"].ranks == {}
    assert found.summary.random["loss"] == summary.random["loss"]
