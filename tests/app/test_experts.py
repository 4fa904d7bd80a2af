"""Of a mixture of experts the figures show one expert, and say so; edits are of all modules."""

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.state.undo import History, Step
from app.state.workspace import Workspace
from surgery.edits import EditPlan
from surgery.policies import make_policy
from tests.app.conftest import workspace_of

EXPERTS, LAYERS = 300, 2
OUTSIDE = [f"model.layers.{layer}.self_attn.o_proj" for layer in range(LAYERS)]


def of_expert(expert: int) -> list[str]:
    return [
        f"model.layers.{layer}.mlp.experts.{expert}.{kind}"
        for layer in range(LAYERS)
        for kind in ("up_proj", "down_proj")
    ]


@pytest.fixture(scope="module")
def large() -> Workspace:
    names = [*OUTSIDE, *(name for expert in range(EXPERTS) for name in of_expert(expert))]
    found = workspace_of({name: [2.0 + at / 1000, 1.0] for at, name in enumerate(names)})
    return replace(
        found, history=History((Step("start", EditPlan(make_policy("grad_direction"), "residual", "none", 0.0)),))
    )


def spectra_script() -> None:
    import streamlit as st

    from app.experts import expert_picker
    from app.spectra import spectra_board, wanted_module

    expert_picker(st.session_state["workspace"].spectra, wanted_module())
    spectra_board()


def board_script() -> None:
    import streamlit as st

    from app.editing import board
    from app.experts import expert_picker

    expert_picker(st.session_state["workspace"].spectra)
    board()


def page(script: Any, workspace: Workspace, **state: Any) -> AppTest:
    test = AppTest.from_function(script, default_timeout=60)
    test.session_state["workspace"] = workspace
    for name, value in state.items():
        test.session_state[name.replace("_", "-")] = value
    return test.run()


def modules(test: AppTest) -> list[str]:
    assert not test.exception
    (found,) = test.get("bidi_component")
    return [module["name"] for module in json.loads(found.proto.json)["modules"]]


def test_the_figures_show_the_chosen_expert_and_what_lies_outside_and_the_page_says_so(large: Workspace) -> None:
    test = page(spectra_script, large)
    assert set(modules(test)) == {*OUTSIDE, *of_expert(0)}
    (told,) = [caption.value for caption in test.caption if "modules" in caption.value]
    assert "1,202 modules" in told
    assert "one of 300 experts" in told
    assert "6 modules" in told
    test.selectbox(key="expert").set_value(17).run()
    assert set(modules(test)) == {*OUTSIDE, *of_expert(17)}


def test_a_module_of_another_expert_that_is_asked_for_brings_its_expert(large: Workspace) -> None:
    wanted = of_expert(41)[3]
    test = page(spectra_script, large, spectra_open=(wanted, 1))
    assert test.selectbox(key="expert").value == 41
    (found,) = test.get("bidi_component")
    choice = json.loads(found.proto.json)["choice"]
    assert (choice["module"], choice["component"], choice["view"]) == (wanted, 1, "one")


def test_the_board_draws_one_expert_and_edits_and_foretells_all(large: Workspace) -> None:
    test = page(board_script, large)
    (found,) = test.get("bidi_component")
    data = json.loads(found.proto.json)
    drawn = [*OUTSIDE, *(name for name in of_expert(0) if name.endswith("down_proj"))]
    assert [module["name"] for module in data["modules"]] == drawn
    assert data["scalars"] == large.edit.scalars == 2 * (LAYERS + LAYERS * EXPERTS)
    gains = np.frombuffer(base64.b64decode(data["gains"]), dtype="<f4")
    np.testing.assert_allclose(
        gains, np.concatenate([large.edit.modules[name].gains for name in drawn]), rtol=1e-6
    )
    assert data["numbers"]["predicted"] == pytest.approx(
        sum(
            large.sensitivity.values[name].mean(axis=0) @ (module.sigma_after - module.sigma)
            for name, module in large.edit.modules.items()
        )
    )


def test_an_adapter_without_experts_is_shown_whole_and_asks_nothing(small: Workspace) -> None:
    test = page(spectra_script, small)
    assert len(modules(test)) == len(small.spectra)
    assert not test.selectbox
