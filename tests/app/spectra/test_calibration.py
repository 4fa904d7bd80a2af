"""The calibration panel: rows from anywhere, a time that was measured, a run that goes on, results used again."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.spectra.calibration_rows import kept_upload
from app.state import jobs
from app.state.jobs import Job
from app.state.workspace import Workspace, with_shipped
from surgery import decompose, open_adapter
from surgery.data import SAMPLED, CalibrationPlan, Encoding, calibration_rows
from surgery.errors import Cancelled, DataError
from surgery.files import demo_folder
from surgery.model import BaseChoice, attach
from surgery.progress import Control
from surgery.sensitivity import (
    CalibrationPace,
    Sensitivity,
    Spent,
    calibrate,
    calibration_slice,
    characters,
    known_pace,
    measurement_header,
    remember_pace,
    save_sensitivity,
    stored_measurements,
    stored_sensitivity_file,
)
from tests.helpers.limited_system import files_of_at_most
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.helpers.refusals import refusal

ROWS = [(f"{a}+{b}=", str(a + b)) for a in range(5) for b in range(5)]


def page() -> None:
    """What a page does around the panel."""
    import streamlit as st

    from app.spectra.calibration import calibration_panel
    from app.state import jobs
    from app.state.workspace import current

    for job in jobs.collect_finished():
        st.error(job.error or job.state)
    calibration_panel(current())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    save_model(tiny_llama(), folder / "base")
    save_adapter(tiny_llama(), folder / "adapter")
    named = [json.dumps({"prompt": p, "answer": a}) for p, a in ROWS]
    (folder / "rows.jsonl").write_text("\n".join([*named, '{"prompt": "1+1=", "answer": ""}', "{"]))
    (folder / "other.jsonl").write_text("\n".join(json.dumps({"question": p, "sum": a}) for p, a in ROWS))
    return folder


@pytest.fixture
def workspace(files: Path, own_home: Path) -> Workspace:
    adapter = open_adapter(str(files / "adapter"))
    plan = CalibrationPlan(str(files / "rows.jsonl"), 12, batch_size=2)
    return Workspace(adapter, decompose(adapter), BaseChoice(str(files / "base")), plan)


def opened(workspace: Workspace) -> AppTest:
    test = AppTest.from_function(page, default_timeout=60)
    test.session_state["workspace"] = workspace
    return clean(test.run())


def clean(test: AppTest) -> AppTest:
    assert not test.exception
    return test


def said(test: AppTest) -> str:
    """All that the panel tells, without the backslashes that keep its text plain."""
    kinds = (test.caption, test.success, test.info, test.error, test.markdown, test.text)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def button(test: AppTest, label: str) -> Any:
    return next(found for found in test.button if found.label == label)


def labels(test: AppTest) -> list[str]:
    return [found.label for found in test.button]


def labelled(elements: Any, label: str) -> Any:
    return next(found for found in elements if found.label == label)


def waiting(test: AppTest) -> bool:
    """Whether the page still has to collect a job."""
    return bool(jobs.jobs().claims(test.session_state["job-owner"]))


def finished(test: AppTest, seconds: float = 60) -> AppTest:
    """Run the page until its job is collected."""
    limit = time.monotonic() + seconds
    while waiting(test) and time.monotonic() < limit:
        time.sleep(0.1)
        clean(test.run())
    assert not waiting(test)
    return test


def expected(workspace: Workspace, plan: CalibrationPlan) -> Sensitivity:
    """The measurement by the library, and nothing of it left in the store."""
    with attach(workspace.adapter, workspace.spectra, workspace.base) as live:
        measured = calibrate(live, plan)
    stored_sensitivity_file(measured.provenance.key, plan.batch_size).unlink()
    return measured


def stop_after(workspace: Workspace, plan: CalibrationPlan, count: int) -> None:
    """Leave a part in the store, as a cancelled run does."""

    def progress(done: int, total: int) -> None:
        if done >= count:
            raise Cancelled

    with attach(workspace.adapter, workspace.spectra, workspace.base) as live, pytest.raises(Cancelled):
        calibrate(live, plan, base=workspace.base, control=Control(progress=progress))


def equal(first: Sensitivity, second: Sensitivity) -> bool:
    return first.provenance == second.provenance and all(
        np.array_equal(g, second.values[name]) for name, g in first.values.items()
    )


def test_measuring_says_what_was_measured_and_what_was_left_out_and_why(workspace: Workspace) -> None:
    test = opened(workspace)
    assert (
        "25 rows · fields prompt, answer · read as prompt → answer · 2 rows left out: 1 empty answer, 1 unreadable: line 26"
        in said(test)
    )
    assert "unknown until the first batch" in said(test)
    assert "Prompt\n" not in labels(test)
    button(test, "Calibrate with these settings").click()
    finished(clean(test.run()))
    measured = test.session_state["workspace"].sensitivity
    assert test.session_state["workspace"].calibration == workspace.calibration
    assert equal(measured, expected(workspace, workspace.calibration))
    assert "Measured on 12 examples" in said(test)
    assert f"mean calibration loss {measured.losses.mean():.4f}" in said(test)
    assert "2 rows left out: 1 empty answer, 1 unreadable." in said(test)


def test_a_part_can_be_resumed_and_ends_as_if_it_had_not_stopped(workspace: Workspace) -> None:
    whole = expected(workspace, workspace.calibration)
    stop_after(workspace, workspace.calibration, 6)
    test = opened(workspace)
    assert "unfinished, 6 of 12 examples" in said(test)
    assert labels(test).count("Resume (6 of 12 done)") == 2  # the plan's own, and the one in the list
    labelled(test.number_input, "Seed").set_value(4).run()
    assert "Calibrate with these settings" in labels(test)  # another plan begins from the start
    labelled(test.number_input, "Seed").set_value(0).run()
    button(test, "Resume (6 of 12 done)").click()
    finished(clean(test.run()))
    assert equal(test.session_state["workspace"].sensitivity, whole)
    assert [found.finished for found in stored_measurements(workspace.adapter.digest)] == [True]


def test_a_part_of_another_plan_is_resumed_from_the_list(workspace: Workspace) -> None:
    other = replace(workspace.calibration, seed=8, encoding=Encoding("plain"))
    whole = expected(workspace, other)
    stop_after(workspace, other, 4)
    test = opened(workspace)
    button(test, "Resume (4 of 12 done)").click()
    finished(clean(test.run()))
    assert test.session_state["workspace"].calibration == other
    assert equal(test.session_state["workspace"].sensitivity, whole)
    button(test, "Calibrate again").click().run()
    assert labelled(test.number_input, "Seed").value == 8


def test_a_stored_result_is_listed_used_and_deleted(workspace: Workspace) -> None:
    with attach(workspace.adapter, workspace.spectra, workspace.base) as live:
        first = calibrate(live, workspace.calibration, base=workspace.base)
        calibrate(live, replace(workspace.calibration, seed=5), base=replace(workspace.base, dtype="bfloat16"))
    test = opened(workspace)
    text = said(test)
    assert f"12 examples · {workspace.calibration.data} · chat · seed 0 · start 0 · batch 2 · float32" in text
    assert f"mean loss {first.losses.mean():.4f} · 2 rows left out: 1 empty answer, 1 unreadable" in text
    assert "This is measured already" in text
    by_use = {found.key: found for found in test.button if found.label == "Use"}
    key = f"use-{first.provenance.key}-2.safetensors"
    # the other one was measured on another dtype of the base
    assert {name: found.disabled for name, found in by_use.items()}.pop(key) is False
    assert sorted(found.disabled for found in by_use.values()) == [False, True]
    clean(by_use[key].click().run())
    assert equal(test.session_state["workspace"].sensitivity, first)
    assert test.session_state["workspace"].calibration == workspace.calibration
    clean(button(test, "Stored results (2)").click().run())
    button(test, "Stored results (2)").click()  # a test runs the whole page where a browser runs the dialog
    clean(test.button(key=key.replace("use-", "delete-")).click().run())
    assert len(stored_measurements(workspace.adapter.digest)) == 1
    assert test.session_state["workspace"].sensitivity is not None  # what is in use stays


def test_a_stored_result_is_protected_beside_the_slice_to_edit_for_and_let_go(workspace: Workspace) -> None:
    drawn = replace(workspace.calibration, labels=SAMPLED)
    with attach(workspace.adapter, workspace.spectra, workspace.base) as live:
        own = calibrate(live, workspace.calibration, base=workspace.base)
        other = calibrate(live, drawn, base=workspace.base)
    test = opened(workspace)
    at = f"{other.provenance.key}-2.safetensors"
    assert test.button(key=f"protect-{at}").disabled, "there is no slice to edit for yet"
    assert test.button(key=f"use-{at}").disabled, "answers drawn from the model say not where to go"
    clean(test.button(key=f"use-{own.provenance.key}-2.safetensors").click().run())
    clean(button(test, "Stored results (2)").click().run())
    button(test, "Stored results (2)").click()
    clean(test.button(key=f"protect-{at}").click().run())
    now: Workspace = test.session_state["workspace"]
    assert now.protected == (drawn,)
    assert equal(now.sensitivity.protected[0], other)
    assert now.recipe.seen == [workspace.calibration, drawn]


def test_answers_drawn_from_the_model_are_asked_for_in_the_form_and_protected(workspace: Workspace) -> None:
    drawn = replace(workspace.calibration, seed=3, labels=SAMPLED)
    own = expected(workspace, workspace.calibration)
    test = opened(workspace.with_sensitivity(workspace.calibration, own))
    button(test, "Calibrate again").click().run()
    labelled(test.checkbox, "Answers drawn from the model").check()
    labelled(test.number_input, "Seed").set_value(3)
    clean(
        button(test, "Calibrate again").click().run()
    )  # a test runs the whole page where a browser runs the dialog
    assert "kept beside the slice to edit for" in said(test)
    button(test, "Calibrate again").click()
    button(test, "Calibrate with these settings").click()
    finished(clean(test.run()))
    now: Workspace = test.session_state["workspace"]
    assert now.calibration == workspace.calibration
    assert equal(now.sensitivity, own)
    assert now.protected == (drawn,)
    assert equal(now.sensitivity.protected[0], expected(workspace, drawn))
    assert now.sensitivity.protected[0].provenance.sampled == 3


def test_drawn_answers_without_a_slice_to_edit_for_wait_in_the_store(workspace: Workspace) -> None:
    test = opened(workspace)
    labelled(test.checkbox, "Answers drawn from the model").check().run()
    assert "until there is a slice to edit for" in said(test)
    button(test, "Calibrate with these settings").click()
    finished(clean(test.run()))
    now: Workspace = test.session_state["workspace"]
    assert (now.sensitivity, now.protected, now.calibration) == (None, (), workspace.calibration)
    assert [found.plan.labels for found in stored_measurements(workspace.adapter.digest)] == [SAMPLED]
    assert button(test, "Protect the stored result").disabled
    clean(labelled(test.checkbox, "Answers drawn from the model").uncheck().run())
    assert "Calibrate with these settings" in labels(test)


def test_a_broken_off_measurement_of_drawn_answers_does_not_become_what_is_edited_for(
    workspace: Workspace,
) -> None:
    drawn = replace(workspace.calibration, labels=SAMPLED)
    own, whole = expected(workspace, workspace.calibration), expected(workspace, drawn)
    stop_after(workspace, drawn, 4)
    test = opened(workspace.with_sensitivity(workspace.calibration, own))
    clean(button(test, "Stored results (1)").click().run())
    button(test, "Stored results (1)").click()
    button(test, "Resume (4 of 12 done)").click()
    finished(clean(test.run()))
    now: Workspace = test.session_state["workspace"]
    assert equal(now.sensitivity, own)
    assert equal(now.sensitivity.protected[0], whole)


def test_the_time_is_that_of_earlier_runs(workspace: Workspace) -> None:
    plan, base = workspace.calibration, workspace.base
    with attach(workspace.adapter, workspace.spectra, base) as live:
        slice_ = calibration_slice(live, plan)
        tokens = sum(example.length for example in slice_.examples)
        remember_pace(base, plan, calibration_rows(plan), slice_, live.base.tokenizer, Spent(tokens, 40.0))
    assert "Time: about 40 s once the base model is loaded" in said(opened(workspace))
    test = opened(workspace)
    labelled(test.number_input, "Examples").set_value(24).run()
    rows = calibration_rows(replace(plan, examples=24))
    pace = known_pace(base, plan)
    assert isinstance(pace, CalibrationPace)
    assert f"Time: about {pace.seconds(24, characters(rows)):.0f} s" in said(test)
    labelled(test.selectbox, "Template").set_value("plain").run()
    assert "unknown until the first batch" in said(test)
    # a part says how many tokens it has left
    stop_after(workspace, plan, 6)
    left = sorted((example.length for example in slice_.examples), reverse=True)[6:]
    remember_pace(base, plan, calibration_rows(plan), slice_, live.base.tokenizer, Spent(tokens, 40.0))
    assert f"Time: about {40 * sum(left) / tokens:.0f} s" in said(opened(workspace))


def test_rows_of_other_fields_are_measured_by_their_names(workspace: Workspace, files: Path) -> None:
    test = opened(workspace)
    labelled(test.text_input, "File").set_value(str(files / "other.jsonl")).run()
    assert "the rows have 'question', 'sum'" in said(test)
    assert button(test, "Calibrate with these settings").disabled
    labelled(test.text_area, "Prompt field").set_value("{question} ?").run()
    labelled(test.text_area, "Answer field").set_value("sum").run()
    assert not button(clean(test), "Calibrate with these settings").disabled
    button(test, "Calibrate with these settings").click()
    finished(clean(test.run()))
    now = test.session_state["workspace"]
    plan = CalibrationPlan(
        str(files / "other.jsonl"), 12, batch_size=2, prompt_field="{question} ?", answer_field="sum"
    )
    assert now.calibration == plan
    assert {row.prompt for row in calibration_rows(plan)} < {f"{p} ?" for p, _ in ROWS}
    clean(button(test, "Stored results (1)").click().run())
    assert "{question} ? → sum" in said(test)
    assert now.recipe.calibration.prompt_field == "{question} ?"


def test_the_format_of_rows_is_shown_and_can_be_changed(workspace: Workspace, tmp_path: Path) -> None:
    talk = [("user", "1+1="), ("assistant", "2"), ("user", "and 1?"), ("assistant", "3")]
    messages = [{"role": role, "content": text} for role, text in talk]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"messages": messages, "text": "1+1=2"}]))
    test = opened(replace(workspace, calibration=replace(workspace.calibration, data=str(file), examples=1)))
    assert "1 rows · fields messages, text · read as conversations (messages, ShareGPT)" in said(clean(test))
    labelled(test.selectbox, "Answers of a conversation").set_value("all").run()
    assert "2 rows · fields messages, text · read as conversations" in said(clean(test))
    labelled(test.selectbox, "Format of the rows").set_value("text").run()
    assert "1 rows · fields messages, text · read as texts, scored whole" in said(clean(test))
    labelled(test.selectbox, "Format of the rows").set_value("fields").run()
    labelled(test.text_area, "Prompt field").set_value("{messages.0.content}").run()
    labelled(test.text_area, "Answer field").set_value("messages.1.content").run()
    assert "read as {messages.0.content} → messages.1.content" in said(clean(test))
    labelled(test.text_area, "Prompt field").set_value("{").run()
    assert "single '{'" in said(test)


def test_uploaded_rows_are_kept_so_that_a_recipe_can_name_them(workspace: Workspace, files: Path) -> None:
    test = opened(workspace)
    labelled(test.get("button_group"), "Rows from").set_value("Upload").run()
    assert "Name the rows to measure." in said(test)
    content = (files / "rows.jsonl").read_bytes()
    test.file_uploader[0].set_value(("mine.jsonl", content, "application/json")).run()
    assert "25 rows · fields prompt, answer" in said(test)
    button(test, "Calibrate with these settings").click()
    finished(clean(test.run()))
    kept = Path(test.session_state["workspace"].calibration.data)
    assert kept.read_bytes() == content
    assert kept.parent.name == "uploads"


def test_an_upload_is_kept_whole_or_not_at_all(own_home: Path) -> None:
    content = b'{"prompt": "2+2=", "answer": "4"}\n' * 9
    with files_of_at_most(100):
        refusal(DataError, kept_upload, content, "mine.jsonl")
    assert list((own_home / "uploads").iterdir()) == []
    kept = Path(kept_upload(content, "mine.jsonl"))
    for name in ("a.csv", "a.json.gz", "A.PARQUET", "a.b"):
        suffix = {"a.b": ".jsonl"}.get(name, name[1:].lower())
        assert kept_upload(content, name).endswith(suffix)
    kept.write_bytes(content[:100])  # as a version that wrote in place left it when it was killed
    assert kept_upload(content, "mine.jsonl") == str(kept)
    assert kept.read_bytes() == content


def test_a_dataset_that_is_not_here_is_refused_by_the_run_with_the_way_on(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def offline(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    test = opened(workspace)
    labelled(test.get("button_group"), "Rows from").set_value("Hub dataset").run()
    labelled(test.text_input, "Dataset").set_value("owner/name").run()
    labelled(test.text_input, "Configuration").set_value("main").run()
    assert "not on this machine yet" in said(test)
    button(test, "Calibrate with these settings").click()
    finished(clean(test.run()))
    assert "'owner/name' is not in the cache, and the hub cannot be reached" in said(test)
    labelled(test.text_input, "Dataset").set_value("no such name").run()
    assert "names no dataset of the hub" in said(clean(test))
    assert button(test, "Calibrate with these settings").disabled


def test_a_folder_with_a_copy_of_a_dataset_is_read_by_split(workspace: Workspace, files: Path) -> None:
    test = opened(workspace)
    labelled(test.get("button_group"), "Rows from").set_value("Hub dataset").run()
    labelled(test.text_input, "Dataset").set_value(str(files)).run()
    labelled(test.text_input, "Split").set_value("rows").run()
    assert "25 rows" in said(clean(test))


def test_demo_slices_that_prove_an_edit_are_not_offered(workspace: Workspace) -> None:
    test = opened(workspace)
    labelled(test.get("button_group"), "Rows from").set_value("Demo slice").run()
    offered = labelled(test.selectbox, "Slice").options
    assert "demo:kinship/calibration" in offered
    assert not [name for name in offered if name.endswith(("/test", "/confirmation"))]
    labelled(test.selectbox, "Slice").set_value("demo:kinship/tuning").run()
    assert "fields prompt, answer" in said(clean(test))


@pytest.mark.parametrize("content", ["", "[1]\n", "\x00"])
def test_files_without_rows_are_a_message(workspace: Workspace, tmp_path: Path, content: str) -> None:
    file = tmp_path / "*odd* $name$.jsonl"
    file.write_text(content)
    test = opened(replace(workspace, calibration=replace(workspace.calibration, data=str(file))))
    assert test.error
    assert "\\*odd\\*" in test.error[0].value
    assert button(test, "Calibrate with these settings").disabled


def test_without_a_base_model_the_panel_asks_for_one_in_place(workspace: Workspace) -> None:
    stop_after(workspace, workspace.calibration, 6)
    test = opened(replace(workspace, base=None))
    assert button(test, "Resume (6 of 12 done)").disabled
    labelled(test.text_input, "Model folder, GGUF file or hub id").set_value(workspace.base.location)
    clean(button(test, "Use this base").click().run())
    assert not button(test, "Resume (6 of 12 done)").disabled


def test_the_pace_of_a_resumed_job_counts_only_what_it_did_itself() -> None:
    job = Job("calibration")
    job.begin("measuring")
    job.resume(60, 100)
    assert job.seconds_left is None
    job.step_started = time.monotonic() - 10
    job.count(80, 100)
    assert job.seconds_left == pytest.approx(10, rel=0.01)
    job.begin("next")
    assert job.resumed_from == 0


@pytest.fixture
def ships(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sensitivity:
    """What ships with a demo that is the workspace's adapter: the measurement of its plan; the store is empty."""
    with attach(workspace.adapter, workspace.spectra, workspace.base) as live:
        measured = calibrate(live, workspace.calibration, base=workspace.base)
    (found,) = stored_measurements(workspace.adapter.digest)
    folder = tmp_path / "demo" / "tiny"
    shutil.copytree(workspace.adapter.source, folder)
    found.file.rename(folder / "sensitivity.safetensors")
    monkeypatch.setattr("surgery.files.demo.DEMO_FOLDER", folder.parent)
    return measured


