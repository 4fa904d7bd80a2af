"""The Evaluate page's parts: tables against plain numbers, answers filtered, the history's rows, diagnostics."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.evaluation.runs_table import changes_of, table_of
from app.evaluation.slice import question_of
from app.state import jobs
from app.state.runs import evaluation_of, newest_proof, runs_of_adapter
from app.state.workspace import Workspace, workspace_for
from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, EvaluationPlan, Margins
from surgery.evaluation import (
    AGAIN,
    BASE,
    BASELINE,
    SAME_ENERGY,
    SHAPE_CONTROLS,
    SHAPE_ONLY,
    margin_text,
    scale_or_shape,
    share_power,
    shares_of,
    summarise,
)
from surgery.experiments import EDIT
from surgery.model import BaseChoice, attach
from surgery.policies import GradDirection, Scale
from surgery.sensitivity import calibrate
from tests.app.evaluation.conftest import proof, with_base
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.helpers.own_tasks import own_tasks
from tests.helpers.proofs import kept_proof
from tests.helpers.rounding import assert_losses

APP = Path(__file__).resolve().parents[3] / "app"
ROWS = [(f"{a}+{b}=", str(a + b)) for a in range(6) for b in range(5)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A tiny adapter that a proof can really run on."""
    save_model(tiny_llama(), tmp_path / "base")
    save_adapter(tiny_llama(), tmp_path / "adapter")
    for name, rows in (("calibration", ROWS[:8]), ("test", ROWS[8:])):
        lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    opened = workspace_for(str(tmp_path / "adapter"))
    opened = opened.with_edit("scale", policy=Scale(1.5), energy="none", scope="all")
    opened = opened.with_base(BaseChoice(str(tmp_path / "base")))
    calibration = CalibrationPlan(str(tmp_path / "calibration.jsonl"), examples=8)
    plan = EvaluationPlan(str(tmp_path / "test.jsonl"), limit=6, random=2)
    return type(opened)(**{**vars(opened), "calibration": calibration, "evaluation": plan})


def page(workspace: Workspace) -> AppTest:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["workspace"] = workspace
    test.run()
    return clean(test.switch_page("views/evaluate.py").run())


def clean(test: AppTest) -> AppTest:
    assert not test.exception
    assert [error.value for error in test.error] == []
    return test


def press(test: AppTest, label: str) -> AppTest:
    return next(button for button in test.button if button.label == label).click().run()


def show(test: AppTest, view: str) -> AppTest:
    return clean(test.button_group(key="evaluate-view").set_value(view).run())


def finished(test: AppTest, seconds: float = 60) -> AppTest:
    limit = time.monotonic() + seconds
    while jobs.jobs().claims(test.session_state["workspace-id"]) and time.monotonic() < limit:
        time.sleep(0.1)
        clean(test.run())
    return test


def frame(test: AppTest, column: str) -> pd.DataFrame:
    return next(each.value for each in test.dataframe if column in each.value)


def test_a_proof_runs_is_kept_and_fills_the_views(workspace: Workspace) -> None:
    test = finished(clean(press(page(workspace), "Prove it")))
    table = frame(test, "verdict")
    assert list(table["variant"]) == [EDIT, "scale, same norm", "random 0", "random 1", AGAIN]
    (run,) = runs_of_adapter(workspace)
    assert run.plan.examples == 6
    found = evaluation_of(run)
    # an edit that is a rescaling is its own control
    assert_losses(found.scores[EDIT].loss, found.scores["scale, same norm"].loss, tiny_llama())
    assert [sample.prompt for sample in found.samples] == [prompt for prompt, _ in ROWS[8:14]]
    assert question_of(run).plan.limit == 6

    test = show(test, "Answers")
    assert test.button_group(key=f"answers-filter-{run.plan.key}").options[-1] == "All (6)"
    test = show(test, "Diagnostics")
    test = finished(clean(press(test, "Fill Table 3")))
    assert {"energy none"} <= set(frame(test, "verdict")["variant"])
    test = show(test, "History")
    assert set(frame(test, "asks")["asks"]) == {"proof", "energy"}
    # another session finds all of it
    again = page(workspace)
    assert "verdict" in {name for each in again.dataframe for name in each.value}


