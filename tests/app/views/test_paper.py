"""The Paper page shows the tables' numbers, and the user's proofs beside the paper's points."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.state.workspace import Workspace, workspace_for
from surgery import open_adapter, paper
from surgery.edits import EditPlan, expected_by_budget
from surgery.evaluation import BASELINE
from surgery.experiments import GUARD
from surgery.policies import NaturalGradient
from surgery.runs import RunGroup, keep_group, known_runs
from tests.helpers.proofs import evaluation_of, gained_or_lost, kept_proof, simple

APP = Path(__file__).resolve().parents[3] / "app"
BEFORE = np.tile([0.0, 1.0], 50)


def proven(workspace: Workspace, rows: str, gained: int, *, controls: int = 2, answers: bool = True) -> Workspace:
    """The workspace with a proof in which the edit answers `gained` of 100 more right, or fewer."""
    loss, unread = np.ones(100), np.full(100, np.nan)
    after = gained_or_lost(BEFORE, gained)
    before, after = (BEFORE, after) if answers else (unread, unread)
    scores = {BASELINE: simple(loss, before), "edit": simple(loss, after)}
    scores |= {f"random {seed}": simple(loss, before) for seed in range(controls)}
    kept_proof(workspace, rows, evaluation_of(scores))
    return workspace


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The demo without the proof that ships with it: every point is a test's own."""
    monkeypatch.setattr("surgery.runs.history.shipped_files", lambda pattern: [])
    return workspace_for("demo:kinship")


def opened(workspace: Workspace | None = None) -> AppTest:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    if workspace is not None:
        test.session_state["workspace"] = workspace
    test.run()
    return whole(test.switch_page("views/paper.py").run())


def whole(test: AppTest) -> AppTest:
    assert not test.exception
    assert not test.error
    return test


def show(test: AppTest, view: str) -> AppTest:
    return whole(test.button_group(key="paper-view").set_value(view).run())


def traces(test: AppTest) -> list[dict[str, Any]]:
    (chart,) = test.get("plotly_chart")
    return json.loads(chart.proto.spec)["data"]


def yours(test: AppTest) -> list[dict[str, Any]]:
    return [trace for trace in traces(test) if trace["name"].startswith("yours")]


def test_every_view_opens_without_an_error() -> None:
    test = opened()
    for view in ("figure 4", *(f"table {number}" for number in range(1, 6)), "follow-up", "open", "figure 3"):
        show(test, view)


def test_figure_3_holds_the_differences_of_table_2() -> None:
    test = opened()
    points = paper.signal_points(paper.tables()[2], "grad_direction")
    drawn = {
        (trace["name"].partition(" ")[0], task): (x, y)
        for trace in traces(test)[:2]
        for task, x, y in zip(trace["text"], trace["x"], trace["y"], strict=True)
    }
    assert len(drawn) == 8
    for point in points:
        expected = (100 * point.random_gain, 100 * point.gain)
        assert drawn[point.model, point.task] == pytest.approx(expected)


def test_a_table_shows_its_file_and_its_changes() -> None:
    test = show(opened(), "table 2")
    (frame,) = test.dataframe
    assert frame.value["grad_direction"].tolist() == [0.614, 0.476, 0.223, 0.784, 0.816, 0.512, 0.173, 0.853]
    whole(test.toggle(key="paper-changes").set_value(True).run())
    (frame,) = test.dataframe
    assert frame.value["smooth_abs"].tolist() == pytest.approx([1.1, 0.6, 0.7, -0.5, -1.3, 1.8, -3.8, -0.4])


def test_the_follow_up_shows_its_numbers_its_intervals_and_its_reference() -> None:
    test = show(opened(), "follow-up")
    (frame,) = test.dataframe
    assert frame.value.set_index("method").loc["the trained LoRA"].tolist() == [68.0, 69.55, 2.71]
    assert len(frame.value) == 12
    text = " ".join(element.value for element in test.markdown)
    assert "TTtianTT/peft-sft-lab" in text
    assert "HNS − Scalar-E** on the target: -0.62 points, 95 % -1.64 … +0.25" in text


def test_without_a_proof_the_page_says_what_to_run(demo: Workspace) -> None:
    test = opened(demo)
    assert not yours(test)
    assert any("random control" in info.value for info in test.info)
    assert any("own task" in info.value for info in show(test, "figure 4").info)


def guarded(workspace: Workspace, guards: dict[str, int]) -> Workspace:
    """A proof that gains 10 of 100, with guards by the rows that they ask and what they gain."""
    loss = np.ones(100)
    runs = [
        kept_proof(
            workspace,
            rows,
            evaluation_of(
                {BASELINE: simple(loss, BEFORE), "edit": simple(0.9 * loss, gained_or_lost(BEFORE, gained))}
            ),
            purpose="proof" if rows == "demo:kinship/test" else GUARD,
        )
        for rows, gained in ({"demo:kinship/test": 10} | guards).items()
    ]
    own, *beside = (run.plan.key for run in runs)
    keep_group(RunGroup(own, tuple(beside)))
    return workspace


