"""The film's numbers as CSV, read back."""

import csv
import io
from typing import Any

import numpy as np
import pytest

from app.many.film_files import saved_film
from surgery.adapter_sets import film_means
from tests.app.many.test_film_numbers import STEPS, film


def asked(**wanted: Any) -> dict[str, Any] | None:
    choice = {"measure": "last", "side": "input", "k": 2, "module": "model.layers.1.o_proj", "have": "8"}
    return saved_film(film(), "kinship", {"id": "7", "format": "csv", "choice": choice, **wanted})


def rows(file: dict[str, Any] | None) -> list[dict[str, str]]:
    assert file is not None
    assert (file["asked"], file["have"]) == ("7", "8")
    return list(csv.DictReader(io.StringIO(file["text"])))


def test_the_map_has_a_row_for_each_cell_and_step_with_every_digit():
    found, means = rows(asked()), film_means(film(), "last", "cell", side="input", k=2)
    assert len(found) == len(means.groups) * len(STEPS)
    for row in found:
        layer = int(row["layer"]) if row["layer"] else None
        column, at = means.groups.index((row["family"], layer)), STEPS.index(int(row["step"]))
        value = means.values[at, column]
        assert (row["value"] == "") if np.isnan(value) else float(row["value"]) == value
        assert int(row["modules"]) == means.counts[at, column]
        assert row["random"] == ("" if np.isnan(value) else str(means.random[at, column]))


def test_a_module_has_a_row_for_each_step_and_component():
    found, module = rows(asked(format="module")), film().modules["model.layers.1.o_proj"]
    assert len(found) == len(STEPS) * 4
    assert [row["sigma"] for row in found[:4]] == [""] * 4  # the first checkpoint lacks it
    assert [float(row["sigma"]) for row in found[4:8]] == module.sigma[1].tolist()
    assert [int(row["match"]) for row in found[-4:]] == [1, 2, 3, 4]
    assert [float(row["input angle"]) for row in found[4:8]] == module.angles[1, 1].tolist()


@pytest.mark.parametrize(
    "wanted",
    [
        {"format": "html"},
        {"choice": None},
        {"choice": {"measure": "speed"}},
        {"format": "module", "choice": {"module": "x"}},
    ],
    ids=str,
)
def test_what_is_no_question_has_no_file(wanted):
    assert asked(**wanted) is None
