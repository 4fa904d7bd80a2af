"""A workspace saved to disk comes back as it was, or not at all; nobody is given another person's."""

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit import session_state
from streamlit.runtime import Runtime
from streamlit.testing.v1 import AppTest

from app.state import saved as sessions
from app.state.saved import Holders, restore, save
from app.state.undo import History
from app.state.workspace import Workspace, workspace_for
from surgery.data import CalibrationPlan, Encoding, EvaluationPlan, TaskPlan, TextPlan
from surgery.edits import EditPlan
from surgery.model import BaseChoice
from surgery.policies import POLICIES, AbsSelect, Scale, knobs_of, make_policy
from surgery.sensitivity import Provenance, Sensitivity, save_sensitivity, stored_sensitivity_file

APP = Path(__file__).resolve().parents[3] / "app"
ID, OTHER, THIRD = "0123456789ab", "ba9876543210", "00000000000f"
O0 = "model.layers.0.self_attn.o_proj"


@pytest.fixture
def opened(small_adapter: Path) -> Workspace:
    """An adapter with every stage that is saved."""
    fresh = workspace_for(str(small_adapter))
    rng = np.random.default_rng(1)
    values = {name: rng.normal(size=(3, found.rank)) for name, found in fresh.spectra.items()}
    encoding = Encoding(template="plain", max_length=64)
    provenance = Provenance(fresh.adapter.digest, "b", "e", encoding, tuple(values), "float32")
    history = fresh.history
    for plan in (
        EditPlan(AbsSelect(amp=1.5), scope="all", energy="l2", sigma_min=0.125),
        EditPlan(AbsSelect(amp=1.5), manual={O0: {0: 0.1 + 0.2, 3: 0.0}}),
        EditPlan(Scale(2.0), energy="none", scope=r"^(a\.b|ö \| «x»)$"),
    ):
        history = history.record(f"step «{len(history.steps)}»\n", plan)
    workspace = replace(
        fresh,
        base=BaseChoice("some/base", dtype="bfloat16"),
        calibration=CalibrationPlan("rows.jsonl", examples=3, batch_size=2, encoding=encoding),
        evaluation=EvaluationPlan("test.jsonl", limit=7, encoding=encoding),
        sensitivity=Sensitivity(values, np.arange(3.0), provenance),
        history=history.jump(2),
        shelf={"mine ∑": history.steps[2].plan, "": EditPlan()},
    )
    save_sensitivity(workspace.sensitivity, stored_sensitivity_file(provenance.key, 2))
    return workspace


def written(home: Path, name: str = ID) -> Path:
    return home / "workspaces" / f"{name}.json"


def rewritten(file: Path, change: Any) -> None:
    record = json.loads(file.read_text(encoding="utf-8"))
    change(record)
    file.write_text(json.dumps(record), encoding="utf-8")


def assert_same(one: Workspace, other: Workspace) -> None:
    for part in ("base", "calibration", "evaluation", "history", "shelf", "exported", "chosen", "guards"):
        assert getattr(one, part) == getattr(other, part), part
    assert (one.adapter.digest, one.adapter.source) == (other.adapter.digest, other.adapter.source)
    assert list(one.spectra) == list(other.spectra)
    assert (one.sensitivity is None) == (other.sensitivity is None)
    if one.sensitivity is not None and other.sensitivity is not None:
        assert one.sensitivity.provenance == other.sensitivity.provenance
        assert list(one.sensitivity.values) == list(other.sensitivity.values)
        for name, g in one.sensitivity.values.items():
            np.testing.assert_array_equal(g, other.sensitivity.values[name])


# ---- there and back ----


def test_a_saved_workspace_comes_back_as_it_was(opened: Workspace) -> None:
    opened = opened.with_chosen(
        [CalibrationPlan("judges.jsonl", 5), CalibrationPlan("others.jsonl"), TaskPlan("piqa", 9)]
    )
    guards = [TextPlan("demo:text", 20), TaskPlan("arc_easy", 100), EvaluationPlan("other.jsonl", 5)]
    opened = opened.with_evaluation(EvaluationPlan("held-out.jsonl"), guards)
    save(opened, ID)
    found = restore(ID)
    assert_same(found, opened)
    assert found.history.at == 2
    assert list(found.shelf["mine ∑"].manual[O0]) == [0, 3]
    assert found.edit.sigma_after[O0].tolist() == opened.edit.sigma_after[O0].tolist()


