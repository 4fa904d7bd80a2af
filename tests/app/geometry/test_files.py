"""The map as files."""

import csv
import io

import numpy as np
import pytest

from app.geometry.choice import VIEWS, Choice
from app.geometry.files import figure_of, table_of
from tests.app.geometry.conftest import OTHER, RANK, SPECTRA, measured, numbers, shown


@pytest.mark.parametrize("view", VIEWS)
def test_the_csv_holds_every_pair_in_full_precision(view: str) -> None:
    made, _ = shown(Choice(view=view, k=2))
    rows = list(csv.DictReader(io.StringIO(table_of(made))))
    assert len(rows) == sum(len(panel.rows) * len(panel.columns) for panel in made.panels)
    by_name = SPECTRA | {f"other {name}": module for name, module in OTHER.items()}
    for row in rows:
        other = OTHER if view == "adapters" else SPECTRA
        expected = measured(by_name[row["row"]], other[row["column"]], "output", row["measure"], int(row["k"]))
        assert (float(row["value"]) if row["value"] else np.nan) == pytest.approx(expected, abs=1e-6, nan_ok=True)
        if row["value"]:
            assert float(row["ratio"]) == pytest.approx(float(row["value"]) / float(row["random"]))
            assert row["beyond random"] == str(float(row["value"]) > float(row["chance level"]))


@pytest.mark.parametrize("view", VIEWS)
def test_the_interactive_figure_holds_the_same_values(view: str) -> None:
    made, data = shown(Choice(view=view, k=2))
    figure = figure_of(made)
    assert len(figure.data) == len(made.panels)
    for trace, panel, sent in zip(figure.data, made.panels, data["table"]["panels"], strict=True):
        shape = len(panel.rows), len(panel.columns)
        both = {
            "principal": numbers(sent["principal"], *shape),
            "overlap": numbers(sent["overlap"], RANK, *shape)[1],
        }
        np.testing.assert_allclose(np.array(trace.z, dtype=float), both[panel.measure or "overlap"], atol=1e-5)