def test_a_proof_with_guards_is_a_point_of_figure_4_and_a_figure_of_its_own(demo: Workspace) -> None:
    test = opened(guarded(demo, {"demo:arithmetic/test": -4}))
    show(test, "figure 4")
    paper_figure, own_figure = [json.loads(chart.proto.spec)["data"] for chart in test.get("plotly_chart")]
    (star,) = [trace for trace in paper_figure if trace["name"].startswith("yours")]
    assert (star["x"], star["y"]) == (pytest.approx([4.0]), pytest.approx([10.0]))
    assert star["error_x"]["array"][0] > 0
    assert own_figure
    assert "Own task against guards" in [each.value for each in test.subheader]
    (table,) = [each.value for each in test.dataframe if "95 % of the gain" in each.value]
    assert set(table["question"]) == {"demo:kinship/test", "demo:arithmetic/test"}


def test_several_guards_count_the_same_in_figure_4(demo: Workspace) -> None:
    test = opened(guarded(demo, {"demo:arithmetic/test": -4, "demo:arithmetic/calibration": -8}))
    show(test, "figure 4")
    paper_figure = json.loads(test.get("plotly_chart")[0].proto.spec)["data"]
    (star,) = [trace for trace in paper_figure if trace["name"].startswith("yours")]
    assert star["x"] == pytest.approx([6.0])
    assert "2 guards" in star["name"]


def test_a_proof_is_a_point_of_figure_3_with_its_interval(demo: Workspace) -> None:
    (star,) = yours(opened(proven(demo, "demo:kinship/test", 10)))
    assert star["y"] == pytest.approx([10.0])
    assert star["x"] == pytest.approx([0.0])
    assert star["error_y"]["array"][0] > 0
    assert star["marker"]["symbol"] == "star"


def test_a_proof_without_controls_or_answers_gives_no_point(demo: Workspace) -> None:
    test = opened(proven(demo, "demo:kinship/test", 10, controls=0))
    assert not yours(test)
    assert not yours(opened(proven(demo, "demo:kinship/test", 10, controls=0, answers=False)))


def test_one_edit_proven_on_two_tasks_is_a_point_of_figure_4(demo: Workspace) -> None:
    test = opened(proven(demo, "demo:kinship/test", 10))
    test.session_state["workspace"] = proven(demo, "demo:arithmetic/test", -4)
    whole(test.run())
    assert len(yours(test)) == 2
    (star,) = yours(show(test, "figure 4"))
    assert (star["x"], star["y"]) == (pytest.approx([4.0]), pytest.approx([10.0]))
    whole(test.button_group[-1].set_value([]).run())  # the person says that both are the edit's own task
    assert not yours(test)


def test_another_edit_does_not_lend_its_task(demo: Workspace) -> None:
    test = opened(proven(demo, "demo:kinship/test", 10))
    other = demo.with_edit("scope", scope="all")
    test.session_state["workspace"] = proven(other, "demo:arithmetic/test", -4)
    whole(test.run())
    assert not yours(show(test, "figure 4"))


def test_the_proof_that_ships_with_the_demo_stands_beside_the_papers_own_points() -> None:
    test = opened(workspace_for("demo:kinship"))
    (point,) = [trace for trace in traces(test) if trace["name"].startswith("shipped")]
    assert not yours(test)
    (run,) = [run for run in known_runs(open_adapter("demo:kinship").digest) if run.shipped]
    found = run.evaluation
    assert point["x"] == [pytest.approx(100 * found.random_effect("exact").mean)]
    assert point["y"] == [pytest.approx(100 * found.effect("edit", "exact").mean)]
    assert "64 examples of demo:kinship/test" in str(point)


def test_table_4_shows_what_each_budget_of_the_open_adapter_is_expected_to_give(demo):
    test = show(opened(demo), "table 4")
    frames = [frame.value for frame in test.dataframe]
    (table,) = [frame for frame in frames if "first order, same rows" in frame]
    assert list(table["examples"].unique()) == [32, 64, 128]
    natural = table[table["edit"] == "natural_gradient"].set_index("examples")
    found = dict(expected_by_budget(EditPlan(NaturalGradient()), demo.spectra, demo.sensitivity))
    assert natural.loc[32, "expected Δ loss"] == f"{found[32].mean:+.4f}"
    curves = traces(test)
    assert curves[0]["name"] == "grad_direction"
    assert len(curves) == 4  # two policies, with the first order of each


def test_table_4_asks_for_a_calibration_where_there_is_none(demo):
    test = show(opened(replace(demo, sensitivity=None)), "table 4")
    assert any("Calibrate first" in caption.value for caption in test.caption)


def test_own_proofs_with_the_base_tell_what_an_edit_forgets_on_every_slice_and_on_average(demo: Workspace) -> None:
    test = show(opened(proven(demo, "without the base", 8)), "follow-up")
    assert any("Base model beside it" in each.value for each in test.caption)
    loss, right = np.ones(100), np.ones(100)
    for rows, edited in (("own", right), ("other", BEFORE)):
        scores = {"unedited": right, "edit": edited, "base": right}
        kept_proof(demo, rows, evaluation_of({name: simple(loss, exact) for name, exact in scores.items()}))
    test = show(opened(demo), "follow-up")
    (table,) = [each.value for each in test.dataframe if "Gap of the adapter" in each.value]
    found = table.set_index("slice")
    assert set(found.index) == {"own", "other", "mean over 2 slices"}
    assert found.loc["other", "Forgetting gap"].startswith("50.0 [")
    assert found.loc["mean over 2 slices", "Forgetting gap"].startswith("25.0 [")
    assert found.loc["mean over 2 slices", "Recovery"] == "NA"
    assert found.loc["mean over 2 slices", "New damage"].endswith("50 of 200")
    assert set(found["Gap of the adapter"]) == {"0.0"}
