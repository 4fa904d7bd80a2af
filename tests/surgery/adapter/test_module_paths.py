"""What a module's path says: its layer and its kind."""

import pytest

from surgery.adapter import layer_of, open_adapter
from tests.surgery.adapter.conftest import opened_or_refused


def test_layers_come_in_number_order_and_modules_outside_the_stack_last(lora_tensors, write_adapter):
    names = ["lm_head", "model.layers.10.o_proj", "model.layers.2.o_proj"]
    adapter = open_adapter(write_adapter(lora_tensors(dict.fromkeys(names, (6, 4, 5)))))
    assert list(adapter.modules) == ["model.layers.2.o_proj", "model.layers.10.o_proj", "lm_head"]
    assert [factors.layer for factors in adapter.modules.values()] == [2, 10, None]
    assert adapter.layers == (2, 10)


@pytest.mark.parametrize(
    ("names", "families"),
    [
        (["transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj"], ["c_attn", "c_proj"]),
        (
            ["transformer.h.0.attn.c_proj", "transformer.h.0.mlp.c_proj", "transformer.h.1.mlp.c_proj"],
            ["attn.c_proj", "mlp.c_proj", "mlp.c_proj"],
        ),
        (
            [
                "encoder.block.0.layer.0.SelfAttention.q",
                "decoder.block.0.layer.0.SelfAttention.q",
                "decoder.block.0.layer.1.EncDecAttention.q",
            ],
            ["encoder.SelfAttention.q", "decoder.SelfAttention.q", "EncDecAttention.q"],
        ),
        (["o_proj", "model.layers.0.o_proj"], ["o_proj", "layers.o_proj"]),
        (["seq.0", "seq.2", "head"], ["seq", "seq", "head"]),
    ],
)
def test_families_are_the_shortest_names_that_tell_kinds_apart(names, families, lora_tensors, write_adapter):
    adapter = open_adapter(write_adapter(lora_tensors(dict.fromkeys(names, (6, 4, 5)))))
    assert [adapter.modules[name].family for name in names] == families


def test_the_layers_of_a_bare_sequential_model_have_a_family(lora_tensors, write_adapter):
    adapter = open_adapter(write_adapter(lora_tensors({"0": (6, 4, 5), "2": (6, 4, 6)})))
    assert adapter.layers == (0, 2)
    assert all(adapter.families)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("model.layers.7.mlp.down_proj", 7), ("lm_head", None), ("a.03.b.4", 3), ("a.1b.c", None)],
)
def test_the_layer_is_the_first_whole_number_in_the_path(name, layer):
    assert layer_of(name) == layer


@pytest.mark.parametrize("layer", ["²", "১", "1" * 5000], ids=["superscript", "bengali", "endless"])
def test_odd_digits_in_a_module_path_never_stop_the_reading(layer, lora_tensors, write_adapter):
    adapter = opened_or_refused(write_adapter(lora_tensors({f"model.layers.{layer}.o_proj": (6, 4, 5)})))
    assert adapter is None or len(adapter.families) == 1
