"""Smaller exports, loaded by PEFT itself: the truncated ΔW of every picker, in every kind of layer."""

import json

import numpy as np
import peft
import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from surgery.adapter import open_adapter
from surgery.edits import Edit, ModuleEdit, make_edit
from surgery.errors import ExportError
from surgery.export import Smaller, export, smaller_adapter, truncations
from surgery.policies import CUTS, SCORES, Rank, Scale
from surgery.spectra import decompose
from tests.helpers.policies import measured
from tests.helpers.zoo import KINDS, Zoo, saved, updates
from tests.surgery.export.conftest import EPS, update

RAGGED, PADDED = Smaller(), Smaller(0)
SHAPES = {f"layers.{i}.{name}": (16, 6, 12) for i in range(3) for name in ("q_proj", "o_proj")}


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.o_proj = nn.Linear(12, 16), nn.Linear(12, 16)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(3))


def some_sensitivity(spectra):
    rng = np.random.default_rng(3)
    return measured({name: rng.normal(size=(4, each.rank)) for name, each in spectra.items()})


def opened(lora_tensors, write_adapter, dtype="float32", **config):
    """Modules of the sizes of real ones: a few directions large, the last module next to nothing."""
    tensors = lora_tensors(SHAPES, dtype="float64")
    fall = np.diag(2.0 ** -np.arange(6.0))
    for i, name in enumerate(SHAPES):
        key = f"base_model.model.{name}.lora_B.weight"
        tensors[key] = tensors[key] @ fall * 4.0**-i
    plain = {"r": 6, "lora_alpha": 16, "base_model_name_or_path": None, "task_type": None, **config}
    adapter = open_adapter(write_adapter({key: t.astype(dtype) for key, t in tensors.items()}, **plain))
    return adapter, decompose(adapter)


def dense(spectra, edit):
    """U·diag(σ′)·Vᵀ of every module in scope, in float64."""
    return {
        name: spectra[name].U * module.sigma_after @ spectra[name].V.T for name, module in edit.modules.items()
    }


def in_peft(model, folder, *, float32=True):
    loaded = peft.PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=float32)
    return updates(loaded)


PICKERS = [Rank(cut=cut, by=by, keep=2, share=0.9) for cut in CUTS for by in SCORES]


CASES = [(picker, RAGGED) for picker in PICKERS] + [(Rank(cut=cut, keep=2, share=0.9), PADDED) for cut in CUTS]


@pytest.mark.parametrize(
    ("picker", "form"), CASES, ids=lambda each: str(each.pad if each in (RAGGED, PADDED) else each)
)
def test_peft_loads_every_pickers_export_and_gives_the_truncated_update(
    picker, form, lora_tensors, write_adapter, tmp_path
):
    adapter, spectra = opened(lora_tensors, write_adapter)
    edit = make_edit(spectra, picker, sensitivity=some_sensitivity(spectra), scope="all")
    report = export(adapter, spectra, edit, tmp_path / "out", form=form)
    expected, found = dense(spectra, edit), in_peft(Model(), tmp_path / "out")
    for name in SHAPES:
        if name in found:
            assert np.abs(found[name] - expected[name]).max() <= 1e-6 * np.linalg.norm(expected[name])
        else:  # left out, and rightly so
            assert name in report.layout.left_out
            assert not edit.modules[name].sigma_after.any()
    assert report.rounding <= 1e-6
    ranks = {name: int((module.gains > 0).sum()) for name, module in edit.modules.items()}
    largest = max(max(ranks.values()), 1)
    assert set(found) == {name for name, rank in ranks.items() if rank} or largest == 1
    sizes = {name: open_adapter(tmp_path / "out").modules[name].rank for name in found}
    assert sizes == {name: largest if form is PADDED else max(ranks[name], 1) for name in found}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("form", [RAGGED, PADDED], ids=["ragged", "padded"])
def test_half_types_hold_factors_that_are_rounded_once(dtype, form, lora_tensors, write_adapter, tmp_path):
    adapter, spectra = opened(lora_tensors, write_adapter, dtype)
    edit = make_edit(spectra, Rank(cut="para", share=0.99), scope="all")
    export(adapter, spectra, edit, tmp_path / "out", form=form)
    found, written = in_peft(Model(), tmp_path / "out"), open_adapter(tmp_path / "out")
    for name, part in truncations(spectra, edit).items():
        if not part.rank:
            continue
        root = np.sqrt(part.sigma / written.modules[name].scaling)
        for stored, exact in (
            (written.modules[name].B, part.U * root),
            (written.modules[name].A.T, part.V * root),
        ):
            held = stored[:, : part.rank].astype(np.float64)
            # half a unit in the last place, of subnormal numbers too
            least = {"float16": 2.0**-25, "bfloat16": 2.0**-134}[dtype]
            assert (np.abs(held - exact) <= EPS[dtype] / 2 * np.abs(exact) + least).all()
        assert np.abs(found[name] - update(written.modules[name])).max() <= 1e-6 * np.linalg.norm(part.sigma)
    for name, module in edit.modules.items():
        if (module.gains == 1).all() and form is RAGGED:
            assert written.modules[name].B.tobytes() == adapter.modules[name].B.tobytes()


