"""The views of the Spectra page as files."""

import csv
import io
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from app.spectra.choice import Choice
from app.spectra.files import file_of
from app.spectra.numbers import numbers_of
from app.state.workspace import Workspace
from tests.app.conftest import D0, D1, O0, O1, Q0, SIGMA
from tests.app.spectra.conftest import (
    PLAN,
    SMALL,
    UNMEASURED,
    component,
    page,
    planned,
    send,
)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("workspace", [SMALL, UNMEASURED], ids=["measured", "unmeasured"])
def test_the_table_of_components_holds_every_digit(workspace: Workspace) -> None:
    numbers = numbers_of(workspace.spectra, workspace.sensitivity)
    found = file_of("csv", Choice(O0), numbers)
    rows = table(found["text"])
    assert found["name"] == "spectra-all.csv"
    assert [(row["module"], int(row["component"])) for row in rows] == [
        (name, k) for name, sigma in SIGMA.items() for k in range(len(sigma))
    ]
    for row in rows:
        name, k = row["module"], int(row["component"])
        assert float(row["sigma"]) == SIGMA[name][k]
        if workspace is SMALL:
            g = SMALL.sensitivity.values[name][:, k]
            assert float(row["mean_g"]) == pytest.approx(g.mean(), rel=1e-13)
            assert float(row["mean_abs_g_standard_error"]) == pytest.approx(scipy.stats.sem(np.abs(g)), rel=1e-13)
            assert row["standing"] in ("helps", "neutral", "hurts", "")
        else:
            assert "mean_g" not in row
    one = table(file_of("csv", Choice(Q0, view="one"), numbers)["text"])
    assert one == [row for row in rows if row["module"] == Q0]


def test_the_tables_of_the_other_views_hold_what_they_draw() -> None:
    workspace = planned(PLAN)
    numbers = numbers_of(workspace.spectra, workspace.sensitivity)
    depth = {row["module"]: row for row in table(file_of("csv", Choice(O0, view="depth"), numbers)["text"])}
    assert float(depth[O0]["effective_rank"]) == pytest.approx(
        math.exp(scipy.stats.entropy(np.array(SIGMA[O0]) / 10)), rel=1e-13
    )
    assert float(depth[O0]["energy_hurts"]) == pytest.approx(17 / 30)
    assert depth[D1]["energy_hurts"] == ""
    listed = table(file_of("csv", Choice(O0, view="lists", list="helpful"), numbers)["text"])
    assert {(row["name"], int(row["component"])) for row in listed} == {(O0, 1), (D0, 0), (O1, 1)}
    stability = table(file_of("csv", Choice(O0, view="stability"), numbers)["text"])
    assert [int(row["examples"]) for row in stability] == [32, 40]


@pytest.mark.parametrize("workspace", [SMALL, UNMEASURED], ids=["measured", "unmeasured"])
@pytest.mark.parametrize("show", ["sigma", "energy", "mean", "magnitude"])
def test_every_view_becomes_a_page_of_its_own(workspace: Workspace, show: str) -> None:
    numbers = numbers_of(workspace.spectra, workspace.sensitivity)
    for view in ("all", "one", "depth", "stability"):
        found = file_of("html", Choice(O1, view=view, show=show, scale="log"), numbers)
        if found is None:
            assert (view, workspace) == ("stability", UNMEASURED)
            continue
        assert "Plotly.newPlot" in found["text"]
        assert '<script src="http' not in found["text"]
        assert found["name"].endswith(".html")
    assert file_of("html", Choice(O1, view="lists"), numbers) is None


def test_a_file_comes_once_and_for_the_choice_it_was_asked_with() -> None:
    test = send(page(), file={"format": "csv", "id": "7", "choice": {"view": "one", "module": Q0}})
    found = component(test)["file"]
    assert (found["asked"], found["type"]) == ("7", "text/csv")
    assert [float(row["sigma"]) for row in table(found["text"])] == SIGMA[Q0]
    assert component(test.run())["file"] is None


@pytest.mark.parametrize(
    "file",
    [5, "csv", [], {}, {"format": "exe"}, {"format": ["csv"]}, {"format": "html", "choice": {"view": "lists"}}],
    ids=str,
)
def test_a_file_that_there_is_not_does_not_come(file: Any) -> None:
    assert component(send(page(), file=file))["file"] is None