def test_a_fresh_workspace_comes_back_without_a_base_or_a_measurement(small_adapter: Path) -> None:
    fresh = workspace_for(str(small_adapter))
    save(fresh, ID)
    assert_same(restore(ID), fresh)


def test_an_export_is_not_saved(opened: Workspace) -> None:
    save(replace(opened, exported=object()), ID)
    assert restore(ID).exported is None


plans = st.builds(
    lambda name, knobs, **rest: EditPlan(make_policy(name, {k: v for k, v in knobs.items() if k in _own(name)}), **rest),
    st.sampled_from(list(POLICIES)),
    st.fixed_dictionaries({"amp": st.floats(1.1, 4.0), "eta": st.floats(0, 1), "seed": st.integers(0, 2**31 - 1)}),
    scope=st.sampled_from(["residual", "all", "o_proj"]),
    energy=st.sampled_from(["l1", "l2", "none"]),
    sigma_min=st.floats(0, 1e6),
    manual=st.dictionaries(
        st.text(max_size=8), st.dictionaries(st.integers(0, 300), st.floats(0, 1e12), min_size=1), max_size=2
    ),
)  # fmt: skip


def _own(name: str) -> set[str]:
    return {knob.name for knob in knobs_of(POLICIES[name])}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(plans, max_size=4), at=st.integers(0, 4), shelf=st.dictionaries(st.text(), plans, max_size=2)
)
def test_every_history_and_shelf_comes_back(
    small_adapter: Path, history: list[EditPlan], at: int, shelf: dict[str, EditPlan]
) -> None:
    workspace = workspace_for(str(small_adapter))
    steps = History()
    for plan in history:
        steps = steps.record("a step", plan)
    workspace = replace(workspace, history=steps.jump(at), shelf=shelf)
    session_state.clear()
    save(workspace, ID)
    assert_same(restore(ID), workspace)


# ---- measurements are found in the store ----


def test_a_measurement_that_is_gone_from_the_store_is_measured_again(opened: Workspace) -> None:
    save(opened, ID)
    stored_sensitivity_file(opened.sensitivity.provenance.key, 2).unlink()
    assert_same(restore(ID), replace(opened, sensitivity=None))


def test_a_measurement_of_another_adapter_is_not_taken(opened: Workspace) -> None:
    other = replace(opened.sensitivity, provenance=replace(opened.sensitivity.provenance, adapter="another"))
    save_sensitivity(other, stored_sensitivity_file(opened.sensitivity.provenance.key, 2))
    save(opened, ID)
    assert restore(ID).sensitivity is None


def test_a_damaged_measurement_is_left_out(opened: Workspace) -> None:
    save(opened, ID)
    stored_sensitivity_file(opened.sensitivity.provenance.key, 2).write_bytes(b"\x08" * 40)
    assert_same(restore(ID), replace(opened, sensitivity=None))


def test_sessions_share_a_measurement_until_its_file_is_another(opened: Workspace) -> None:
    save(opened, ID)
    file = stored_sensitivity_file(opened.sensitivity.provenance.key, 2)
    shared = restore(ID).sensitivity
    assert restore(ID).sensitivity is shared
    save_sensitivity(replace(opened.sensitivity, losses=np.arange(3.0) + 1), file)
    assert restore(ID).sensitivity.losses.tolist() == [1.0, 2.0, 3.0]
    assert shared.losses.tolist() == [0.0, 1.0, 2.0]
    gone = weakref.ref(shared)
    del shared
    gc.collect()
    assert gone() is None, "what no session holds is not kept"


# ---- what is not restored ----


def test_no_file_no_workspace(own_home: Path) -> None:
    assert restore(ID) is None


def _without(name: str) -> Any:
    return lambda record: record.pop(name)


def _set(name: str, value: Any) -> Any:
    return lambda record: record.update({name: value})