def test_what_ships_is_taken_up_says_so_and_is_replaced_with_one_click(
    workspace: Workspace, ships: Sensitivity
) -> None:
    taken = with_shipped(workspace)
    assert taken.sensitivity.shipped
    assert equal(taken.sensitivity, ships)
    test = opened(taken)
    assert "Shipped with the demo, measured on 12 examples; mean calibration loss" in said(test)
    button(test, "Calibrate again").click()
    finished(clean(test.run()))
    own = test.session_state["workspace"].sensitivity
    assert not own.shipped
    assert equal(own, ships)
    assert test.session_state["workspace"].calibration == workspace.calibration
    assert [found.finished for found in stored_measurements(workspace.adapter.digest)] == [True]
    assert "Shipped" not in said(test)
    assert "Measured on 12 examples" in said(test)


def test_what_ships_may_be_replaced_by_a_measurement_with_other_settings(
    workspace: Workspace, ships: Sensitivity
) -> None:
    test = opened(with_shipped(workspace))
    clean(button(test, "Other settings").click().run())
    assert labelled(test.number_input, "Examples").value == 12
    assert "Calibrate with these settings" in labels(test)


def test_what_ships_is_listed_for_use_and_not_for_deletion(workspace: Workspace, ships: Sensitivity) -> None:
    test = opened(workspace)  # nothing is taken up: the list is open
    assert "shipped · 12 examples" in said(test)
    assert "ships with the demo" in said(test)
    assert "Delete" not in labels(test)
    clean(button(test, "Use").click().run())
    assert test.session_state["workspace"].sensitivity.shipped


