"""What a module's path says: its layer and its kind."""

import pytest

from surgery.adapter import layers_of, open_adapter
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
    assert layers_of([name]) == {name: layer}


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("encoder.stages.{}.blocks.{}.attention.query", "query"),
        ("swin.encoder.layers.{}.blocks.{}.attention.self.query", "query"),
        ("convnext.encoder.stages.{}.layers.{}.pwconv1", "pwconv1"),
        ("segformer.encoder.block.{}.{}.attention.self.query", "query"),
        ("encoder.layer.{}.transformer.layer.{}.attention.attention.query", "query"),
        ("encoder.levels.{}.layers.{}.mlp.fc1", "fc1"),
        ("encoder.network.{}.blocks.{}.mlp.fc1", "fc1"),
    ],
)
def test_the_layer_of_a_model_of_stages_is_the_place_in_depth_over_all_of_them(
    path, inside, lora_tensors, write_adapter
):
    names = [path.format(stage, block) for stage, blocks in enumerate((2, 1, 12, 2)) for block in range(blocks)]
    assert list(layers_of(names).values()) == list(range(17))
    adapter = open_adapter(write_adapter(lora_tensors(dict.fromkeys(["head", *reversed(names)], (6, 4, 5)))))
    assert [factors.layer for factors in adapter.modules.values()] == [*range(17), None]
    assert list(adapter.modules) == [*names, "head"]
    assert adapter.families == (inside, "head")


def test_stages_of_two_encoders_are_counted_apart():
    names = [f"{side}.stages.{stage}.blocks.{block}.q" for side in "ab" for stage in (0, 2) for block in (0, 1)]
    assert list(layers_of(names).values()) == [0, 1, 2, 3] * 2


def test_the_parts_of_a_layer_are_no_blocks_of_a_stage():
    names = [f"encoder.block.{layer}.layer.{part}.DenseReluDense.wo" for layer in range(2) for part in range(2)]
    assert list(layers_of(names).values()) == [0, 0, 1, 1]
    assert set(layers_of([f"model.layers.3.mlp.experts.{e}.down_proj" for e in range(4)]).values()) == {3}


@pytest.mark.parametrize("layer", ["²", "১", "1" * 5000], ids=["superscript", "bengali", "endless"])
def test_odd_digits_in_a_module_path_never_stop_the_reading(layer, lora_tensors, write_adapter):
    adapter = opened_or_refused(write_adapter(lora_tensors({f"model.layers.{layer}.o_proj": (6, 4, 5)})))
    assert adapter is None or len(adapter.families) == 1