@pytest.mark.parametrize(
    "change",
    [
        *(_without(name) for name in ("schema", "adapter", "base", "sensitivity", "history", "at", "shelf")),
        _set("schema", 0),
        _set("schema", 99),
        _set("schema", "1"),
        _set("adapter", None),
        _set("adapter", {"source": "/nowhere", "digest": "x"}),
        _set("adapter", {"source": 5, "digest": "x"}),
        _set("base", {"location": 5}),
        _set("base", "text"),
        _set("base", 1),
        _set("calibration", {"data": "x", "examples": 0}),
        _set("calibration", {"data": "x", "unheard_of": 1}),
        _set("evaluation", ["x"]),
        _set("history", []),
        _set("history", None),
        _set("history", {}),
        _set("history", [{"label": "x"}]),
        _set("history", [{"label": "x", "edit": {}}]),
        _set("history", [{"label": "x", "edit": {"policy": "unheard_of", "manual": {}}}]),
        _set("history", [{"label": "x", "edit": {"policy": "scale", "manual": {O0: {"a": 1.0}}}}]),
        _set("history", [{"label": "x", "edit": {"policy": "scale", "manual": {O0: {"0": -1.0}}}}]),
        _set("history", [{"label": "x", "edit": {"policy": "scale", "manual": {O0: {"9" * 5000: 1.0}}}}]),
        _set("history", [{"label": "x", "edit": {"policy": "scale", "manual": {}, "knobs": {"gamma": 99}}}]),
        _set("at", "two"),
        _set("at", None),
        _set("at", float("inf")),
        _set("at", float("nan")),
        _set("shelf", None),
        _set("shelf", {"x": None}),
        _set("shelf", ["x"]),
    ],
)  # fmt: skip
def test_a_damaged_foreign_or_older_record_gives_none(opened: Workspace, own_home: Path, change: Any) -> None:
    save(opened, ID)
    rewritten(written(own_home), change)
    assert restore(ID) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"5", b'"text"', b"\xff\xfe\x00", b"{}", b"[" * 100_000, b'{"schema": 1}'],
    ids=lambda content: repr(content[:14]),
)
def test_a_file_that_is_no_record_gives_none(own_home: Path, content: bytes) -> None:
    file = written(own_home)
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert restore(ID) is None


def test_a_record_cut_anywhere_gives_none(opened: Workspace, own_home: Path) -> None:
    save(opened, ID)
    whole = written(own_home).read_bytes()
    for end in range(0, len(whole) - 1, 97):
        written(own_home).write_bytes(whole[:end])
        assert restore(ID) is None


def test_an_index_outside_the_list_stays_at_its_end(opened: Workspace, own_home: Path) -> None:
    save(opened, ID)
    for at, expected in ((-5, 0), (10**9, len(opened.history.steps) - 1)):
        rewritten(written(own_home), _set("at", at))
        assert restore(ID).history.at == expected


def test_an_adapter_changed_on_disk_gives_none(
    opened: Workspace, own_home: Path, write_adapter, lora_tensors
) -> None:
    folder = write_adapter(lora_tensors({"model.layers.0.self_attn.o_proj": (10, 4, 12)}))
    save(workspace_for(str(folder)), ID)
    assert restore(ID) is not None
    other = write_adapter(lora_tensors({"model.layers.0.self_attn.o_proj": (10, 4, 12)}, seed=1))
    (folder / "adapter_model.safetensors").write_bytes((other / "adapter_model.safetensors").read_bytes())
    assert restore(ID) is None
    (folder / "adapter_model.safetensors").unlink()
    assert restore(ID) is None


# ---- writing ----


def test_the_file_is_written_whole_and_nothing_else_is_left(opened: Workspace, own_home: Path) -> None:
    for _ in range(3):
        save(opened, ID)
        opened = opened.with_edit("again", policy=Scale(0.5 + len(opened.history.steps) / 8), energy="none")
    assert [file.name for file in written(own_home).parent.iterdir()] == [f"{ID}.json"]
    json.loads(written(own_home).read_text(encoding="utf-8"))