SCALED = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "alpha pattern": {"alpha_pattern": {"q_proj": 5}},
    "all": {"use_rslora": True, "alpha_pattern": {r"layers\.1\..*": 3.3}},
    "negative": {"lora_alpha": -4},
}


@pytest.mark.parametrize("form", [RAGGED, PADDED, Smaller(8)], ids=["ragged", "padded", "8"])
@pytest.mark.parametrize("scaled", SCALED)
def test_the_scaling_is_kept_and_modules_that_are_not_cut_keep_their_bytes(
    scaled, form, lora_tensors, write_adapter, tmp_path
):
    adapter, spectra = opened(lora_tensors, write_adapter, **SCALED[scaled])
    edit = make_edit(spectra, Rank(keep=3), scope=r"layers\.[01]")
    export(adapter, spectra, edit, tmp_path / "out", form=form)
    written, found = open_adapter(tmp_path / "out"), in_peft(Model(), tmp_path / "out")
    expected = {name: update(factors) for name, factors in adapter.modules.items()} | dense(spectra, edit)
    for name, factors in written.modules.items():
        assert np.abs(found[name] - expected[name]).max() <= 1e-6 * np.linalg.norm(expected[name])
        if form is RAGGED:
            assert factors.scaling == pytest.approx(adapter.modules[name].scaling, rel=1e-15)
    if form is RAGGED:
        assert {factors.rank for name, factors in written.modules.items() if "layers.2" in name} == {6}
        for name in ("layers.2.q_proj", "layers.2.o_proj"):
            assert written.modules[name].A.tobytes() == adapter.modules[name].A.tobytes()
            assert written.modules[name].B.tobytes() == adapter.modules[name].B.tobytes()
    else:
        # what a reader with one rank and one alpha computes is the same
        config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
        rank = form.pad or 6
        assert (config["r"], config["rank_pattern"], config["alpha_pattern"]) == (rank, {}, {})
        divisor = np.sqrt(rank) if config.get("use_rslora") else rank
        for name, factors in written.modules.items():
            plain = config["lora_alpha"] / divisor * (factors.B.astype(float) @ factors.A.astype(float))
            assert np.abs(plain - expected[name]).max() <= 1e-6 * np.linalg.norm(expected[name])


