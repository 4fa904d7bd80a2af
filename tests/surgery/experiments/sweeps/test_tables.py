"""Tables of a sweep."""

import numpy as np
import pytest

from surgery.errors import SweepError
from surgery.evaluation import BASELINE
from surgery.experiments.sweeps import (
    results,
    table,
    write_tables,
)
from tests.helpers.limited_system import files_of_at_most
from tests.helpers.refusals import refusal
from tests.surgery.experiments.sweeps.conftest import ROOT, numbers, swept_from


def test_tables_hold_the_means_of_their_cells_in_the_columns_of_the_paper(place, tmp_path):
    edits = [
        {"policies": ["grad_direction", "abs_select"], "scopes": ["residual", "all"], "budgets": [4, 10]},
        {"policies": [{"policy": "random_index", "knobs": {"seed": [0, 1]}}], "budgets": [4, 10]},
        {"policies": ["grad_direction"], "energies": ["none"], "budgets": [10]},
    ]
    swept = swept_from(place, edits=edits)
    found = results(swept)
    found_numbers = numbers(swept)

    def mean(name):
        return found_numbers["tiny", "sums", name][0].mean()

    [second] = table(2, found, "loss").rows
    assert second["grad_direction"] == pytest.approx(mean("grad_direction, residual, l1, 10 examples"))
    draws = [mean("random_index, residual, l1"), mean("random_index seed 1, residual, l1")]
    assert second["random_index"] == pytest.approx(np.mean(draws))
    assert second["smooth_abs"] is None, "the sweep did not ask for it"
    assert second["baseline"] == pytest.approx(mean(BASELINE))
    [third] = table(3, found, "loss").rows
    assert third["none"] == pytest.approx(mean("grad_direction, residual, none, 10 examples"))
    fifth = table(5, found, "loss").rows[0]
    assert fifth["all_modules"] == pytest.approx(mean("grad_direction, all, l1, 10 examples"))
    written = write_tables(found, tmp_path / "tables")
    headers = {file.name: file.read_text().splitlines()[0] for file in written}
    paper = ROOT / "assets" / "paper"
    assert headers == {name: (paper / name).read_text().splitlines()[0] for name in headers}
    assert "table2.csv" in headers
    before = {file: file.read_bytes() for file in written}
    with files_of_at_most(20):
        refusal(SweepError, write_tables, found, tmp_path / "tables")
    assert {file: file.read_bytes() for file in (tmp_path / "tables").rglob("*") if file.is_file()} == before