def test_one_tick_tells_scale_from_shape_and_says_which_share_a_plain_scale_explains(workspace: Workspace) -> None:
    adapter = open_adapter(workspace.adapter.source)
    with attach(adapter, workspace.spectra, workspace.base) as live:
        measured = calibrate(live, workspace.calibration, base=workspace.base)
    workspace = replace(workspace, sensitivity=measured, evaluation=replace(workspace.evaluation, random=0))
    test = page(workspace.with_edit("step", policy=GradDirection(), energy="none", scope="all"))
    test = clean(test.checkbox(key="evaluate-shape").check().run())
    test = finished(clean(press(test, "Prove it")))
    assert list(frame(test, "verdict")["variant"]) == [EDIT, *SHAPE_CONTROLS, AGAIN]
    (run,) = runs_of_adapter(test.session_state["workspace"])
    assert question_of(run).plan.scale_or_shape
    assert run.plan.controls[EDIT].shape == {name: name for name in SHAPE_CONTROLS}
    found = evaluation_of(run)
    told = [each.value.replace("\\", "") for each in test.info if "Scale or shape" in each.value]
    assert told == list(scale_or_shape(summarise(found)))
    assert any("its shape alone, at the old energy, makes" in each for each in told)
    assert shares_of(found, EDIT).keys() == {SAME_ENERGY, SHAPE_ONLY}


def test_a_margin_is_named_before_the_run_with_its_power_and_its_verdict_is_shown(workspace: Workspace) -> None:
    workspace = replace(workspace, evaluation=replace(workspace.evaluation, random=1))
    test = page(workspace)
    assert not any("not inferior" in each.value for each in test.caption)
    test = clean(test.checkbox(key="evaluate-margin").check().run())
    power = share_power(0.01, 0.1, 6)
    assert any(f"right answers {100 * power:.0f} times in 100" in each.value for each in test.caption)
    test = clean(test.number_input(key="evaluate-margin-points").set_value(40.0).run())
    test = finished(clean(press(test, "Prove it")))
    (run,) = runs_of_adapter(test.session_state["workspace"])
    assert run.plan.margins == Margins(40.0, 0.005)
    verdicts = summarise(evaluation_of(run)).variants[EDIT].margins
    table = frame(test, "verdict").set_index("variant")
    for metric in evaluation_of(run).metrics:
        assert table.loc[EDIT, f"non-inferiority, {metric.title}"] == verdicts[metric.name].verdict
        said = f"{metric.title}: {margin_text(metric, verdicts[metric.name])}"
        assert said in [each.value.replace("\\", "") for each in test.info]
    assert pd.isna(table.loc["random 0", "non-inferiority, exact match"])


def test_near_duplicates_are_a_table_until_they_are_allowed_and_answers_are_asked_as_the_form_says(
    workspace: Workspace, tmp_path: Path
) -> None:
    story = "a dog and a cat went to the park where they met two birds and one small bee"
    for name, prompt in (("calibration", story), ("test", f"{story.upper()}.")):
        with (tmp_path / f"{name}.jsonl").open("a") as file:
            file.write("\n" + json.dumps({"prompt": prompt, "answer": "so"}))
    calibration = replace(workspace.calibration, examples=9)
    plan = replace(workspace.evaluation, limit=3, start=20, random=0)
    test = page(replace(workspace, calibration=calibration, evaluation=plan))
    press(test, "Prove it")
    (refused,) = [error.value.replace("\\", "") for error in test.error]
    assert "1 of 3 held-out examples is nearly the same" in refused
    (pair,) = frame(test, "Is like").to_dict("records")
    assert (pair["Held-out"], pair["Words in common"]) == ("row 2", 100)
    own = test.session_state["workspace"].adapter.digest[:12]
    test.checkbox(key=f"evaluate-near-{own}").check()
    test.checkbox(key=f"evaluate-loss-{own}").check()
    test.text_area(key=f"evaluate-stop-{own}").set_value("##\n\\n")
    test.text_area(key=f"evaluate-filters-{own}").set_value("lower\n\nnumber")
    test = finished(clean(press(test, "Prove it")))
    (run,) = runs_of_adapter(test.session_state["workspace"])
    asked = question_of(run).plan
    assert (asked.generate, asked.filters, asked.stop) == (False, ("lower", "number"), ("##", "\n"))
    assert [metric.name for metric in evaluation_of(run).metrics] == ["loss"]
    assert list(frame(test, "Is like")["Held-out"]) == ["row 2"]
    assert any("nothing was generated" in caption.value for caption in test.caption)


