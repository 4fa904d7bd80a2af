"""Samples of a run as a table: bit for bit, and refused once changed."""

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from surgery.errors import DataError
from surgery.evaluation import BASELINE, Evaluation, Metric, Sample, Scores, row_scores
from surgery.runs import (
    METRICS,
    SAMPLES,
    stored_run,
    stored_runs,
)
from tests.helpers.refusals import refusal
from tests.surgery.runs.conftest import PLAN, evaluation, finished, function_scoped


def bits(numbers: Any) -> list[bytes]:
    return [struct.pack("<d", number) for number in np.asarray(numbers).tolist()]


@function_scoped
@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=12),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=3, max_size=3),
)
def test_samples_come_back_bit_for_bit(history, patterns, texts):
    shutil.rmtree(history)
    # among these patterns are NaN with payloads, infinities, subnormals and negative zero
    special = [
        0x7FF8000000000001,
        0xFFF8000000000000,
        0x7FF0000000000000,
        0x8000000000000000,
        1,
        0,
        0x7FF8DEADBEEF0001,
    ]
    columns = np.array(
        [*patterns, *((a, b) for a, b in zip(special, special[::-1], strict=True))], dtype=np.uint64
    )
    losses, exact = columns.view(np.float64).T
    names = [BASELINE, texts[0], f"{texts[0]}\x00"]
    assume(BASELINE not in names[1:])
    scores = {
        name: row_scores(np.roll(losses, shift), np.roll(exact, shift), [texts[1]] * len(losses))
        for shift, name in enumerate(names)
    }
    asked = tuple(Sample(str(i), texts[2], texts[1]) for i in range(len(losses)))
    measures = (Metric("loss", "loss", False, False), Metric("exact", "exact", True, False))
    plan = replace(PLAN, variants={name: name for name in names}, edits={})
    with np.errstate(all="ignore"):
        found = finished(plan, Evaluation(scores, asked, measures, {names[1]: {"acc": 0.5}})).evaluation
    assert list(found.scores) == names
    for name in names:
        for measure in ("loss", "exact"):
            assert bits(found.numbers(name, measure)) == bits(scores[name].values[measure])
        assert found.scores[name].answers == scores[name].answers
    assert found.samples == asked
    assert found.aggregates == {names[1]: {"acc": 0.5}}


def test_samples_are_a_table_that_pandas_reads():
    run = finished(found=evaluation(losses=(0.5, float("nan"), 2.0, 0.25)))
    table = pd.read_parquet(run.folder / SAMPLES)
    assert list(table.columns) == ["variant", "index", "key", "prompt", "reference", "answer", "loss", "exact"]
    assert list(table["variant"]) == [BASELINE] * 4 + ["edit"] * 4
    assert list(table["index"]) == [0, 1, 2, 3] * 2
    assert bits(table["loss"]) == bits([0.5, np.nan, 2.0, 0.25, 0.5, 1.0, 1.5, 0.125])
    assert table.loc[5, ["prompt", "reference", "answer"]].tolist() == ["1 + 1 =\n", "2", ""]
    (run,) = stored_runs()
    means = json.loads((run.folder / METRICS).read_text())["variants"][BASELINE]["means"]
    assert means == {"loss": None, "exact": 0.5}, "what is no number is null in the metrics"
    assert np.isnan(run.metrics.summary.variants[BASELINE].means["loss"])


def test_parts_and_cuts_of_a_group_are_kept_and_told_in_its_records():
    numbers = {"unedited": [1.0, 0.0, 1.0], "edit": [1.0, 1.0, 1.0]}
    scores = {name: Scores({"acc": np.array(own)}, ("a", "b", "c")) for name, own in numbers.items()}
    asked = (Sample("0", "x", "a", "colours"), Sample("1", "y", "b", "colours", 7), Sample("2", "z", "c", "words"))
    measures = (Metric("acc", "acc", True, True, macro=True),)
    plan = replace(PLAN, variants={name: name for name in scores}, edits={})
    run = finished(plan, Evaluation(scores, asked, measures))
    assert run.evaluation.samples == asked
    assert run.evaluation.metrics == measures
    record = json.loads((run.folder / METRICS).read_text())
    assert record["cut"] == 1
    assert record["measures"][0]["macro"]
    assert record["variants"]["unedited"]["means"] == {"acc": 0.75}
    assert run.metrics.summary.cut == 1
    plain = finished().folder
    assert "cut" not in json.loads((plain / METRICS).read_text())


def rewritten(file: Path) -> None:
    table = pd.read_parquet(file)
    table.loc[0, "loss"] = 0.0
    table.to_parquet(file)


def one_number(file: Path) -> None:
    """Another number in a file that is otherwise the same."""
    table = pq.read_table(file)
    losses = table["loss"].to_pylist()
    place = table.column_names.index("loss")
    changed = table.set_column(place, table.schema.field("loss"), [[losses[0] + 1e-9, *losses[1:]]])
    pq.write_table(changed, file)


def exchanged(file: Path) -> None:
    """The samples of another run."""
    other = finished(replace(PLAN, asked="other"), evaluation(losses=(1.0, 1.0, 1.0, 1.0)))
    shutil.copy(other.folder / SAMPLES, file)


@pytest.mark.parametrize(
    "damage",
    [
        rewritten,
        one_number,
        exchanged,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-9]),
        lambda file: file.unlink(),
    ],
    ids=["rewritten", "one number", "exchanged", "emptied", "torn", "deleted"],
)
def test_samples_that_were_changed_are_refused(damage):
    run = finished()
    damage(run.folder / SAMPLES)
    found = stored_run(PLAN.key)
    assert found is not None
    assert "changed" in refusal(DataError, getattr, found, "evaluation")
