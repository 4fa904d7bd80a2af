"""Footprints against what torch really holds, and free memory read from made-up files."""

import pytest
import torch
from transformers import DynamicCache

from surgery.model import CACHE, footprint, free_bytes, is_out_of_memory
from surgery.model.memory import _free_host_bytes
from tests.helpers.families import build
from tests.helpers.models import VOCABULARY, tiny_gpt2, tiny_llama


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cached_token_takes_what_its_keys_and_values_take(make, dtype):
    model = make().to(dtype)
    with torch.no_grad():
        cache = model(input_ids=torch.ones(3, 7, dtype=torch.long), use_cache=True)[CACHE]
    assert isinstance(cache, DynamicCache)
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert footprint(model).cached == held / (3 * 7)


def test_a_forward_pass_takes_more_with_tokens_positions_and_what_is_cached():
    size = footprint(tiny_llama())
    assert size.forward(8, 1) > 2 * size.forward(4, 1) - size.logits
    assert size.forward(8, 3) - size.forward(8, 1) == 2 * size.logits == 2 * VOCABULARY * 12
    assert size.forward(8, 1, cached=5) - size.forward(8, 1) == 8 * 5 * size.pair


def test_eager_attention_is_known_to_hold_the_weights_of_every_head():
    assert footprint(tiny_llama(attn_implementation="eager")).pair == 4 * 12
    assert footprint(tiny_llama(attn_implementation="sdpa")).pair < 12


def group(folder, limit: str) -> None:
    (folder / "memory.max").write_text(limit)
    (folder / "memory.current").write_text("3000\n")
    (folder / "memory.stat").write_text("anon 100\ninactive_file 500\n")


def test_free_memory_of_the_host_stays_within_the_container(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16 kB\nMemAvailable:   8 kB\n")
    assert _free_host_bytes(meminfo, tmp_path) == 8 * 1024
    group(tmp_path, "max\n")
    assert _free_host_bytes(meminfo, tmp_path) == 8 * 1024
    group(tmp_path, "4000\n")
    assert _free_host_bytes(meminfo, tmp_path) == 4000 - 3000 + 500
    group(tmp_path, "1000\n")
    assert _free_host_bytes(meminfo, tmp_path) == 0


def test_a_system_that_does_not_tell_is_taken_to_have_some(tmp_path):
    assert _free_host_bytes(tmp_path / "none", tmp_path) > 1 << 20
    assert free_bytes(torch.device("cpu")) > 1 << 20


def test_only_failed_allocations_count_as_out_of_memory():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"))
    # oneDNN chose a kernel, then had no room for its code or its operands
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert is_out_of_memory(RuntimeError("could not create a memory object"))
    assert is_out_of_memory(MemoryError("std::bad_alloc"))
    assert not is_out_of_memory(RuntimeError("broken"))
    # it has no kernel at all for these operands
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a matmul primitive"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_a_config_that_names_no_single_size_for_all_layers_is_estimated_by_its_other_sizes():
    model = build("gemma4_text")
    with pytest.raises(Exception, match="per-layer attribute"):
        assert model.config.head_dim
    assert footprint(model).cached > 0