def test_rows_that_cannot_be_asked_stop_a_proof_until_they_are_ticked_to_stay_out(workspace: Workspace) -> None:
    assert workspace.evaluation is not None
    with open(workspace.evaluation.data, "a") as file:
        file.write('\n{"prompt": "", "answer": "1"}\n')
    test = page(workspace)
    assert any("22 rows · read as prompt → answer · 1 row left out" in each.value for each in test.caption)
    test = press(test, "Prove it")
    assert any("mend the rows, or leave them out" in error.value for error in test.error)
    tick = next(each for each in test.checkbox if each.label == "Leave out rows that cannot be asked")
    test = clean(tick.check().run())
    finished(clean(press(test, "Prove it")))
    (run,) = runs_of_adapter(workspace)
    assert evaluation_of(run).notes[0] == "1 row left out: 1 empty prompt"
    assert question_of(run).plan.leave_out


def test_a_table_that_the_policy_cannot_fill_says_why(workspace: Workspace) -> None:
    kept_proof(workspace, "rows.jsonl", proof())
    test = show(page(workspace), "Diagnostics")
    test.button_group(key="diagnostic").set_value("budget").run()
    test = press(test, "Fill Table 4")
    assert not test.exception
    assert any("does not look at sensitivities" in error.value for error in test.error)


def test_the_history_tells_what_each_run_found(workspace: Workspace) -> None:
    done = kept_proof(workspace, "rows.jsonl", proof())
    other = workspace.with_edit("more", policy=Scale(2.0))
    unfinished = kept_proof(other, "rows.jsonl", proof(), done=False)
    table = table_of([done, unfinished]).set_index("run")
    assert table.loc[done.plan.key, "Δ exact"] == pytest.approx(0.2)
    assert table.loc[done.plan.key, "Δ loss"] == pytest.approx(-0.1)
    assert table.loc[done.plan.key, "state"] == "ended"
    assert table.loc[unfinished.plan.key, "state"] == "stopped, 0 answers"
    assert changes_of(unfinished) == {}
    test = show(page(workspace), "History")
    assert len(frame(test, "asks")) == 2
    test.text_input(key="history-filter").set_value("scale nothing").run()
    assert any("No run is like that" in caption.value for caption in test.caption)


def test_what_is_picked_in_the_history_stays_picked_when_another_run_comes(workspace: Workspace) -> None:
    old = kept_proof(workspace, "rows.jsonl", proof())
    test = show(page(workspace), "History")
    test.session_state["history"] = {"selection": {"rows": [0]}}
    test.run()
    new = kept_proof(workspace.with_edit("more", policy=Scale(2.0)), "rows.jsonl", proof())
    clean(test.run())
    assert [run.plan.key for run in runs_of_adapter(workspace)] == [new.plan.key, old.plan.key]
    assert picked_rows(test) == [1]
    clean(press(test, "Delete"))
    assert [run.plan.key for run in runs_of_adapter(workspace)] == [new.plan.key]
    assert picked_rows(test) == []
    assert next(button for button in test.button if button.label == "Delete").disabled


