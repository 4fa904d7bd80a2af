"""Evidence as Markdown and CSV."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from surgery.edits import EditPlan
from surgery.errors import SweepError
from surgery.evaluation import EXACT, LOSS, Effect, PairedDifferences, over_adapters
from surgery.experiments.sweeps import (
    Evidence,
    MethodEvidence,
    OnAdapter,
    Refused,
    SweptEdit,
    evidence_markdown,
    evidence_record,
    number_text,
    write_evidence,
)
from tests.helpers.limited_system import files_of_at_most
from tests.helpers.refusals import refusal


def found(metric=EXACT, names=("run/a|b", "run/c", "run/d")):
    rows = [np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0, 0.0]), np.zeros(4)]
    members = {
        name: OnAdapter(name, "sums", "ab" * 12, 4, 0.5, Effect(row.mean(), 0.1, -0.125, 0.75), p, verdict)
        for name, row, p, verdict in zip(
            names, rows, (0.01, 0.3, float("nan")), ("win", "tie", "tie"), strict=True
        )
    }
    over = over_adapters([PairedDifferences(row) for row in rows])
    return Evidence(
        "sums", metric, names, (MethodEvidence("recipe x", SweptEdit(EditPlan(), 4, 0), members, over),)
    )


def test_markdown_holds_every_adapter_the_counts_and_how_sure_the_mean_is():
    each = found()
    text = evidence_markdown([each], [Refused("run/torn", "the file is torn")])
    lines = text.splitlines()
    assert lines[0] == "### sums: exact match"
    assert lines[2] == "| adapter | recipe x |"
    assert "| run/a\\|b | +50.00 [-12.50, +75.00], p 0.010, win |" in lines
    assert "| run/d | +0.00 [-12.50, +75.00], p unknown, tie |" in lines
    assert "| **wins / ties / losses** | **1 / 2 / 0** |" in lines
    over = each.methods[0].over
    low, high = (f"{100 * end:+.2f}" for end in (over.effect.low, over.effect.high))
    assert f"| **mean over adapters [bootstrap]** | **+8.33 [{low}, {high}]** |" in lines
    assert "| **sign test** | **1 up, 1 down, p 1.000** |" in lines
    assert "3 adapters are too few for a bootstrap" in text
    assert "up to 0.15 of 3 adapters would show a win or a loss" in text
    assert "- run/torn: the file is torn" in lines
    # a table is one only where every line has as many cells
    assert {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")} == {3}


def test_gains_by_hand_are_told_to_act_by_number():
    each = found()
    by_hand = replace(each.methods[0], edit=SweptEdit(EditPlan(manual={"q_proj": {0: 0.0}}), 4, 0))
    assert "by their number" not in evidence_markdown([each])
    assert "by their number" in evidence_markdown([replace(each, methods=(by_hand,))])


def test_losses_are_told_in_their_own_unit_and_an_adapter_without_an_answer_has_none():
    each = found(LOSS)
    [method] = each.methods
    part = dict(list(method.adapters.items())[:1])
    fewer = replace(each, methods=(method, replace(method, method="recipe y", adapters=part)))
    text = evidence_markdown([fewer])
    assert "| run/c | -0.2500 [-0.1250, +0.7500], p 0.300, tie | — |" in text.splitlines()
    assert "means over different adapters do not compare" in text
    assert "lower is better" in text
    assert number_text(LOSS, float("nan")) == "—"


def test_csv_reads_back_as_the_numbers_in_the_unit_it_names(tmp_path):
    written = write_evidence([found()], [], tmp_path / "t")
    assert [file.name for file in written] == ["evidence.md", "evidence.csv", "evidence-over-adapters.csv"]
    rows = list(csv.DictReader(written[1].open()))
    assert [row["adapter"] for row in rows] == ["run/a|b", "run/c", "run/d"]
    assert [float(row["change"]) for row in rows] == [50, -25, 0]
    assert [row["p_holm"] for row in rows] == ["0.01", "0.3", ""]
    [over] = csv.DictReader(written[2].open())
    assert (over["wins"], over["ties"], over["losses"], over["unit"]) == ("1", "2", "0", "points")
    assert float(over["mean"]) == pytest.approx(25 / 3)
    told = evidence_record([found()])["over_adapters"][0]
    assert told["t_low"] == pytest.approx(float(over["t_low"]))
    before = {file: file.read_bytes() for file in written}
    with files_of_at_most(20):
        refusal(SweepError, write_evidence, [found()], [], tmp_path / "t")
    assert {file: file.read_bytes() for file in written} == before
