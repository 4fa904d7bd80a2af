"""Every page opens on the demo, shows the method's numbers, and turns errors into messages."""

from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.workspace import Workspace
from surgery import decompose, open_adapter
from surgery.calibration import Encoding
from surgery.evaluate import BASELINE, Evaluation, Scores
from surgery.policy import POLICIES
from surgery.recipe import demo_plans
from surgery.sensitivity import Provenance, Sensitivity

APP = Path(__file__).resolve().parents[2] / "app"
PAGES = ("adapter", "geometry", "spectra", "surgery", "evaluate", "export")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def measured() -> Workspace:
    """The demo with made-up but fixed sensitivities."""
    adapter = open_adapter("demo:kinship")
    spectra = decompose(adapter)
    rng = np.random.default_rng(3)
    values = {name: rng.normal(0.001, 0.01, (16, s.rank)) for name, s in spectra.items()}
    provenance = Provenance(adapter.digest, "b", "e", Encoding(), tuple(spectra), "float32")
    base, calibration, evaluation = demo_plans("demo:kinship")
    return Workspace(adapter, spectra, base, calibration, evaluation, Sensitivity(values, np.ones(16), provenance))


def opened(page: str, workspace: Workspace | None = None) -> AppTest:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    if workspace is not None:
        test.session_state["workspace"] = workspace
    test.run()
    return test if page == "adapter" else test.switch_page(f"views/{page}.py").run()


def messages(test: AppTest) -> list[str]:
    """What the page refused, without the backslashes that keep its text plain."""
    return [element.value.replace("\\", "") for element in test.error]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_the_demo_without_an_error(page: str) -> None:
    test = opened(page)
    assert not test.exception
    assert messages(test) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_a_measured_demo_without_an_error(page: str, measured: Workspace) -> None:
    test = opened(page, measured)
    assert not test.exception
    assert messages(test) == []


def test_the_entry_shows_the_header_strip() -> None:
    test = opened("adapter")
    assert any("kinship" in element.value for element in test.markdown)


def test_the_adapter_page_counts_modules_and_edited_scalars(measured: Workspace) -> None:
    metrics = {m.label: m.value for m in opened("adapter", measured).metric}
    assert metrics["Modules"] == "210"
    assert metrics["Edited scalars"] == "960"


def test_a_folder_that_is_no_adapter_is_a_message_and_changes_nothing(measured: Workspace, tmp_path: Path) -> None:
    test = opened("adapter", measured)
    test.button_group(key="open-kind").set_value("Folder").run()
    test.text_input(key="open-path").set_value(str(tmp_path))
    next(b for b in test.button if b.label == "Open").click().run()
    assert not test.exception
    assert any("adapter_config.json" in text for text in messages(test))
    assert test.session_state["workspace"] == measured


def test_the_geometry_figure_holds_the_mean_squared_cosines(measured: Workspace) -> None:
    test = opened("geometry", measured)
    mean = next(m.value for m in test.metric if m.label == "Mean overlap")
    writers = [s.U[:, :4] for s in measured.spectra.values() if s.family == "o_proj"]
    pairs = [
        (np.linalg.svd(a.T @ b, compute_uv=False) ** 2).mean()
        for i, a in enumerate(writers)
        for j, b in enumerate(writers)
        if i != j
    ]
    assert float(mean) == pytest.approx(np.mean(pairs), abs=6e-4)


def test_families_of_different_width_are_refused_with_a_message(measured: Workspace) -> None:
    test = opened("geometry", measured)
    test.button_group(key="geometry-view").set_value("synergy").run()
    test.selectbox(key="geometry-second").set_value("gate_proj").run()
    assert not test.exception
    assert any("different dimensions" in text for text in messages(test))


def _prediction(test: AppTest) -> float:
    metric = next(m for m in test.metric if m.label == "Predicted Δ loss")
    return float(metric.value.split()[0])


def test_the_prediction_on_the_surgery_page_is_first_order_in_sigma(measured: Workspace) -> None:
    test = opened("surgery", measured)
    test.slider(key="knob-grad_direction-eta_suppress").set_value(1.0).run()
    expected = 0.0
    for name, spectrum in measured.spectra.items():
        if spectrum.family not in ("o_proj", "down_proj"):
            continue
        g = measured.sensitivity.values[name].mean(axis=0)
        unit = g / np.abs(g).mean()
        after = spectrum.sigma * np.where(unit > 0, np.exp(-unit), np.exp(-0.2 * unit))
        after *= spectrum.sigma.sum() / after.sum()
        expected += g @ (after - spectrum.sigma)
    assert _prediction(test) == pytest.approx(expected, abs=6e-5)
    assert test.session_state["workspace"].policy.eta_suppress == 1.0


def test_every_policy_can_be_chosen_and_keeps_the_page_whole(measured: Workspace) -> None:
    test = opened("surgery", measured)
    for name in reversed(POLICIES):
        test.selectbox[0].set_value(name).run()
        assert not test.exception, name
        assert messages(test) == [], name
        assert test.session_state["workspace"].policy.name == name


def test_a_gate_order_that_cannot_be_is_a_message(measured: Workspace) -> None:
    test = opened("surgery", measured)
    test.selectbox[0].set_value("smooth_abs").run()
    test.slider(key="knob-smooth_abs-sup").set_value(1.5).run()
    assert not test.exception
    assert any("align_mid" in text for text in messages(test))


def test_the_evaluate_page_calls_an_interval_that_holds_zero_noise(measured: Workspace) -> None:
    rng = np.random.default_rng(0)
    loss = rng.normal(1, 0.1, 40)
    exact = np.tile([0.0, 1.0], 20)
    answers = ("a",) * 40
    example = type("E", (), {"answer": "a"})()
    scores = {
        BASELINE: Scores(loss, exact, answers),
        "edit": Scores(loss - 0.05 + rng.normal(0, 0.01, 40), exact, answers),
        "random 0": Scores(loss + rng.normal(0, 0.05, 40) - 0.0, exact, answers),
    }
    proof = Evaluation(scores, (example,) * 40)
    test = opened("evaluate", measured.with_proof(measured.evaluation, proof))
    assert not test.exception
    table = next(d.value for d in test.dataframe if "verdict" in d.value)
    verdicts = dict(zip(table["variant"], table["verdict"], strict=True))
    assert verdicts["edit"] == "loss lower"
    assert verdicts["random 0"] == "within noise"


def test_the_export_page_writes_verifies_and_never_overwrites(measured: Workspace, tmp_path: Path) -> None:
    test = opened("export", measured)
    target = tmp_path / "edited"
    test.text_input[0].set_value(str(target))
    next(b for b in test.button if b.label == "Write and verify").click().run()
    assert not test.exception
    assert messages(test) == []
    assert sorted(file.name for file in target.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "recipe.yaml",
    ]
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    test.text_input[0].set_value(str(target))
    next(b for b in test.button if b.label == "Write and verify").click().run()
    assert any("exists already" in text for text in messages(test))
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before