def test_a_run_that_is_opened_in_the_history_is_shown(workspace: Workspace) -> None:
    kept_proof(workspace, "rows.jsonl", proof())
    other = kept_proof(workspace.with_edit("more", policy=Scale(2.0)), "rows.jsonl", proof(gained=4))
    test = show(page(workspace), "History")
    test.session_state["history"] = {"selection": {"rows": [0]}}
    clean(press(test.run(), "Open"))
    assert test.session_state["evaluate-view"] == "Results"
    assert test.session_state["evaluate-run"] == other.plan.key
    assert any("about another edit" in warning.value for warning in test.warning)


def test_a_run_of_another_adapter_is_not_opened_as_if_it_were_of_this(
    workspace: Workspace, tmp_path: Path
) -> None:
    foreign = workspace_for(str(save_adapter(tiny_llama(), tmp_path / "foreign", seed=9)))
    there = type(workspace)(**{**vars(workspace), "adapter": foreign.adapter, "spectra": foreign.spectra})
    kept_proof(there, "rows.jsonl", proof())
    test = show(page(workspace), "History")
    test.toggle(key="history-all").set_value(True).run()
    test.session_state["history"] = {"selection": {"rows": [0]}}
    clean(test.run())
    assert {button.label: button.disabled for button in test.button}.items() >= {
        "Open": True,
        "Delete": False,
    }.items()


def test_the_report_of_a_run_is_offered_once_it_has_ended(workspace: Workspace) -> None:
    """Where it is shown, and in the history for one run that is picked."""
    assert reports(page(workspace)) == []
    kept_proof(workspace, "rows.jsonl", proof())
    kept_proof(workspace.with_edit("more", policy=Scale(2.0)), "rows.jsonl", proof(), done=False)
    test = page(workspace)
    assert reports(test) == [False]
    test = show(test, "History")
    for picked, waits in (([], True), ([0], True), ([1], False), ([0, 1], True)):
        test.session_state["history"] = {"selection": {"rows": picked}}
        assert reports(clean(test.run())) == [waits], picked


def reports(test: AppTest) -> list[bool]:
    """Of every button that gives a report, whether it waits."""
    return [each.proto.disabled for each in test.get("download_button") if each.proto.label == "Report"]


def picked_rows(test: AppTest) -> list[int]:
    return list(test.session_state["history"]["selection"]["rows"])


def test_a_run_of_another_edit_is_shown_with_a_warning(workspace: Workspace) -> None:
    other = workspace.with_edit("more", policy=Scale(2.0))
    run = kept_proof(other, "rows.jsonl", proof())
    test = page(workspace)
    assert not any("about another edit" in warning.value for warning in test.warning)
    test.session_state["evaluate-run"] = run.plan.key
    clean(test.run())
    assert any("about another edit" in warning.value for warning in test.warning)


def test_a_run_whose_files_were_changed_is_a_message(workspace: Workspace) -> None:
    run = kept_proof(workspace, "rows.jsonl", proof())
    (run.folder / "samples.parquet").write_bytes(b"PAR1")
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["workspace"] = workspace
    test = test.run().switch_page("views/evaluate.py").run()
    assert not test.exception
    assert any("were changed" in error.value for error in test.error)
    assert reports(test) == []
    test = clean(test.button_group(key="evaluate-view").set_value("History").run())
    test.session_state["history"] = {"selection": {"rows": [0]}}
    assert reports(test.run()) == [True]
    assert any("were changed" in error.value for error in test.error)


@pytest.mark.parametrize(("text", "problem"), [("test.jsonl", "names no split"), ('test="a', "quotes")])
def test_local_files_of_a_task_are_pairs(workspace: Workspace, text: str, problem: str) -> None:
    test = page(workspace)
    test.button_group(key="evaluate-on").set_value("Benchmark").run()
    test.text_input(key="evaluate-files").set_value(text).run()
    assert not test.exception
    assert any(problem in error.value for error in test.error)