def test_what_ships_is_taken_up_only_on_its_own_base_and_rows(workspace: Workspace, ships: Sensitivity) -> None:
    on_gpu = workspace.with_base(replace(workspace.base, device="cuda"))
    assert with_shipped(on_gpu).sensitivity is not None, "where the base runs does not change what was measured"
    unplanned = with_shipped(replace(workspace, calibration=None))
    assert unplanned.sensitivity.shipped
    assert unplanned.calibration == workspace.calibration
    for other in (
        replace(workspace, base=None),
        workspace.with_base(replace(workspace.base, dtype="bfloat16")),
        workspace.with_base(BaseChoice("another/base")),
        replace(workspace, calibration=replace(workspace.calibration, seed=1)),
        replace(workspace, calibration=replace(workspace.calibration, encoding=Encoding("plain"))),
    ):
        assert with_shipped(other) is other
    measured = replace(workspace, sensitivity=replace(ships, rows="mine"))
    assert with_shipped(measured) is measured


def test_a_damaged_file_that_ships_leaves_the_page_as_without_one(
    workspace: Workspace, ships: Sensitivity
) -> None:
    (file,) = demo_folder("demo:tiny").glob("sensitivity.*")
    kept = file.read_bytes()
    for data in (b"\x08" * 40, kept[:200], kept[:-8]):
        file.write_bytes(data)
        assert with_shipped(workspace) is workspace


def test_a_stored_result_without_inputs_is_measured_again_by_the_button_that_would_have_used_it(
    workspace: Workspace,
) -> None:
    with attach(workspace.adapter, workspace.spectra, workspace.base) as live:
        first = calibrate(live, workspace.calibration, base=workspace.base)
    (stored,) = stored_measurements(workspace.adapter.digest)
    assert stored.inputs
    about = measurement_header(workspace.calibration, workspace.base, first.provenance, first.left_out)
    save_sensitivity(replace(first, inputs=None, answer_tokens=None), stored.file, about)
    test = opened(workspace)
    assert "without functional energy" in said(test)
    assert "This is measured already" not in said(test)
    clean(button(test, "Calibrate with these settings").click().run())
    found = finished(test).session_state["workspace"].sensitivity
    assert found.inputs is not None
    assert equal(found, first)
