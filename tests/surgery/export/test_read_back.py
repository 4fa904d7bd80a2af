"""Which edit a folder is of an adapter, told from its weights alone."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from surgery.adapter import open_adapter
from surgery.edits import make_edit
from surgery.export import differing_modules, edit_between, export
from surgery.policies import RandomIndex, Rank
from surgery.spectra import decompose

WEIGHTS = "adapter_model.safetensors"
NAMES = [f"layers.{n}.{kind}" for n in range(2) for kind in ("o_proj", "q_proj")]
UNITS = {np.float32: 2**-24, ml_dtypes.bfloat16: 2**-8, np.float16: 2**-11}


@pytest.fixture
def folder(lora_tensors, write_adapter):
    return write_adapter(lora_tensors(dict.fromkeys(NAMES, (24, 4, 16))))


def exported(folder, out, policy=None, **rules):
    """An adapter, its spectra, an edit and the adapter that its export is."""
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, policy or RandomIndex(amp=1.5, sup=0.5), **rules)
    return adapter, spectra, edit, open_adapter(export(adapter, spectra, edit, out).folder)


@pytest.mark.parametrize("energy", ["l1", "l2", "none"])
@pytest.mark.parametrize("dtype", UNITS)
def test_an_export_is_read_back_as_its_edit_in_every_dtype(tmp_path, lora_tensors, write_adapter, energy, dtype):
    folder = write_adapter(lora_tensors(dict.fromkeys(NAMES, (24, 4, 16)), dtype))
    adapter, spectra, edit, other = exported(folder, tmp_path / "out", energy=energy)
    found = edit_between(adapter, spectra, other)
    assert found.energy == energy
    assert list(found.edit.modules) == [name for name in NAMES if name.endswith("o_proj")]
    for name, module in found.edit.modules.items():
        B, A = (np.linalg.norm(side.astype(np.float64)) for side in (other.modules[name].B, other.modules[name].A))
        most = UNITS[dtype] * other.modules[name].scaling * B * A
        np.testing.assert_array_equal(module.sigma, spectra[name].sigma)
        np.testing.assert_allclose(module.sigma_after, edit.modules[name].sigma_after, rtol=0, atol=most)
        np.testing.assert_allclose(module.gains * module.sigma, module.sigma_after, rtol=1e-12)


def test_components_that_were_cut_off_are_read_back_as_nothing(tmp_path, folder):
    adapter, spectra, _, other = exported(folder, tmp_path / "out", Rank(keep=2), energy="none")
    for module in edit_between(adapter, spectra, other).edit.modules.values():
        assert (module.sigma_after[:2] > 0.9 * module.sigma[:2]).all()
        assert (module.sigma_after[2:] < 1e-6 * module.sigma[0]).all()
        assert (module.sigma_after >= 0).all()


def test_the_same_folder_is_an_edit_of_no_module(tmp_path, folder):
    adapter = open_adapter(folder)
    copy = open_adapter(shutil.copytree(folder, tmp_path / "copy"))
    assert edit_between(adapter, decompose(adapter), copy).edit.modules == {}
    assert differing_modules(adapter, copy) == []


def test_a_folder_with_other_directions_is_another_adapter(tmp_path, folder):
    adapter, spectra, _, other = exported(folder, tmp_path / "out")
    assert edit_between(adapter, spectra, other) is not None
    tensors = load_file(tmp_path / "out" / WEIGHTS)
    key = next(name for name in tensors if name.endswith("lora_B.weight"))
    # beyond one rounding of every entry of B, and still a part in a hundred thousand of it
    tensors[key][0, 0] += 1e-5 * np.linalg.norm(tensors[key])
    save_file(tensors, tmp_path / "out" / WEIGHTS)
    assert edit_between(adapter, spectra, open_adapter(tmp_path / "out")) is None


def test_a_folder_of_another_config_or_of_other_modules_is_another_adapter(
    tmp_path, folder, lora_tensors, write_adapter
):
    adapter, spectra, _, _ = exported(folder, tmp_path / "out")
    config = tmp_path / "out" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 7}))
    louder = open_adapter(tmp_path / "out")
    assert edit_between(adapter, spectra, louder) is None
    assert differing_modules(adapter, louder) == list(adapter.modules), "all are scaled otherwise"
    fewer = open_adapter(write_adapter(lora_tensors(dict.fromkeys(NAMES[:3], (24, 4, 16)))))
    assert edit_between(adapter, spectra, fewer) is None
    # the factors of a seed are drawn in the order of the modules: those of the first are the same
    assert differing_modules(adapter, fewer) == []
