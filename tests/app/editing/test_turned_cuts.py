"""The cut that turns directions: told beside the others, written from the page, and opened as it was told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.editing.turned_cuts import TURNED, turned_outcome
from app.state.workspace import Workspace
from surgery.adapter import open_adapter
from surgery.edits import EditPlan
from surgery.errors import PolicyError
from surgery.export import read_record
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.app.editing.test_rank_table import below_the_board, opened
from tests.helpers.refusals import refusal

NAME = "activation-aware, a fixed rank"


def dense(spectrum) -> np.ndarray:
    return spectrum.U * spectrum.sigma @ spectrum.V.T


def test_the_shares_are_those_of_the_dense_updates_and_of_what_they_do_to_the_inputs(
    cut_workspace: Workspace,
) -> None:
    found = turned_outcome(cut_workspace, EditPlan(Rank(keep=2), "all"))
    sizes, inputs = [], []
    for name, before in cut_workspace.spectra.items():
        after = found.cut[name]
        assert after.rank == 2
        M = before.V @ cut_workspace.sensitivity.inputs.of(name) @ before.V.T
        sizes.append([np.linalg.norm(dense(each)) ** 2 for each in (after, before)])
        inputs.append([np.trace(dense(each) @ M @ dense(each).T) for each in (after, before)])
    assert found.kept.kept == 2 * len(cut_workspace.spectra)
    assert found.kept.energy == pytest.approx(np.divide(*np.sum(sizes, axis=0)), rel=1e-9)
    assert found.kept.functional == pytest.approx(np.divide(*np.sum(inputs, axis=0)), rel=1e-9)


def test_it_is_written_from_the_page_and_opens_as_it_was_told(cut_workspace: Workspace, tmp_path: Path) -> None:
    test = opened(below_the_board, cut_workspace)
    test.slider(key="rank-fixed").set_value(2).run()
    row = test.dataframe[0].value.set_index("cut").loc[NAME]
    test.selectbox(key="rank-chosen").set_value(NAME).run()
    test.text_input[0].set_value(str(tmp_path / "cut")).run()
    test.button(key="rank-write").click().run()
    assert not test.exception
    assert not test.error
    assert "Written, read back and compared" in test.success[0].value
    expected = turned_outcome(cut_workspace, EditPlan(Rank(keep=2), "all")).cut
    for name, spectrum in decompose(open_adapter(tmp_path / "cut")).items():
        assert spectrum.rank == 2 <= row["largest rank"]
        np.testing.assert_allclose(dense(spectrum), dense(expected[name]), atol=1e-6 * expected[name].sigma[0])
    assert read_record(tmp_path / "cut").measured["directions"] == "turned by an activation-aware cut"
    assert test.session_state["workspace"].plan == cut_workspace.plan
    test.button(key="rank-write").click().run()
    assert "cut" in test.error[0].value


def test_no_slider_turns_the_directions_again(cut_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    test = opened(below_the_board, cut_workspace)
    monkeypatch.setattr("app.editing.turned_cuts.turned_modules", pytest.fail)
    test.slider(key="rank-share").set_value(0.7).run()
    assert set(TURNED) < set(test.dataframe[0].value["cut"])


def test_more_modules_than_a_hand_waits_for_are_told(
    cut_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.editing.turned_cuts._MOST", 1)
    plan = EditPlan(Rank(keep=2), "all")
    assert "σ²q is the nearest" in refusal(PolicyError, turned_outcome, cut_workspace, plan)
    test = opened(below_the_board, cut_workspace)
    assert any("fixed rank" in caption.value and "nearest" in caption.value for caption in test.caption)
    nothing = replace(cut_workspace, sensitivity=None)
    assert "none were given" in refusal(PolicyError, turned_outcome, nothing, plan)
