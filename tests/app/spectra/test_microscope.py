"""The fold that looks inside a component: one pass in the background, stored, found again, and told as the library has it."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.spectra.choice import Choice
from app.spectra.microscope import OPEN
from app.spectra.microscope.payload import payload_of
from app.state import jobs
from app.state.workspace import Workspace
from surgery import decompose, open_adapter
from surgery.data import CalibrationPlan
from surgery.microscope import Subject, chosen_rows, load_look, look_file
from surgery.model import BaseChoice, attach
from surgery.sensitivity import calibrate
from tests.app.conftest import O0
from tests.app.spectra.conftest import SMALL, UNMEASURED
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.helpers.policies import spectrum as made_up

NAME, NUMBER = "model.layers.1.mlp.down_proj", 2


def subject_of(workspace: Workspace) -> Subject:
    assert workspace.sensitivity is not None
    return Subject(workspace.sensitivity, NAME, chosen_rows(workspace.sensitivity, NAME, NUMBER))


def page() -> None:
    """What the Spectra page does around the fold; notes what the component is given."""
    import streamlit as st

    from app.spectra import microscope
    from app.state import jobs
    from app.state.workspace import current

    def noted(*, key: str, data: object) -> None:
        st.session_state["drawn"] = data

    microscope._mount = noted
    for job in jobs.collect_finished():
        st.error(job.error or job.state)
    st.session_state.pop("drawn", None)
    microscope.microscope_panel(current(), *st.session_state["asked"])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("files")
    save_model(tiny_llama(), folder / "base")
    save_adapter(tiny_llama(), folder / "adapter")
    rows = [{"prompt": f"{a}+{b}=", "answer": f"{a + b}"} for a in range(4) for b in range(3)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    adapter = open_adapter(str(folder / "adapter"))
    base, plan = BaseChoice(str(folder / "base")), CalibrationPlan(str(folder / "rows.jsonl"), 12)
    spectra = decompose(adapter)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SURGERY_HOME", str(folder / "home"))
        with attach(adapter, spectra, base) as live:
            return Workspace(adapter, spectra, base, plan, sensitivity=calibrate(live, plan))


def opened(workspace: Workspace, asked: tuple[str, int] = (NAME, NUMBER), fold: bool = True) -> AppTest:
    test = AppTest.from_function(page, default_timeout=60)
    test.session_state["workspace"] = workspace
    test.session_state["asked"] = asked
    if fold:
        test.session_state[OPEN] = True
    return clean(test.run())


def clean(test: AppTest) -> AppTest:
    assert not test.exception, test.exception
    return test


def look_button(test: AppTest) -> Any:
    return next(found for found in test.button if found.label.startswith("Look inside"))


def finished(test: AppTest) -> AppTest:
    limit = time.monotonic() + 60
    while jobs.jobs().claims(test.session_state["job-owner"]) and time.monotonic() < limit:
        time.sleep(0.05)
        clean(test.run())
    return test


def test_a_look_runs_in_the_background_is_drawn_as_the_library_has_it_and_found_again(
    measured: Workspace, own_home: Path
) -> None:
    test = opened(measured)
    assert "drawn" not in test.session_state
    assert look_button(test).label == f"Look inside component {NUMBER}"
    clean(look_button(test).click().run())
    drawn = finished(test).session_state["drawn"]
    sensitivity = measured.sensitivity
    assert sensitivity is not None
    rows = chosen_rows(sensitivity, NAME, NUMBER)
    found = load_look(look_file(Subject(sensitivity, NAME, rows)))
    json.dumps(drawn, allow_nan=False)
    assert [row["number"] for row in drawn["rows"]] == [row + 1 for row in rows]
    for at, row in enumerate(drawn["rows"]):
        assert [token["share"] for token in row["tokens"]] == found.shares(at)[:, NUMBER].tolist()
        assert "".join(token["text"] for token in row["tokens"]).startswith("<u>")
        assert row["g"] == pytest.approx(sum(token["share"] for token in row["tokens"]), rel=1e-3)
    assert drawn["off"] is None
    assert drawn["determined"]
    assert [each["value"] for each in drawn["reads"]] == [each.value for each in found.readings(NUMBER)]
    writings = found.writings(NUMBER)
    assert writings is not None
    assert [each["share"] for each in drawn["writes"]] == [each.share for each in writings]
    again = opened(measured)
    assert again.session_state["drawn"] == drawn
    assert not [found for found in again.button if found.label.startswith("Look inside")]


def test_a_closed_fold_makes_nothing_and_one_that_cannot_look_says_why(
    measured: Workspace, own_home: Path
) -> None:
    closed = opened(measured, fold=False)
    assert not closed.button
    assert not closed.caption
    assert not opened(UNMEASURED, (O0, 0)).expander
    without = opened(SMALL, (O0, 0))  # no base model is chosen
    assert look_button(without).disabled
    assert "name the base" in without.caption[0].value


def test_a_damaged_look_is_made_again(measured: Workspace, own_home: Path) -> None:
    assert measured.sensitivity is not None
    file = look_file(subject_of(measured))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no look")
    test = opened(measured)
    assert not look_button(test).disabled
    clean(look_button(test).click().run())
    assert finished(test).session_state["drawn"]["component"] == NUMBER


def test_rows_that_changed_since_are_refused_as_a_message(measured: Workspace, own_home: Path) -> None:
    other = replace(measured, calibration=replace(measured.calibration, seed=5))
    test = opened(other)
    clean(look_button(test).click().run())
    assert "not those of the stored sensitivities" in finished(test).error[0].value


def test_what_differs_from_the_measurement_or_is_not_determined_is_said(
    measured: Workspace, own_home: Path
) -> None:
    sensitivity = measured.sensitivity
    assert sensitivity is not None
    test = opened(measured)
    clean(look_button(test).click().run())
    finished(test)
    found = load_look(look_file(subject_of(measured)))
    spectrum = measured.spectra[NAME]
    seen = replace(found.seen, shares=found.seen.shares * 1.1)
    assert payload_of(replace(found, seen=seen), NUMBER, sensitivity, spectrum)["off"] == pytest.approx(
        0.1, rel=1e-3
    )
    equal = made_up(NAME, [2.0, 1.0, 1.0, 0.0])
    assert [payload_of(found, k, sensitivity, equal)["determined"] for k in range(4)] == [
        True,
        False,
        False,
        False,
    ]


def test_the_page_shows_the_fold_for_the_component_in_hand_alone() -> None:
    from tests.app.spectra.conftest import page as whole
    from tests.app.spectra.conftest import send

    assert not whole(view="all").expander
    test = whole(view="all")
    send(test, vars(Choice(O0, component=1, view="one")))
    assert [fold.label.partition(":")[0] for fold in test.expander] == ["Inside the component"]
