"""The comparison with the base weights runs on a real base model and shows what an independent one finds."""

import time
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.state.workspace import Workspace
from surgery import decompose, open_adapter
from surgery.model import BaseChoice
from tests.app.views.test_pages import APP
from tests.helpers.models import save_adapter, save_model, tiny_llama, tiny_tokenizer


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    model = tiny_llama()
    base = save_model(model, tmp_path / "base", tiny_tokenizer())
    adapter = open_adapter(save_adapter(model, tmp_path / "adapter"))
    return Workspace(adapter, decompose(adapter), BaseChoice(str(base)))


def test_the_base_weights_are_compared_in_the_background_and_shown(workspace: Workspace) -> None:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["workspace"] = workspace
    test.run()
    test.switch_page("views/geometry.py").run()
    test.selectbox(key="intruder-family").set_value("down_proj").run()
    next(button for button in test.button if button.label == "Compare with the base").click().run()
    deadline = time.monotonic() + 60
    while "intruders-result" not in test.session_state and time.monotonic() < deadline:
        time.sleep(0.2)
        test.run()
    assert not test.exception
    found = test.session_state["intruders-result"]
    assert not found.left_out
    assert [capture.name for capture in found.captures] == [
        name for name, spectrum in workspace.spectra.items() if spectrum.family == "down_proj"
    ]
    weights = dict(tiny_llama().named_parameters())
    for capture, intruders in zip(found.captures, found.intruders, strict=True):
        spectrum = workspace.spectra[capture.name]
        W = weights[f"{capture.name}.weight"].double().numpy()
        U, _, Vt = np.linalg.svd(W, full_matrices=False)
        top = capture.top
        np.testing.assert_allclose(capture.output_share, ((U[:, :top].T @ spectrum.U) ** 2).sum(axis=0), atol=1e-5)
        np.testing.assert_allclose(capture.input_share, ((Vt[:top] @ spectrum.V) ** 2).sum(axis=0), atol=1e-5)
        tuned = W + (spectrum.U * spectrum.sigma) @ spectrum.V.T
        strongest = np.linalg.svd(tuned)[0][:, : intruders.cosine.size]
        np.testing.assert_allclose(intruders.cosine, np.abs(U.T @ strongest).max(axis=0), atol=1e-4)
    assert any("Intruders: of the ten strongest" in caption.value for caption in test.caption)


def test_without_a_base_the_panel_asks_for_it_in_place(workspace: Workspace) -> None:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["workspace"] = workspace.with_base(None)
    test.run()
    test.switch_page("views/geometry.py").run()
    field = next(field for field in test.text_input if field.label == "Model folder, GGUF file or hub id")
    field.set_value(workspace.base.location)
    next(button for button in test.button if button.label == "Use this base").click().run()
    assert not test.exception
    assert test.session_state["workspace"].base == workspace.base
    assert "Compare with the base" in [button.label for button in test.button]
