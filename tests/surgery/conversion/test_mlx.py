"""Adapters of mlx-lm against its own formula, run in float64, and what of them is refused."""

import json
import shutil

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, save_file

from surgery.adapter import open_adapter
from surgery.conversion import ConversionPlan, convert, lora_of_mlx, read_mlx
from surgery.errors import AdapterError, BaseModelError
from surgery.model import BaseChoice
from tests.helpers.models import double, relative, tiny_llama
from tests.helpers.refusals import refusal
from tests.surgery.conversion.conftest import D2, IDS, Q1, V1, mlx_layers, with_peft_in_double


def logits_of_mlx(folder, scale):
    with (
        mlx_layers(double(tiny_llama()), load_file(folder / "adapters.safetensors"), scale) as model,
        torch.no_grad(),
    ):
        return model(IDS).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_peft_computes_of_a_converted_adapter_what_mlx_computes(dtype, write_mlx, tmp_path):
    folder = write_mlx(dtype=dtype)
    done = convert(ConversionPlan(str(folder)), tmp_path / "out")
    assert set(done.modules) == {Q1, V1, D2}
    assert done.error == 0
    # both in float64 on the same stored factors
    assert relative(with_peft_in_double(done.folder), logits_of_mlx(folder, 20.0)) < 1e-12
    written = load_arrays(done.folder / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in written.values()} == {str(dtype).removeprefix("torch.")}


def test_the_update_of_a_converted_adapter_opens_as_scale_times_the_transposed_product(write_mlx, tmp_path):
    folder = write_mlx(lora_parameters={"rank": 3, "scale": 0.7, "dropout": 0.25})
    convert(ConversionPlan(str(folder)), tmp_path / "out")
    adapter, parts = open_adapter(tmp_path / "out"), load_arrays(folder / "adapters.safetensors")
    assert (adapter.base_name, adapter.config["lora_dropout"]) == ("owner/name", 0.25)
    for name, factors in adapter.modules.items():
        exact = 0.7 * (parts[f"{name}.lora_a"].astype(np.float64) @ parts[f"{name}.lora_b"]).T
        found = factors.scaling * (factors.B.astype(np.float64) @ factors.A)
        assert relative(found, exact) < 1e-15


