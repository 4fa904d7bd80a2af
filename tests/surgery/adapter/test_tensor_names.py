"""Names of tensors: factors in pairs, and what is none."""

import numpy as np
import pytest

from surgery.adapter import open_adapter
from tests.surgery.adapter.conftest import KEY_A, KEY_B, O0, refusal


def test_keys_with_the_adapter_name_in_them_are_read_too(one, write_adapter):
    named = {key.replace(".weight", ".default.weight"): tensor for key, tensor in one.items()}
    assert list(open_adapter(write_adapter(named)).modules) == [O0]


def test_tensors_that_are_no_factors_are_kept_and_named(one, write_adapter):
    extra = {
        "base_model.model.lm_head.weight": np.ones((3, 2), np.float16),
        f"base_model.model.{O0}.lora_B.bias": np.ones(6, np.float32),
        "base_model.model.score.bias": np.arange(3),
    }
    adapter = open_adapter(write_adapter({**one, **extra}))
    assert sorted(adapter.extra) == sorted(extra)
    assert all(adapter.tensors[key].tobytes() == tensor.tobytes() for key, tensor in extra.items())
    assert any(note.startswith("3 tensors") for note in adapter.notes)


def test_a_module_without_its_other_half_is_refused(one, write_adapter):
    for key, side in ((KEY_A, "lora_B"), (KEY_B, "lora_A")):
        half = {name: tensor for name, tensor in one.items() if name != key}
        message = refusal(write_adapter(half))
        assert O0 in message
        assert side in message


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("conv.lora_A.weight", (4, 3, 3, 3)),
        ("attn.lora_A.weight", (2, 4, 5)),
        ("norm.lora_A.weight", (4,)),
        ("embed.lora_embedding_A", (4, 9)),
        ("layer.lora_magnitude_vector", (6,)),
        ("layer.lora_magnitude_vector.default.weight", (6,)),
        ("layer.lora_A.other.weight", (4, 5)),
    ],
)
def test_lora_parts_that_are_no_linear_factors_are_refused(key, shape, one, write_adapter):
    tensors = {**one, key: np.ones(shape, np.float32)}
    if key.endswith("lora_A.weight"):
        tensors[key.replace("_A", "_B")] = np.ones((*shape[:-2], 6, 4), np.float32)
    refusal(write_adapter(tensors))


@pytest.mark.parametrize(
    "twin", [KEY_A.removeprefix("base_model.model."), KEY_A.replace(".weight", ".default.weight")]
)
def test_two_tensors_for_the_same_factor_are_refused(twin, one, write_adapter):
    one[twin] = 2 * one[KEY_A]
    if not twin.startswith("base_model"):
        one[KEY_B.removeprefix("base_model.model.")] = one[KEY_B]
    assert O0 in refusal(write_adapter(one))


def empty(one):
    return {key: tensor[:0].reshape(-1) for key, tensor in one.items()}


def half_empty(one):
    return {key: tensor[:0].reshape(-1) if key == KEY_B else tensor for key, tensor in one.items()}


@pytest.mark.parametrize("saved", [empty, half_empty, lambda one: {}])
def test_weights_that_were_never_gathered_are_refused_as_that_and_open_once_they_are(saved, one, write_adapter):
    message = refusal(write_adapter(saved(one), target_modules=["o_proj"]))
    assert "gathered" in message
    assert "zero_to_fp32" in message
    assert list(open_adapter(write_adapter(one)).modules) == [O0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_saved_module_that_is_not_finite_is_copied_and_told(value, one, write_adapter):
    head = np.ones((3, 2), np.float16)
    head[1, 1] = value
    adapter = open_adapter(write_adapter({**one, "base_model.model.lm_head.weight": head}))
    assert adapter.tensors["base_model.model.lm_head.weight"].tobytes() == head.tobytes()
    assert any("NaN or infinity" in note and "lm_head" in note for note in adapter.notes)
    fine = open_adapter(write_adapter({**one, "base_model.model.lm_head.weight": np.ones((3, 2), np.float16)}))
    assert not any("NaN" in note for note in fine.notes)