def test_a_save_that_fails_leaves_the_file_before_it(
    opened: Workspace, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(opened, ID)
    before = written(own_home).read_bytes()

    def fails(*paths: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="space"):
        save(opened.with_edit("change", policy=Scale(3.0)), ID)
    assert written(own_home).read_bytes() == before


# ---- who holds what ----


class Server:
    """A running server with these pages open."""

    def __init__(self, *sessions_: str) -> None:
        self.open = set(sessions_)

    def is_active_session(self, session: str) -> bool:
        return session in self.open


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    running = Server("alice", "bob")
    monkeypatch.setattr(Runtime, "exists", classmethod(lambda cls: True))
    monkeypatch.setattr(Runtime, "instance", classmethod(lambda cls: running))
    return running


def test_a_workspace_is_free_until_it_is_held_and_again_when_its_page_is_gone(server: Server) -> None:
    holders = Holders()
    assert holders.claim(ID, "alice")
    assert holders.claim(ID, "alice")
    assert not holders.claim(ID, "bob")
    assert holders.claim(OTHER, "bob")
    server.open.remove("alice")
    assert holders.claim(ID, "bob")


def test_a_new_visitor_is_given_the_newest_workspace_that_nobody_holds(
    server: Server, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders = Holders()
    monkeypatch.setattr(sessions, "holders", lambda: holders)
    folder = written(own_home).parent
    folder.mkdir(parents=True)
    for age, name in enumerate([OTHER, ID, THIRD]):
        written(own_home, name).write_text("{}")
        os.utime(written(own_home, name), (1000 - age, 1000 - age))
    (folder / "notes.json").write_text("{}")  # newer than all, and no id
    visitors = ["ann", "ben", "cy", "di"]
    server.open = set(visitors)
    given = [next((n for n in sessions._newest_first() if holders.claim(n, who)), None) for who in visitors]
    assert given == [OTHER, ID, THIRD, None]


# ---- ids in the address ----


def visit(address: str | None = None) -> AppTest:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    if address is not None:
        test.query_params["w"] = address
    return test.run()


@pytest.mark.parametrize(
    "address",
    ["../x", "..", "", "/etc/passwd", "0123456789AB", ID[:-1], ID + "0", ID * 400, f"{ID}\n", "0123456789a/", "١" * 12],
    ids=lambda address: repr(address[:14]),
)  # fmt: skip
def test_an_address_that_is_no_id_is_never_a_path(
    address: str, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    true_restore = sessions.restore
    monkeypatch.setattr(sessions, "restore", lambda name: asked.append(name) or true_restore(name))
    test = visit(address)
    assert not test.exception
    name = test.session_state["workspace-id"]
    assert sessions._ID.fullmatch(name)
    assert set(asked) <= {name}
    assert name != address
    assert test.query_params["w"] in (name, [name])
    assert [file.name for file in written(own_home).parent.iterdir()] == [f"{name}.json"]


def test_a_visit_by_its_address_finds_the_workspace_again(opened: Workspace) -> None:
    save(opened, ID)
    test = visit(ID)
    assert not test.exception
    assert test.session_state["workspace-id"] == ID
    assert_same(test.session_state["workspace"], opened)


def test_a_visit_by_the_address_of_a_damaged_file_opens_fresh(own_home: Path) -> None:
    written(own_home).parent.mkdir(parents=True)
    written(own_home).write_text("{")
    test = visit(ID)
    assert not test.exception
    # what cannot be read is kept as it is, and the visit writes elsewhere
    assert test.session_state["workspace-id"] != ID
    assert written(own_home).read_text() == "{"
    assert test.session_state["workspace"].adapter.source.startswith("demo:")


# ---- what ships with a demo ----


def test_a_demo_that_nobody_calibrated_comes_back_with_what_ships() -> None:
    fresh = workspace_for("demo:kinship")
    assert fresh.sensitivity.shipped
    save(fresh, ID)
    assert_same(restore(ID), fresh)
    # and so does one that was saved when nothing shipped
    save(replace(fresh, sensitivity=None), ID)
    assert restore(ID).sensitivity.shipped


def test_what_ships_does_not_come_back_on_another_base_or_with_other_rows() -> None:
    fresh = workspace_for("demo:kinship")
    others = (
        fresh.with_base(BaseChoice("some/base")),
        fresh.with_base(None),
        replace(fresh, calibration=replace(fresh.calibration, examples=64), sensitivity=None),
    )
    for name, other in zip((ID, OTHER, THIRD), others, strict=True):
        save(other, name)
        assert_same(restore(name), other)


def test_a_measurement_of_ones_own_comes_back_although_the_same_one_ships() -> None:
    fresh = workspace_for("demo:kinship")
    own = replace(fresh.sensitivity, losses=fresh.sensitivity.losses + 1, shipped=False)
    file = stored_sensitivity_file(own.provenance.key, fresh.calibration.batch_size)
    save_sensitivity(own, file)
    measured = fresh.with_sensitivity(fresh.calibration, own)
    save(measured, ID)
    found = restore(ID).sensitivity
    assert (found.shipped, found.losses.tolist()) == (False, own.losses.tolist())
    # a person who chose what ships although there is one of their own keeps it
    save(fresh, ID)
    assert restore(ID).sensitivity.shipped
    save(measured, ID)
    file.unlink()
    assert restore(ID).sensitivity.shipped


def test_the_demo_opens_with_what_ships_without_torch() -> None:
    words = (
        "import sys; from app.state.workspace import workspace_for; from surgery.edits import preview; "
        "w = workspace_for('demo:kinship'); assert preview(w.edit, w.sensitivity) is not None; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", words], check=True, cwd=APP.parent)