def test_dora_of_mlx_is_dora_of_peft(write_mlx, tmp_path):
    folder = write_mlx(dora=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    lora = lora_of_mlx(read_mlx(folder, config, None), None)
    (tmp_path / "out").mkdir()
    save_file(
        {key: torch.from_numpy(np.array(t)) for key, t in lora.tensors.items()},
        tmp_path / "out" / "adapter_model.safetensors",
    )
    (tmp_path / "out" / "adapter_config.json").write_text(json.dumps(lora.config))
    assert relative(with_peft_in_double(tmp_path / "out"), logits_of_mlx(folder, 20.0)) < 1e-12


def test_a_base_is_checked_named_and_compared_by_logits(write_mlx, base_folder, tmp_path):
    plan = ConversionPlan(str(write_mlx()), BaseChoice(str(base_folder)))
    done = convert(plan, tmp_path / "out")
    assert open_adapter(done.folder).base_name == str(base_folder)
    assert done.logits.rows == 8
    assert 0 < done.logits.error < 1e-4
    assert done.notes == ()


def test_a_base_of_another_shape_is_refused_and_nothing_is_written(write_mlx, tmp_path):
    from tests.helpers.models import save_model

    for changes, words in (({"num_hidden_layers": 1}, "no linear layer"), ({"intermediate_size": 40}, "(32, 40)")):
        other = save_model(tiny_llama(**changes), tmp_path / words)
        plan = ConversionPlan(str(write_mlx()), BaseChoice(str(other)))
        assert words in refusal(BaseModelError, convert, plan, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_config_that_leaves_the_scale_open_is_refused_with_both_scales_which_both_work(write_mlx, tmp_path):
    """Before June 2024 mlx-lm multiplied by scale·alpha/rank, and its configs did not name a fine_tune_type."""
    old = {"rank": 3, "alpha": 6.0, "scale": 10.0, "dropout": 0.0}
    folder = write_mlx(fine_tune_type=None, lora_parameters=old)
    message = refusal(AdapterError, convert, ConversionPlan(str(folder)), tmp_path / "out")
    assert "--scale 20 for an adapter trained before, --scale 10 for a later one" in message
    for scale in (20.0, 10.0):
        done = convert(ConversionPlan(str(folder), scale=scale), tmp_path / f"{scale}")
        assert relative(with_peft_in_double(done.folder), logits_of_mlx(folder, scale)) < 1e-12


def test_alpha_beside_a_fine_tune_type_has_no_effect(write_mlx, tmp_path):
    folder = write_mlx(lora_parameters={"rank": 3, "alpha": 16, "scale": 10.0, "dropout": 0.0})
    done = convert(ConversionPlan(str(folder)), tmp_path / "out")
    assert {factors.scaling for factors in open_adapter(done.folder).modules.values()} == {10.0}


def refused(folder, tmp_path):
    message = refusal(AdapterError, convert, ConversionPlan(str(folder)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return message


def test_a_whole_fine_tune_is_refused(write_mlx, tmp_path):
    assert "whole weights" in refused(write_mlx(fine_tune_type="full"), tmp_path)


def test_experts_and_embeddings_are_refused_by_name(write_mlx, tmp_path):
    folder = write_mlx()
    file = folder / "adapters.safetensors"
    plain = load_file(file)
    experts = {"model.layers.0.mlp.switch_mlp.up_proj.lora_a": torch.ones(2, 3, 8)}
    save_file({**plain, **experts, "model.layers.0.mlp.switch_mlp.up_proj.lora_b": torch.ones(2, 8, 3)}, file)
    assert "experts" in refused(folder, tmp_path)
    save_file(
        {**plain, "model.embed_tokens.lora_a": torch.ones(64, 3), "model.embed_tokens.lora_b": torch.ones(3, 32)},
        file,
    )
    assert "embedding" in refused(folder, tmp_path)


def test_files_that_do_not_fit_together_are_refused(write_mlx, tmp_path):
    assert "config says 4" in refused(write_mlx(lora_parameters={"rank": 4, "scale": 1.0}), tmp_path)
    assert "--scale" in refused(write_mlx(lora_parameters={"rank": 3}), tmp_path)
    folder = write_mlx()
    tensors = load_file(folder / "adapters.safetensors")
    save_file({**tensors, "model.norm.weight": torch.ones(3)}, folder / "adapters.safetensors")
    assert "no part of an MLX adapter" in refused(folder, tmp_path)
    del tensors[f"{Q1}.lora_b"]
    save_file(tensors, folder / "adapters.safetensors")
    assert "parts lora_a" in refused(folder, tmp_path)
    tensors[f"{Q1}.lora_b"] = torch.full((3, 32), torch.nan)
    save_file(tensors, folder / "adapters.safetensors")
    assert "NaN" in refused(folder, tmp_path)


def test_an_archive_of_numpy_is_saved_again_as_the_refusal_says(write_mlx, tmp_path):
    from safetensors.numpy import save_file as save_arrays

    folder = write_mlx()
    np.savez(folder / "adapters.npz", **load_arrays(folder / "adapters.safetensors"))
    (folder / "adapters.safetensors").unlink()
    message = refused(folder, tmp_path)
    assert "numpy.load, then safetensors.numpy.save_file" in message
    save_arrays(dict(np.load(folder / "adapters.npz")), folder / "adapters.safetensors")
    assert convert(ConversionPlan(str(folder)), tmp_path / "out").error == 0
    shutil.rmtree(tmp_path / "out")


def test_the_keys_are_pefts_own(write_mlx, tmp_path):
    done = convert(ConversionPlan(str(write_mlx())), tmp_path / "out")
    model = peft.PeftModel.from_pretrained(tiny_llama(), done.folder)
    assert set(peft.get_peft_model_state_dict(model)) == set(open_adapter(done.folder).tensors)
    assert len(open_adapter(done.folder).tensors) == 6
