"""Every page opens on the demo, shows the method's numbers, and turns errors into messages."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.editing.tour import STOPS
from app.state.workspace import Workspace
from surgery import decompose, open_adapter
from surgery.data import Encoding
from surgery.evaluation import BASELINE
from surgery.model import BaseChoice
from surgery.policies import POLICIES
from surgery.recipes import demo_plans
from surgery.sensitivity import Provenance, Sensitivity
from tests.helpers.models import save_adapter, tiny_llama
from tests.helpers.policies import with_protected, with_some_q
from tests.helpers.proofs import evaluation_of, kept_proof, simple

APP = Path(__file__).resolve().parents[3] / "app"
PAGES = ("adapter", "geometry", "many", "spectra", "surgery", "evaluate", "export", "paper")


@pytest.fixture(scope="module")
def measured() -> Workspace:
    """The demo with made-up but fixed sensitivities and second moments of inputs."""
    adapter = open_adapter("demo:kinship")
    spectra = decompose(adapter)
    rng = np.random.default_rng(3)
    values = {name: rng.normal(0.001, 0.01, (16, s.rank)) for name, s in spectra.items()}
    provenance = Provenance(adapter.digest, "b", "e", Encoding(), tuple(spectra), "float32")
    base, calibration, evaluation = demo_plans("demo:kinship")
    sensitivity = with_some_q(Sensitivity(values, np.ones(16), provenance))
    return Workspace(adapter, spectra, base, calibration, evaluation, sensitivity)


def opened(page: str, workspace: Workspace | None = None) -> AppTest:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    if workspace is not None:
        test.session_state["workspace"] = workspace
    test.run()
    return test if page == "adapter" else test.switch_page(f"views/{page}.py").run()


def board(test: AppTest) -> dict[str, Any]:
    """What the board on the page was given."""
    (found,) = test.get("bidi_component")
    return json.loads(found.proto.json)


def send(test: AppTest, acts: Any, arm: Any = None) -> AppTest:
    """Run the page again as a browser does that reports these acts from the board."""
    (found,) = test.get("bidi_component")
    states = test._tree.get_widget_states()
    states.widgets.add(id=found.proto.id, json_value=json.dumps({"acts": acts}))
    if arm is not None:
        payload = json.dumps([{"event": "arm", "value": arm}])
        states.widgets.add(id=f"$$STREAMLIT_INTERNAL_KEY_{found.proto.id}__events", json_trigger_value=payload)
    return test._run(states)


def act(test: AppTest, **act: Any) -> AppTest:
    """One act with an id that the page has not seen."""
    last = test.session_state.get("board-answered", 0)
    return send(test, [{"id": last + 1, **act}])


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


@pytest.mark.parametrize(("dora", "said"), [(True, 1), (False, 0)])
@pytest.mark.parametrize("page", ["geometry", "spectra"])
def test_pages_of_directions_say_that_those_of_dora_are_before_normalisation(dora, said, page, tmp_path):
    adapter = open_adapter(save_adapter(tiny_llama(), tmp_path / "adapter", targets=["o_proj"], use_dora=dora))
    test = opened(page, Workspace(adapter, decompose(adapter), None, None, None, None))
    assert not test.exception
    assert sum("update ΔW before normalisation" in info.value for info in test.info) == said


def test_the_adapter_page_tells_dora_and_its_note(tmp_path):
    adapter = open_adapter(save_adapter(tiny_llama(), tmp_path / "adapter", targets=["o_proj"], use_dora=True))
    test = opened("adapter", Workspace(adapter, decompose(adapter), None, None, None, None))
    assert any(" · DoRA in float32 · " in caption.value for caption in test.caption)
    assert any("update before normalisation" in info.value for info in test.info)


def test_the_entry_shows_the_header_strip() -> None:
    test = opened("adapter")
    assert any("kinship" in element.value for element in test.markdown)
    assert any("calibration: 128 examples, shipped" in element.value for element in test.markdown)


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


def test_the_geometry_map_tells_the_mean_squared_cosines(measured: Workspace) -> None:
    test = opened("geometry", measured)
    writers = [s.U[:, :4] for s in measured.spectra.values() if s.family == "o_proj"]
    pairs = [
        (np.linalg.svd(a.T @ b, compute_uv=False) ** 2).mean()
        for i, a in enumerate(writers)
        for j, b in enumerate(writers)
        if i != j
    ]
    data = board(test)
    told = data["table"]["panels"][0]["summary"]["overlap"][data["choice"]["k"] - 1]
    assert told["mean"] == pytest.approx(np.mean(pairs), abs=1e-6)


def test_families_of_different_width_are_refused_with_a_message(measured: Workspace) -> None:
    test = opened("geometry", measured)
    (found,) = test.get("bidi_component")
    states = test._tree.get_widget_states()
    choice = {"view": "synergy", "second": "gate_proj", "serial": 3}
    states.widgets.add(id=found.proto.id, json_value=json.dumps({"choice": choice}))
    test._run(states)
    assert not test.exception
    data = board(test)
    assert "576 and 1536 dimensions" in data["trouble"]
    assert (data["serial"], data["table"], data["choice"]["view"]) == (3, None, "synergy")
    assert test.query_params["second"] == "gate_proj"


def test_an_address_opens_its_view_of_the_geometry_page(measured: Workspace) -> None:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["workspace"] = measured
    test.run()
    test.query_params.update({"view": "synergy", "k": "2", "side": "nonsense", "cell": "0,3,3"})
    test.switch_page("views/geometry.py").run()
    assert not test.exception
    data = board(test)
    assert (data["choice"]["view"], data["choice"]["k"], data["choice"]["side"]) == ("synergy", 2, "output")
    left, right = (measured.spectra[f"model.layers.3.{path}"] for path in ("self_attn.o_proj", "mlp.down_proj"))
    cosines = np.linalg.svd(left.U[:, :2].T @ right.U[:, :2], compute_uv=False)
    assert np.cos(np.radians(data["detail"]["angles"])) == pytest.approx(cosines, abs=1e-9)


def test_an_adapter_that_is_compared_again_is_read_again(tmp_path: Path) -> None:
    def compared(test: AppTest) -> float:
        test.text_input(key="geometry-other-path").set_value(str(folder)).run()
        next(button for button in test.button if button.label == "Compare").click().run()
        assert not test.exception
        assert messages(test) == []
        return board(test)["table"]["panels"][0]["summary"]["principal"]["mean"]

    model = tiny_llama()
    first = open_adapter(save_adapter(model, tmp_path / "first"))
    folder = save_adapter(model, tmp_path / "second", seed=5)
    test = opened("geometry", Workspace(first, decompose(first)))
    assert compared(test) < 0.999
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "first", folder)
    assert compared(test) == pytest.approx(1.0, abs=1e-3)


def test_the_prediction_on_the_surgery_page_is_first_order_in_sigma(measured: Workspace) -> None:
    test = act(opened("surgery", measured), type="knob", knob="eta_suppress", value=1.0)
    expected = 0.0
    for name, spectrum in measured.spectra.items():
        if spectrum.family not in ("o_proj", "down_proj"):
            continue
        g = measured.sensitivity.values[name].mean(axis=0)
        unit = g / np.abs(g).mean()
        after = spectrum.sigma * np.where(unit > 0, np.exp(-unit), np.exp(-0.2 * unit))
        after *= spectrum.sigma.sum() / after.sum()
        expected += g @ (after - spectrum.sigma)
    assert board(test)["numbers"]["predicted"] == pytest.approx(expected, rel=1e-9)
    assert test.session_state["workspace"].plan.policy.eta_suppress == 1.0


def test_every_policy_can_be_chosen_and_keeps_the_page_whole(measured: Workspace) -> None:
    beside = with_protected(measured.sensitivity)
    test = opened(
        "surgery", replace(measured, sensitivity=beside, protected=(replace(measured.calibration, seed=1),))
    )
    for name in reversed(POLICIES):
        act(test, type="policy", value=name)
        assert not test.exception, name
        assert messages(test) == [], name
        assert test.session_state["workspace"].plan.policy.name == name
        data = board(test)
        assert data["policy"] == name
        assert data["answered"] == test.session_state["board-answered"]
        assert data["scalars"] == 960


def test_without_a_calibration_policies_that_need_none_are_offered(measured: Workspace) -> None:
    test = opened("surgery", replace(measured, sensitivity=None))
    assert not test.get("bidi_component")
    assert "Calibrate with these settings" in [button.label for button in test.button]
    test.button(key="free-rank").click().run()
    assert not test.exception
    assert board(test)["policy"] == "rank"
    assert board(test)["numbers"]["predicted"] is None


def test_a_gate_order_that_cannot_be_is_a_message(measured: Workspace) -> None:
    test = act(opened("surgery", measured), type="policy", value="smooth_abs")
    act(test, type="knob", knob="sup", value=1.5)
    assert not test.exception
    assert any("align_mid" in text for text in messages(test))
    assert test.session_state["workspace"].plan.policy.sup == 0.8
    assert messages(act(test, type="knob", knob="sup", value=0.5)) == []


def test_acts_are_carried_out_in_order_and_once_and_a_refusal_stops_none_of_them(measured: Workspace) -> None:
    sent = [
        {"id": 3, "type": "policy", "value": "abs_select"},
        {"id": 4, "type": "knob", "knob": "amp", "value": 99},
        {"id": 5, "type": "knob", "knob": "amp", "value": 2.0},
    ]
    test = send(opened("surgery", measured), sent)
    assert test.session_state["workspace"].plan.policy.amp == 2.0
    assert any("amp" in text for text in messages(test))
    assert board(test)["answered"] == 5
    send(test, [*sent, {"id": 6, "type": "energy", "value": "none"}])  # the browser repeats what was under way
    history = test.session_state["workspace"].history
    assert [step.label for step in history.steps] == ["start", "policy abs_select", "amp 2.0", "energy none"]
    assert messages(test) == []


@pytest.mark.parametrize(
    "acts",
    [
        None, {}, [], 5, "acts", True, [None], [5], ["x"], [[1]], [{}], {"id": 1, "type": "forget"},
        [{"id": None, "type": "forget"}], [{"id": "1", "type": "forget"}], [{"id": 0.5, "type": "forget"}],
        [{"type": "energy", "value": "none"}], [{"id": -1, "type": "energy", "value": "none"}],
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_list_of_acts_is_ignored(measured: Workspace, acts: Any) -> None:
    test = send(opened("surgery", measured), acts)
    assert not test.exception
    assert test.session_state["workspace"].plan == measured.plan


@pytest.mark.parametrize("arm", ["nothing", "seed", "norm", 5, True, [1], {"a": 1}], ids=str)
def test_only_a_knob_that_slides_can_be_armed(measured: Workspace, arm: Any) -> None:
    test = send(opened("surgery", measured), [], arm)
    assert not test.exception
    assert board(test)["table"] is None


def test_an_armed_knob_brings_its_table_once_and_its_key_holds_until_something_else_changes(
    measured: Workspace,
) -> None:
    test = send(opened("surgery", measured), [], "eta_suppress")
    table = board(test)["table"]
    assert table["knob"] == "eta_suppress"
    assert len(table["numbers"]) == 81
    act(test, type="knob", knob="eta_suppress", value=1.0)
    data = board(test)
    assert data["table"] is None
    assert data["tableKeys"]["eta_suppress"] == table["key"]
    assert table["numbers"][10] == pytest.approx(data["numbers"])
    act(test, type="knob", knob="eta_enhance", value=1.0)
    assert board(test)["tableKeys"]["eta_suppress"] != table["key"]


def test_undo_redo_and_a_jump_move_through_the_plans(measured: Workspace) -> None:
    test = opened("surgery", measured)
    act(test, type="policy", value="abs_select")
    act(test, type="knob", knob="amp", value=2.0)
    plans = [step.plan for step in test.session_state["workspace"].history.steps]

    def present() -> Any:
        assert not test.exception
        return test.session_state["workspace"].plan

    act(test, type="undo")
    assert present() == plans[1]
    assert {knob["name"]: knob["value"] for knob in board(test)["knobs"]}["amp"] == 1.25
    act(test, type="undo")
    assert present() == plans[0]
    assert (board(test)["at"], board(test)["steps"], board(test)["step"]) == (0, 3, "start")
    act(test, type="redo")
    assert present() == plans[1]
    next(button for button in test.button if button.label == "History").click().run()
    test.button(key=f"step-{len(plans) - 1}").click().run()
    assert present() == plans[2]
    assert (board(test)["at"], board(test)["step"]) == (2, "amp 2.0")


def test_all_families_are_one_click_away_and_the_button_goes_once_they_are_chosen(measured: Workspace) -> None:
    test = opened("surgery", measured)
    test.button(key="all-families").click().run()
    assert not test.exception
    plan = test.session_state["workspace"].plan
    assert plan.scope == "all"
    assert not [button for button in test.button if button.key == "all-families"]
    assert test.session_state["workspace"].edit.scalars == sum(s.rank for s in measured.spectra.values())
    act(test, type="undo")
    assert test.session_state["workspace"].plan.scope == measured.plan.scope
    assert [button for button in test.button if button.key == "all-families"]


def test_the_scope_picker_selects_by_name_by_kind_and_by_expression(measured: Workspace) -> None:
    o_proj, down_proj = (next(n for n in measured.spectra if n.endswith(kind)) for kind in ("o_proj", "down_proj"))
    by_hand = measured.with_edit("by hand", manual={o_proj: {0: 0.5}, down_proj: {0: 0.5}})
    test = opened("surgery", by_hand)

    def picker() -> None:
        """Opens it, or keeps it open in the next run: a test runs the whole page where a browser runs the dialog."""
        next(button for button in test.button if button.label.startswith("Scope:")).click()

    def plan() -> Any:
        assert not test.exception
        return test.session_state["workspace"].plan

    picker()
    test.run()
    picker()
    test.button(key="scope-gate-up").click().run()
    assert (plan().scope, plan().manual) == ("gate-up", {})
    assert {module["family"] for module in board(test)["modules"]} == {"gate_proj", "up_proj"}
    act(test, type="undo")
    assert plan() == by_hand.plan
    picker()
    test.run()
    picker()
    test.text_input(key="scope-text").set_value("(").run()
    assert test.button(key="scope-by-text").disabled
    picker()
    test.text_input(key="scope-text").set_value(r"layers\.0\..*o_proj").run()
    picker()
    test.button(key="scope-by-text").click().run()
    assert plan().scope == r"layers\.0\..*o_proj"
    assert list(plan().manual) == [o_proj]
    picker()
    test.run()
    picker()
    test.button_group(key="scope-families").set_value(["q_proj", "v_proj"]).run()
    picker()
    test.button(key="scope-by-kind").click().run()
    assert {module["family"] for module in board(test)["modules"]} == {"q_proj", "v_proj"}
    assert len(board(test)["modules"]) == 60


def test_a_kept_recipe_can_be_opened_copied_and_dropped(measured: Workspace) -> None:
    test = act(opened("surgery", measured), type="policy", value="abs_select")
    next(field for field in test.text_input if field.label == "Name").set_value("mine")
    next(button for button in test.button if button.label == "Keep").click().run()
    act(test, type="policy", value="scale")
    test.button(key="open-mine").click().run()
    assert test.session_state["workspace"].plan.policy.name == "abs_select"
    test.button(key="copy-mine").click().run()
    assert list(test.session_state["workspace"].shelf) == ["mine", "mine copy"]
    test.button(key="drop-mine").click().run()
    assert list(test.session_state["workspace"].shelf) == ["mine copy"]
    assert not test.exception


def test_the_tour_walks_through_its_steps_and_gives_the_plan_back(measured: Workspace) -> None:
    test = act(opened("surgery", measured), type="policy", value="scale")
    before = test.session_state["workspace"].plan
    next(button for button in test.button if button.label == "Tour").click().run()
    for at in range(len(STOPS)):
        assert not test.exception
        assert messages(test) == []
        assert any(f"{at + 1} of {len(STOPS)}" in text.value for text in test.markdown)
        test.button(key="tour-next").click().run()
    assert test.session_state["workspace"].plan == before
    assert not any(button.key == "tour-next" for button in test.button)


def test_the_evaluate_page_calls_an_interval_that_holds_zero_noise(measured: Workspace) -> None:
    rng = np.random.default_rng(0)
    loss = rng.normal(1, 0.1, 40)
    exact = np.tile([0.0, 1.0], 20)
    scores = {
        BASELINE: simple(loss, exact),
        "edit": simple(loss - 0.05 + rng.normal(0, 0.01, 40), exact),
        "random 0": simple(loss + rng.normal(0, 0.05, 40) - 0.0, exact),
    }
    kept_proof(measured, "rows.jsonl", evaluation_of(scores))
    test = opened("evaluate", measured)
    assert not test.exception
    table = next(d.value for d in test.dataframe if "verdict" in d.value)
    verdicts = dict(zip(table["variant"], table["verdict"], strict=True))
    assert verdicts["edit"] == "loss lower"
    assert verdicts["random 0"] == "within noise"


@pytest.mark.parametrize(("controls", "verdict"), [(0, "loss lower, more correct"), (3, "loss lower")])
def test_gained_answers_count_only_beyond_what_luck_among_all_variants_gives(
    measured: Workspace, controls: int, verdict: str
) -> None:
    rng = np.random.default_rng(1)
    loss, before = rng.normal(1, 0.1, 40), np.zeros(40)
    after = (np.arange(40) < 6) * 1.0
    scores = {BASELINE: simple(loss, before, "b"), "edit": simple(loss - 0.01, after)}
    for seed in range(controls):
        scores[f"random {seed}"] = simple(loss + 0.001 * (seed + 1), before, "b")
    kept_proof(measured, "rows.jsonl", evaluation_of(scores))
    test = opened("evaluate", measured)
    assert not test.exception
    row = next(d.value for d in test.dataframe if "verdict" in d.value).set_index("variant").loc["edit"]
    assert (row["gained, lost"], row["p, McNemar"]) == ("6, 0", 2 / 2**6)
    assert row["p, Holm"] == pytest.approx((1 + controls) * 2 / 2**6)
    assert row["verdict"] == verdict
    said = [caption.value.replace("\\", "") for caption in test.caption]
    assert any("if 15% of the answers change, as in the last run" in text for text in said)
    place = "answer loss it does better than 3 of its 3 random controls (p = 0.25"
    assert any(place in text for text in said) == (controls == 3)


@pytest.mark.parametrize(("location", "told"), [("demo:smollm2", 0), ("Qwen/Qwen2.5-1.5B", 1)])
def test_the_spectra_page_tells_a_base_of_another_name_than_the_adapters(
    measured: Workspace, location: str, told: int
) -> None:
    test = opened("spectra", replace(measured, base=BaseChoice(location)))
    assert not test.exception
    assert sum("as its base model, and this one is" in element.value for element in test.warning) == told


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
        "surgery.json",
    ]
    loading = test.session_state["workspace"].exported.loading
    assert loading.applied == len(measured.adapter.modules)
    shown = {metric.label: metric.value for metric in test.metric}
    assert shown["PEFT applies"] == f"{loading.applied} / {loading.modules}"
    told = f"PEFT applies {loading.applied} of {loading.modules} modules to {loading.base}"
    assert told in (target / "README.md").read_text()
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    test.text_input[0].set_value(str(target))
    next(b for b in test.button if b.label == "Write and verify").click().run()
    assert any("exists already" in text for text in messages(test))
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before


def test_the_tour_ends_on_an_adapter_without_residual_writers(
    lora_tensors: Callable[..., Any], write_adapter: Callable[..., Path]
) -> None:
    folder = write_adapter(lora_tensors({"model.layers.0.self_attn.q_proj": (12, 4, 10)}))
    adapter = open_adapter(str(folder))
    spectra = decompose(adapter)
    g = {name: np.ones((2, found.rank)) for name, found in spectra.items()}
    provenance = Provenance(adapter.digest, "b", "e", Encoding(), tuple(spectra), "float32")
    workspace = Workspace(adapter, spectra, sensitivity=Sensitivity(g, np.ones(2), provenance))
    workspace = workspace.with_edit("start", scope="all")
    test = opened("surgery", workspace)
    assert messages(test) == []
    next(button for button in test.button if button.label == "Tour").click().run()
    while any(button.key == "tour-skip" for button in test.button):
        assert not test.exception
        test.button(key="tour-skip").click().run()
    assert test.session_state["workspace"].plan == workspace.plan
    assert messages(test) == []
