"""Whom an edit helps and hurts, below the board: the library's numbers, the rows' own words, and a job that measures."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.editing.pulls import HELD, MEASURED, ONE_COMPONENT, OWN, conflict_text, headline, proof_text
from app.state.workspace import Workspace
from surgery.data import CalibrationPlan, planned_rows, rows_digest, seen_keys
from surgery.edits import component_pulls, pulls
from surgery.files import row_changes_folder
from surgery.policies import GradDirection, Identity
from surgery.sensitivity import conflict_of
from tests.app.conftest import O0, SIGMA, workspace_of

ODD = "<img src=x onerror=alert(1)> *bold* $x$"


def page() -> None:
    import streamlit as st

    from app.editing.pulls import pulls_panel

    pulls_panel(st.session_state["workspace"])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Made-up sensitivities of 24 rows of a file, and a policy that reads them."""
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"question {i} {ODD}\n\nsecond line", "answer": f"answer {i}"} for i in range(24)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    plan = CalibrationPlan(str(file), examples=24)
    found = workspace_of(SIGMA, examples=24)
    known = planned_rows(plan).rows
    assert found.sensitivity is not None
    measured = replace(found.sensitivity, keys=tuple(map(seen_keys, known)), rows=rows_digest(known))
    whole = replace(found, sensitivity=measured, calibration=plan)
    return whole.with_edit("test", policy=GradDirection(), scope="residual")


def opened(workspace: Workspace, *, shown: bool = True) -> AppTest:
    test = AppTest.from_function(page, default_timeout=60)
    test.session_state["workspace"] = workspace
    test.session_state["pulls-open"] = shown
    test.run()
    assert not test.exception
    return test


def said(test: AppTest) -> str:
    return " ".join(each.value for each in [*test.caption, *test.markdown, *test.error])


def test_the_table_holds_both_ends_of_the_ranking_with_the_rows_own_words(workspace: Workspace) -> None:
    test = opened(workspace)
    found = pulls(workspace.plan, workspace.spectra, workspace.sensitivity)
    table = test.dataframe[0].value
    rows = (table["row"] - 1).tolist()
    helped = [row for row in found.order if found.told[row] < 0][:10]
    hurt = [row for row in found.order[::-1] if found.told[row] > 0][:10]
    assert rows == [*helped, *hurt]
    np.testing.assert_allclose(table[HELD], found.held[rows])
    np.testing.assert_allclose(table[OWN], found.own[rows])
    assert table[MEASURED].isna().all()
    texts = planned_rows(workspace.calibration).rows
    assert table["answer"].tolist() == [texts[row].answer for row in rows]
    assert table["prompt"].tolist() == [" ".join(texts[row].prompt.split()) for row in rows]
    assert ODD not in said(test), "a row's words stand in the table alone, which shows them as they are"
    assert headline(found) in said(test)


def test_one_component_is_ranked_by_its_own_slope(workspace: Workspace) -> None:
    test = opened(workspace)
    test.segmented_control(key="pulls-of").set_value(ONE_COMPONENT).run()
    gains = {
        (name, k): workspace.sensitivity.values[name][:, k].mean() * sigma
        for name in workspace.edit.modules
        for k, sigma in enumerate(workspace.spectra[name].sigma)
    }
    module, component = max(gains, key=gains.__getitem__)
    assert test.selectbox(key="pulls-module").value == module, "what zeroing would gain most from comes first"
    assert test.number_input(key=f"pulls-component-{module}").value == component
    test.selectbox(key="pulls-module").set_value(O0).run()
    test.number_input(key=f"pulls-component-{O0}").set_value(2).run()
    assert not test.exception
    found = component_pulls(workspace.spectra, workspace.sensitivity, O0, 2)
    table = test.dataframe[0].value
    assert HELD not in table, "no row has shaped it"
    np.testing.assert_allclose(table[OWN], found.own[(table["row"] - 1).tolist()])


def test_what_was_measured_before_stands_beside_it(workspace: Workspace) -> None:
    from surgery.files import digest
    from surgery.sensitivity import sigma_identity

    measured = workspace.sensitivity
    assert measured is not None
    found = pulls(workspace.plan, workspace.spectra, measured)
    row = int(found.order[0])
    key = digest([measured.provenance.key, sigma_identity(found.sigma_after)])[:24]
    row_changes_folder().mkdir(parents=True)
    (row_changes_folder() / f"{key}.json").write_text(json.dumps({"changes": {str(row): -0.25}}))
    table = opened(workspace).dataframe[0].value
    assert table[MEASURED].dropna().tolist() == [-0.25]
    assert table["row"][table[MEASURED].notna()].tolist() == [row + 1]


def test_closed_it_costs_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.editing.pulls._show", lambda workspace: pytest.fail("computed while closed"))
    opened(workspace, shown=False)


def test_without_the_file_the_numbers_stand_alone_and_say_why(workspace: Workspace) -> None:
    Path(workspace.calibration.data).unlink()
    test = opened(workspace)
    assert set(test.dataframe[0].value["prompt"]) == {""}
    assert "The rows are not shown" in said(test)


def test_what_cannot_be_ranked_is_said(workspace: Workspace) -> None:
    assert "Calibrate first" in said(opened(replace(workspace, sensitivity=None)))
    drawn = replace(workspace.sensitivity, provenance=replace(workspace.sensitivity.provenance, sampled=0))
    plain = workspace_of(SIGMA)
    assert "drawn from the model" in said(opened(replace(plain, sensitivity=drawn)))
    assert "helps and hurts nobody" in said(opened(plain.with_edit("test", policy=Identity())))


def test_the_headline_says_which_number_it_is(workspace: Workspace) -> None:
    found = pulls(workspace.plan, workspace.spectra, workspace.sensitivity)
    assert "these rows have not shaped" in headline(found)
    few = replace(workspace.sensitivity.head(6))
    assert "looks too good" in headline(pulls(workspace.plan, workspace.spectra, few))
    assert "unless it was chosen" in headline(component_pulls(workspace.spectra, workspace.sensitivity, O0, 0))


def test_a_proof_is_compared_by_shares() -> None:
    found = SimpleNamespace(helped=0.75, hurt=0.25)
    text = proof_text(np.array([-1.0, -1.0, 1.0, 0.0]), found)
    assert "on 4 other rows: the loss of 50% ± 25% fell and that of 25% rose" in text
    assert "75% and 25%" in text


def test_groups_are_told_only_where_they_are_beyond_chance() -> None:
    rng = np.random.default_rng(1)
    sides = np.arange(40) < 10
    g = rng.normal(size=(60, 40)) + rng.normal(size=(60, 1)) * np.where(sides, 1.0, -1.0)
    edit = SimpleNamespace(told=np.where(sides, -1.0, 1.0))
    text = conflict_text(conflict_of(g.T @ g), edit)
    assert "10 rows, of which 100% are helped" in text
    assert "30 rows, of which 0% are helped" in text
    cloud = rng.normal(size=(60, 40))
    assert "No two groups" in conflict_text(conflict_of(cloud.T @ cloud), edit)
    assert "Too few" in conflict_text(conflict_of(g[:, :5].T @ g[:, :5]), edit)
