"""Answers side by side: the edit's in plain HTML, every variant's for the script, and what stays out is told."""

import base64
import gzip
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.evaluation.compared import compared
from app.report import answers as answers_file
from app.report import report_html
from app.report.answers import answers
from app.report.material import Material
from surgery.evaluation import BASELINE, Evaluation, Sample
from surgery.experiments import EDIT
from tests.app.report.conftest import Keep
from tests.app.report.reading import Read
from tests.helpers.reports import synthetic


def unpacked(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(text)))
    return found


def part_of(evaluation: Evaluation) -> tuple[Read, dict[str, Any]]:
    """The section as it is read without a script, and its data."""
    part = answers(Material(None, evaluation, EDIT))  # type: ignore[arg-type]
    assert part is not None
    return Read(part.html), unpacked(part.data["answers"])


def given(data: dict[str, Any], variant: int, which: str) -> list[str]:
    """The answers of a variant, or those before it, as the script finds them."""
    return [texts[at] for texts, at in zip(data["texts"], data["variants"][variant][which], strict=True)]


def test_a_run_of_512_rows_and_26_variants_is_told_whole_in_less_than_5_mb(
    kept: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery.evaluation.evaluation.RESAMPLES", 50)  # intervals are not what is asked here
    evaluation = synthetic(512, 26, 30)
    html = report_html(kept(evaluation), evaluation)  # whose intervals are known by now
    assert len(html.encode()) < 5_000_000
    (text,) = re.findall(r'id="data-answers">([^<]*)<', html)
    data = unpacked(text)
    assert "not in this file" not in Read(html).text
    assert [each["name"] for each in data["variants"]] == [n for n in evaluation.scores if n != BASELINE]
    for place, each in enumerate(data["variants"]):
        assert given(data, place, "after") == list(evaluation.scores[each["name"]].answers)


def test_the_plain_table_has_the_answers_of_the_edit_that_changed() -> None:
    evaluation = synthetic(40, 5, 6)
    read, data = part_of(evaluation)
    expected = compared(evaluation, EDIT)
    changed = expected[expected["changed"]]
    (head, *rows) = read.tables[0]
    assert head == ["example", "question", "reference", BASELINE, EDIT, ""]
    assert [int(row[0]) - 1 for row in rows] == list(changed.index)
    assert [row[4] for row in rows] == list(changed[EDIT])
    marks = np.where(changed["gained"], "gained", np.where(changed["lost"], "lost", ""))
    assert [row[5] for row in rows] == list(marks)
    assert f"{len(changed)} of 40 answers differ" in read.text
    first = data["variants"][0]
    assert [first["gained"], first["lost"]] == [
        list(np.flatnonzero(expected[kind])) for kind in ("gained", "lost")
    ]
    assert first["change"] == [pytest.approx(value, abs=5e-5) for value in expected["Δ answer loss"]]


def test_what_does_not_fit_goes_in_order_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = synthetic(60, 8, 40)
    changed = int(compared(evaluation, EDIT)["changed"].sum())
    whole = len(answers(Material(None, evaluation, EDIT)).data["answers"])
    for largest, rows in ((whole - 1, 60), (whole // 4, changed), (whole // 16, None), (1, 1)):
        monkeypatch.setattr(answers_file, "_LARGEST", largest)
        read, data = part_of(evaluation)
        assert len(data["variants"]) == 1
        assert rows in (None, len(data["number"]))
        assert "6 other variants are not in this file" in read.text.replace("The answers of ", "")
        out = 60 - len(data["number"])
        assert (f"{out} examples are not in this file" in read.text) is (out > 0)
        assert given(data, 0, "after") == [evaluation.scores[EDIT].answers[n - 1] for n in data["number"]]


def test_texts_too_long_for_any_file_are_cut_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = synthetic(6, 4, 4)
    long = {**evaluation.scores, EDIT: replace(evaluation.scores[EDIT], answers=("x" * 9_000,) * 6)}
    samples = tuple(Sample(s.key, "y" * 9_000, s.reference) for s in evaluation.samples)
    monkeypatch.setattr(answers_file, "_LARGEST", 1)
    read, data = part_of(replace(evaluation, scores=long, samples=samples))
    assert data["question"] == [f"{'y' * 4_000} … 5,000 more signs"]
    assert "Longer texts are cut after 4,000 signs." in read.text


def test_a_plain_table_that_is_too_long_ends_and_says_how_many_more_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluation = synthetic(40, 4, 20)
    changed = int(compared(evaluation, EDIT)["changed"].sum())
    monkeypatch.setattr(answers_file, "_PLAIN", 3_000)
    read, data = part_of(evaluation)
    rows = len(read.tables[0]) - 1
    assert 0 < rows < changed
    assert f"Without JavaScript the last {changed - rows} of them are not shown." in read.text
    assert len(data["number"]) == 40


def test_without_a_changed_answer_the_script_still_has_its_place() -> None:
    evaluation = synthetic(9, 4, 3)
    same = {**evaluation.scores, EDIT: evaluation.scores[BASELINE]}
    read, _ = part_of(replace(evaluation, scores=same))
    assert "0 of 9 answers differ" in read.text
    assert "answers-table" in [attrs.get("id") for _, attrs in read.tags]


def test_the_task_of_each_example_is_told_where_there_are_several() -> None:
    evaluation = synthetic(8, 4, 3)
    samples = tuple(replace(sample, part=f"task {n % 2}") for n, sample in enumerate(evaluation.samples))
    read, data = part_of(replace(evaluation, samples=samples))
    assert read.tables[0][0][:2] == ["example", "task"]
    assert data["task"] == [f"task {n % 2}" for n in range(8)]
