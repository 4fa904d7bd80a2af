"""`surgery inspect`."""

import math

import numpy as np
import pytest

from surgery.adapter import open_adapter
from tests.helpers.adalora import save_adalora
from tests.helpers.models import tiny_llama


def test_inspect_counts_what_is_in_the_adapter(small_adapter, ok):
    record = ok("inspect", str(small_adapter), "--json")
    assert record["modules"] == 6
    assert record["layers"] == 2
    assert record["families"] == {"down_proj": 2, "o_proj": 2, "q_proj": 2}
    assert record["ranks"] == [4]
    assert record["scalings"] == [2.0]
    assert record["dtypes"] == ["float32"]
    # (12 + 10)·4 for q_proj and o_proj, (10 + 20)·4 for down_proj, in two layers
    assert record["parameters"] == 2 * (88 + 88 + 120)
    assert record["edited_scalars"] == {"residual": 16, "attention-inputs": 8, "gate-up": 0, "all": 24}
    assert record["base"] == "some/base"
    assert record["extra_tensors"] == record["notes"] == []
    assert len(record["digest"]) == 64
    total = 0.0
    for facts, factors in zip(record["details"], open_adapter(small_adapter).modules.values(), strict=True):
        sigma = np.linalg.svd(2.0 * factors.B.astype(np.float64) @ factors.A, compute_uv=False)[:4]
        share = sigma / sigma.sum()
        assert facts["name"] == factors.name
        assert facts["shape"] == [factors.B.shape[0], factors.A.shape[1]]
        assert facts["top"] == pytest.approx(sigma[0], rel=1e-12)
        assert facts["norm"] == pytest.approx(math.sqrt((sigma**2).sum()), rel=1e-12)
        assert facts["effective_rank"] == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-9)
        assert facts["stable_rank"] == pytest.approx((sigma**2).sum() / sigma[0] ** 2, rel=1e-9)
        total += (sigma**2).sum()
    assert record["norm"] == pytest.approx(math.sqrt(total), rel=1e-12)


def test_inspect_prints_one_line_for_every_module(small_adapter, ok):
    text = ok("inspect", str(small_adapter))
    for name in open_adapter(small_adapter).modules:
        assert sum(line.startswith(name) for line in text.splitlines()) == 1
    assert "LoRA: 6 modules in 2 layers" in text


def test_inspect_tells_dora_and_adalora(lora_tensors, write_adapter, tmp_path, ok):
    path = "layers.0.o_proj"
    magnitude = {f"base_model.model.{path}.lora_magnitude_vector": np.ones(6, np.float32)}
    dora = write_adapter({**lora_tensors({path: (6, 4, 5)}), **magnitude}, use_dora=True)
    triplets = save_adalora(tiny_llama(), tmp_path / "adalora", ["o_proj", "v_proj"])
    for folder, kind in ((dora, "DoRA"), (triplets, "AdaLoRA")):
        assert ok("inspect", str(folder), "--json")["kind"] == kind
        text = ok("inspect", str(folder))
        assert text.startswith(f"{kind}: ")
        assert f"note: {kind}" in text


def test_inspect_shows_bfloat16_zero_updates_and_extra_tensors(lora_tensors, write_adapter, ok):
    tensors = lora_tensors({"layers.0.o_proj": (6, 4, 5)}, "bfloat16", scale=0.0)
    folder = write_adapter({**tensors, "bias": np.ones(2, np.float32)}, use_rslora=True)
    record = ok("inspect", str(folder), "--json")
    assert record["dtypes"] == ["bfloat16"]
    assert record["extra_tensors"] == ["bias"]
    assert record["scalings"] == [4.0]
    assert record["norm"] == 0
    assert record["details"][0]["effective_rank"] == 0
    assert len(record["notes"]) == 3


def test_words_from_a_file_cannot_drive_the_terminal(lora_tensors, write_adapter, ok, fails):
    tensors = lora_tensors({"layers.0.o_proj": (6, 4, 5)})
    text = ok("inspect", str(write_adapter(tensors, base_model_name_or_path="x\x1b]0;y\x07\nz")))
    assert all(character.isprintable() for character in text.replace("\n", ""))
    tensors = lora_tensors({"layers.0.\x1b[2J\rx.o_proj": (6, 4, 5)})
    assert fails("inspect", str(write_adapter(tensors))).strip().isprintable()


def test_one_of_two_adapters_in_a_file_is_inspected_by_its_name(lora_tensors, write_adapter, ok, fails):
    tensors = lora_tensors({"model.layers.0.o_proj": (6, 4, 5)})
    both = {
        key.replace(".weight", f".{name}.weight"): times * tensor
        for name, times in (("sft", 1), ("dpo", 3))
        for key, tensor in tensors.items()
    }
    folder = write_adapter(both, target_modules=["o_proj"])
    way = fails("inspect", str(folder)).strip().rpartition("such as ")[2]
    assert way == f"{folder}#dpo"
    # both factors are three times as large
    assert ok("inspect", way, "--json")["norm"] == pytest.approx(
        9 * ok("inspect", f"{folder}#sft", "--json")["norm"]
    )