@pytest.mark.parametrize("form", [RAGGED, PADDED], ids=["ragged", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_has_a_smaller_form_that_peft_loads(kind, form, tmp_path):
    _, folder = saved(tmp_path / "adapter", **KINDS[kind])
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(cut="para", share=0.8), scope="all")
    export(adapter, spectra, edit, tmp_path / "out", form=form)
    torch.manual_seed(0)
    loaded = peft.PeftModel.from_pretrained(Zoo(), str(tmp_path / "out"))
    found, expected = updates(loaded), dense(spectra, edit)
    for name, matrix in expected.items():
        given = found.get(name, np.zeros_like(matrix))
        assert np.abs(given - matrix).max() <= 1e-6 * np.linalg.norm(spectra[name].sigma)
    missing = [name for name in expected if name not in found]
    assert all(not edit.modules[name].sigma_after.any() for name in missing)


def only(spectra, kept):
    """An edit that keeps so many leading components of the modules named, and nothing of all others."""
    modules = {}
    for name, spectrum in spectra.items():
        gains = (np.arange(spectrum.rank) < kept.get(name, 0)).astype(float)
        modules[name] = ModuleEdit(gains, spectrum.sigma, gains * spectrum.sigma)
    return Edit(modules)


def test_what_nothing_is_left_of_is_neither_in_the_file_nor_made_by_peft(lora_tensors, write_adapter, tmp_path):
    adapter, spectra = opened(lora_tensors, write_adapter, exclude_modules=["lm_head"])
    edit = only(spectra, {"layers.1.q_proj": 2, "layers.2.o_proj": 1})
    report = export(adapter, spectra, edit, tmp_path / "out", form=RAGGED)
    assert set(report.layout.left_out) == set(SHAPES) - {"layers.1.q_proj", "layers.2.o_proj"}
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert set(config["exclude_modules"]) == {"lm_head", *report.layout.left_out}
    assert config["target_modules"] == adapter.config["target_modules"]
    loaded = peft.PeftModel.from_pretrained(Model(), str(tmp_path / "out"))
    made = {name for name, layer in loaded.base_model.model.named_modules() if isinstance(layer, LoraLayer)}
    assert made == {"layers.1.q_proj", "layers.2.o_proj"}
    assert report.layout.parameters == 3 * (16 + 12)
    assert report.layout.bytes == 4 * 3 * (16 + 12)


def test_an_exclusion_by_a_pattern_goes_on_to_exclude_what_it_did(lora_tensors, write_adapter, tmp_path):
    adapter, spectra = opened(lora_tensors, write_adapter, exclude_modules=r".*\.k_proj|lm_head")
    export(adapter, spectra, only(spectra, {"layers.1.q_proj": 2}), tmp_path / "out", form=RAGGED)
    found = in_peft(Model(), tmp_path / "out")
    assert set(found) == {"layers.1.q_proj"}


def test_where_nothing_is_left_at_all_one_module_stays_with_a_zero_update(lora_tensors, write_adapter, tmp_path):
    adapter, spectra = opened(lora_tensors, write_adapter)
    report = export(adapter, spectra, only(spectra, {}), tmp_path / "out", form=RAGGED)
    assert report.layout.zeros == ("layers.0.q_proj",) or len(report.layout.zeros) == 1
    found = in_peft(Model(), tmp_path / "out")
    assert set(found) == set(report.layout.zeros)
    assert not any(matrix.any() for matrix in found.values())


def test_a_module_whose_path_ends_that_of_another_stays_with_a_zero_update(lora_tensors, write_adapter, tmp_path):
    """To exclude `o_proj` would exclude `deep.o_proj` too."""
    shapes = {"o_proj": (6, 2, 5), "deep.o_proj": (6, 2, 5)}
    adapter = open_adapter(write_adapter(lora_tensors(shapes), r=2, target_modules=["o_proj"]))
    spectra = decompose(adapter)
    report = export(adapter, spectra, only(spectra, {"deep.o_proj": 1}), tmp_path / "out", form=RAGGED)
    assert report.layout.zeros == ("o_proj",)
    assert report.layout.left_out == ()
    written = open_adapter(tmp_path / "out")
    assert not written.modules["o_proj"].B.any()
    assert written.modules["o_proj"].rank == 1


def test_doras_norms_keep_a_module_of_which_nothing_else_is_left(tmp_path):
    _, folder = saved(tmp_path / "adapter", **KINDS["dora"])
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    report = export(adapter, spectra, only(spectra, {"table": 1}), tmp_path / "out", form=RAGGED)
    assert set(report.layout.zeros) == set(spectra) - {"table"}
    peft.PeftModel.from_pretrained(Zoo(), str(tmp_path / "out"))
    written = open_adapter(tmp_path / "out")
    for name, factors in adapter.modules.items():
        assert written.modules[name].magnitude.tobytes() == factors.magnitude.tobytes()


def test_experts_that_share_a_tensor_have_the_largest_rank_among_them(tmp_path):
    _, folder = saved(tmp_path / "adapter", **KINDS["transposed experts"])
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    names = list(spectra)
    made = smaller_adapter(adapter, spectra, only(spectra, {names[0]: 2, names[1]: 1}), RAGGED)
    assert set(made.layout.ranks.values()) == {2}
    assert made.adapter.tensors[adapter.modules[names[0]].key_A].shape[0] == 2 * len(names)


def test_an_edit_that_cuts_nothing_keeps_every_byte_of_every_tensor(lora_tensors, write_adapter, tmp_path):
    adapter, spectra = opened(lora_tensors, write_adapter)
    edit = make_edit(spectra, Rank(cut="para", share=1.0), scope="all")
    report = export(adapter, spectra, edit, tmp_path / "out", form=RAGGED)
    assert (report.edited, report.rounding, report.layout.saved) == (0, 0.0, 0.0)
    reweighted = make_edit(spectra, Scale(gamma=0.5), scope="all")
    export(adapter, spectra, reweighted, tmp_path / "scaled", form=RAGGED)
    export(adapter, spectra, reweighted, tmp_path / "plain")
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("scaled", "plain")]
    assert weights[0] == weights[1]


def test_a_module_out_of_scope_keeps_its_rank_and_the_pad_has_to_hold_it(lora_tensors, write_adapter, tmp_path):
    adapter, spectra = opened(lora_tensors, write_adapter)
    edit = make_edit(spectra, Rank(keep=2), scope="o_proj$")
    with pytest.raises(ExportError) as told:
        export(adapter, spectra, edit, tmp_path / "out", form=Smaller(4))
    assert "pad to 6 or more" in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", [RAGGED, PADDED, Smaller(16)], ids=["ragged", "padded", "16"])
def test_who_serves_it_is_told_by_the_largest_rank(form, lora_tensors, write_adapter, tmp_path):
    adapter, spectra = opened(lora_tensors, write_adapter)
    report = export(
        adapter, spectra, make_edit(spectra, Rank(cut="para"), scope="all"), tmp_path / "out", form=form
    )
    assert f"--max-lora-rank {16 if form.pad else 8} up" in report.served[-1]
    assert ("padded form" in report.served[0]) == (form is RAGGED)
