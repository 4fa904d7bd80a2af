"""The ledger on a terminal: rates with what stands behind them, and an empty denominator told as such."""

import numpy as np

from surgery.cli import evaluation_text
from surgery.evaluation import AGAIN, BASE, BASELINE, EXACT, Evaluation, Sample, Scores, summarise


def told(base: list[int]) -> list[str]:
    right = {
        BASELINE: [1, 1, 0, 0],
        "edit": [1, 0, 1, 0],
        "random 0": [0, 0, 0, 0],
        AGAIN: [1, 1, 0, 0],
        BASE: base,
    }
    scores = {
        name: Scores({EXACT.name: np.array(row, dtype=float)}, ("a", "b", "c", "d")) for name, row in right.items()
    }
    samples = tuple(Sample(str(n), f"q{n}", "a") for n in range(4))
    return evaluation_text(summarise(Evaluation(scores, samples, (EXACT,)))).splitlines()


def test_the_ledger_of_an_edit_is_told_with_its_counts_and_intervals_and_none_of_its_controls():
    lines = told([1, 1, 1, 0])
    first = next(n for n, line in enumerate(lines) if line.startswith("ledger of exact match"))
    assert [line.split()[0] for line in lines[first + 1 : first + 8]] == [
        "unedited", "edit", "Recovery", "Retention", "New", "New", "111",
    ]  # fmt: skip
    assert "against the base -25.0 points" in lines[first + 1]
    assert "forgetting gap 25.0" in lines[first + 2]
    assert "100.0% [20.7%, 100.0%], 1 of 1" in lines[first + 3]
    assert lines[first + 4].endswith("NA: training taught no answer that the base had wrong")
    assert "25.0% [4.6%, 69.9%], 1 of 4" in lines[first + 6]
    assert "110 new damage by the edit: 1" in lines[first + 7]
    assert not any("random 0" in line or AGAIN in line for line in lines[first:-1])


def test_a_base_that_has_nothing_right_has_no_recovery():
    assert any(line.split() and "NA: training broke no answer" in line for line in told([0, 0, 0, 0]))