def test_a_folder_of_own_tasks_is_read_and_its_python_is_off_until_it_is_turned_on(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(own_tasks(tmp_path / "own", colours=2, words=2))
    # by a name of the list: a name that is typed cannot be driven here
    (tmp_path / "own" / "named.yaml").write_text("group: commonsense_qa\ntask: [colours, words]\n")
    test = page(workspace)
    test.button_group(key="evaluate-on").set_value("Benchmark").run()
    clean(test.text_input(key="evaluate-include").set_value(folder).run())
    assert any("is a group: this many examples of each" in caption.value for caption in test.caption)
    assert test.toggle(key=f"evaluate-trust-{folder}").value is False
    test.text_input(key="evaluate-include").set_value(f"{folder}/none").run()
    assert any("no folder at" in error.value for error in test.error)
    # where a server confines its users to folders, no code of theirs runs
    monkeypatch.setenv("SURGERY_FOLDERS", str(tmp_path))
    clean(test.text_input(key="evaluate-include").set_value(folder).run())
    assert not [toggle for toggle in test.toggle if str(toggle.key).startswith("evaluate-trust")]


def test_template_arguments_that_are_none_are_a_message(workspace: Workspace) -> None:
    test = page(workspace)
    test.button_group(key="evaluate-on").set_value("Benchmark").run()
    assert test.text_input(key="evaluate-template-args").disabled
    test.checkbox(key="evaluate-chat").set_value(True).run()
    test.text_input(key="evaluate-template-args").set_value("enable_thinking").run()
    assert any("no template arguments" in error.value for error in test.error)
    test.text_input(key="evaluate-template-args").set_value('{"enable_thinking": true}').run()
    assert any("where a thought ends" in error.value for error in test.error)
    clean(test.text_input(key="evaluate-think-end").set_value("</think>").run())


def test_programs_are_off_until_they_are_turned_on(workspace: Workspace) -> None:
    test = page(workspace)
    test.button_group(key="evaluate-on").set_value("Benchmark").run()
    test.selectbox(key="evaluate-task").set_value("humaneval").run()
    button = next(each for each in test.button if each.label == "Prove it")
    assert button.disabled
    test.toggle(key="evaluate-programs").set_value(True).run()
    assert not next(each for each in test.button if each.label == "Prove it").disabled


def test_a_demo_opens_with_the_proof_that_ships_and_its_views_are_filled() -> None:
    opened = workspace_for("demo:kinship")
    run = newest_proof(opened)
    assert run.shipped
    test = page(opened)
    assert list(frame(test, "verdict")["variant"]) == list(run.plan.variants)[1:]
    assert any("shipped: 64 held-out examples" in caption.value.replace("\\", "") for caption in test.caption)
    assert not any("at the pace of the last run" in caption.value for caption in test.caption), "of this machine"
    test = show(test, "Answers")
    assert test.button_group(key=f"answers-filter-{run.plan.key}").options[-1] == "All (64)"
    test = show(test, "Diagnostics")
    clean(test.button_group(key="diagnostic").set_value("figure 3").run())
    assert not test.info


def test_a_shipped_run_is_marked_in_the_history_and_cannot_be_deleted() -> None:
    opened = workspace_for("demo:kinship")
    other = opened.with_edit("scale", policy=Scale(1.5))
    own = kept_proof(other, "rows.jsonl", proof())
    test = show(page(opened), "History")
    assert list(frame(test, "asks")["state"]) == ["ended", "shipped"]
    for picked, blocked in (([0], False), ([1], True), ([0, 1], True)):
        test.session_state["history"] = {"selection": {"rows": picked}}
        clean(test.run())
        assert next(button for button in test.button if button.label == "Delete").disabled is blocked
    # one of this machine that asks the same stands in its place
    kept_proof(opened, "rows.jsonl", proof())
    assert newest_proof(opened).plan.key != own.plan.key
    assert not newest_proof(opened).shipped


def test_one_tick_adds_the_base_and_its_ledger(workspace: Workspace) -> None:
    workspace = replace(workspace, evaluation=replace(workspace.evaluation, random=0, scale=False, again=False))
    test = clean(page(workspace).checkbox(key="evaluate-base-arm").check().run())
    test = finished(clean(press(test, "Prove it")))
    (run,) = runs_of_adapter(test.session_state["workspace"])
    assert question_of(run).plan.base_arm
    assert list(run.plan.variants)[1:] == [EDIT, BASE]
    assert list(frame(test, "Recovery")["variant"]) == [BASELINE, EDIT]
    assert set(frame(test, "verdict")["variant"]) == {EDIT, BASE}


def test_a_stream_opens_the_answers_behind_it_and_a_run_without_the_base_has_none(workspace: Workspace) -> None:
    bare = kept_proof(workspace, "rows.jsonl", proof())
    test = page(workspace)
    assert not [pills for pills in test.button_group if "ledger" in str(pills.key)]
    run = kept_proof(workspace, "other rows.jsonl", with_base())
    test = clean(test.run())
    assert run.plan.key != bare.plan.key
    said = next(info.value for info in test.info if "base has" in info.value).replace("\\", "")
    assert said.startswith(
        "Of 16 answers the base has 6 right. Training broke 2 of them, and the edit gives 1 back."
    )
    assert not [each for each in test.dataframe if BASE in each.value]
    test = clean(test.button_group(key=f"ledger-stream-{run.plan.key}").set_value("101").run())
    shown = frame(test, BASE)
    assert shown["question"].tolist() == ["question 4"]
    assert shown[[BASE, "unedited", EDIT]].to_numpy().tolist() == [["base says", "b", "a"]]
    test = clean(test.selectbox(key=f"ledger-variant-{run.plan.key}").set_value("random 0").run())
    assert not [each for each in test.dataframe if BASE in each.value], "random 0 gives nothing back"


def test_a_proof_with_guards_shows_own_task_against_them(workspace: Workspace, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n}+{7 * n % 23}={n + 7 * n % 23}. " for n in range(16)))
    test = page(workspace)
    guards = [f"text: {text}, window: 24, stride: 12", f"rows: {tmp_path / 'test.jsonl'}, start: 6, limit: 4"]
    clean(test.multiselect(key="evaluate-guards").set_value(guards).run())
    finished(press(test, "Prove it"))
    table = frame(test, "95 % of the gain")
    asked = ["own task", "own task", "guard", "guard", "guard", "guard"]
    each = table.drop_duplicates(["question", "asked as", "metric"])
    assert list(each["asked as"]) == asked
    assert list(each["metric"]) == [
        "answer loss",
        "exact match",
        "cross-entropy",
        "KL from the unedited adapter",
        "answer loss",
        "exact match",
    ]
    own = newest_proof(workspace)
    assert own is not None
    (edit,) = table[
        (table["variant"] == EDIT) & (table["metric"] == "answer loss") & (table["asked as"] == "own task")
    ]["gain"]
    assert edit.startswith(f"{-evaluation_of(own).effect(EDIT, 'loss').mean:+.4f}")
    assert "Own task against guards" in [each.value for each in test.subheader]


def test_a_guard_that_names_no_question_is_a_message(workspace: Workspace) -> None:
    test = page(workspace)
    test.multiselect(key="evaluate-guards").set_value(["demo:text"]).run()
    assert any("names no question" in error.value for error in test.error)
    assert not test.exception


def test_plain_text_is_a_question_of_the_page(workspace: Workspace, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n}+{7 * n % 23}={n + 7 * n % 23}. " for n in range(16)))
    test = page(workspace)
    clean(test.button_group(key="evaluate-on").set_value("Plain text").run())
    test.text_input(key="evaluate-text").set_value(str(text))
    test.number_input(key="evaluate-text-limit").set_value(4)
    test.number_input(key="evaluate-text-window").set_value(24)
    clean(test.number_input(key="evaluate-text-stride").set_value(12).run())
    finished(press(test, "Prove it"))
    table = frame(test, "Δ KL from the unedited adapter")
    run = newest_proof(workspace)
    assert run is not None
    assert question_of(run).plan.stride == 12
    assert EDIT in list(table["variant"])
    assert "KL" not in table.set_index("variant")["verdict"][EDIT]
