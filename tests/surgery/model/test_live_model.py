"""The live layer against peft's own forward, and what attaching and closing do to the base."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    MptConfig,
    MptForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
)

from surgery.adapter import open_adapter
from surgery.edits import Edit, ModuleEdit
from surgery.errors import AdapterError, BaseModelError, DataError, SurgeryError
from surgery.export import export
from surgery.model import LiveModel
from surgery.spectra import decompose
from tests.helpers.models import (
    GPT2_TARGETS,
    LLAMA_TARGETS,
    VOCABULARY,
    double,
    loaded_base,
    relative,
    save_adapter,
    tiny_gpt2,
    tiny_llama,
    with_peft,
)
from tests.helpers.rounding import assert_clear_choice, logits_apart

_PATTERNS = {"rank_pattern": {"o_proj": 6, r"layers\.1\.mlp\.down_proj": 2}, "alpha_pattern": {"k_proj": 3}}
_GPT2 = {"targets": GPT2_TARGETS, "fan_in_fan_out": True}
CASES = {
    "llama": (tiny_llama, {}),
    "llama with patterns": (tiny_llama, _PATTERNS),
    "llama with rslora and patterns": (tiny_llama, {"use_rslora": True, **_PATTERNS}),
    "llama with a rank above its width": (tiny_llama, {"r": 40, "scale": 0.1}),
    "gpt2": (tiny_gpt2, _GPT2),
    "gpt2 with rslora and patterns": (
        tiny_gpt2,
        {"use_rslora": True, "rank_pattern": {"c_fc": 7}, "alpha_pattern": {"attn.c_proj": 2}, **_GPT2},
    ),
}


@pytest.fixture(scope="module", params=CASES)
def saved_case(request, tmp_path_factory):
    make, options = CASES[request.param]
    return make, save_adapter(make(), tmp_path_factory.mktemp("adapter"), **options)


@pytest.fixture
def case(saved_case):
    make, folder = saved_case
    return make(), folder


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory):
    return save_adapter(tiny_llama(), tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def llama(llama_folder):
    return tiny_llama(), llama_folder


def attach(model, folder) -> LiveModel:
    adapter = open_adapter(folder)
    return LiveModel(loaded_base(model), adapter, decompose(adapter))


def token_ids(rows: int = 3, tokens: int = 11, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def logits(model, ids) -> np.ndarray:
    with torch.no_grad():
        return model(input_ids=ids).logits.double().numpy()


def random_sigma(spectra, seed: int) -> dict[str, np.ndarray]:
    """σ′ with raised, lowered and zeroed components in every module."""
    rng = np.random.default_rng(seed)
    return {
        name: spectrum.sigma * rng.choice([0.0, 0.5, 1.7], size=spectrum.rank)
        for name, spectrum in spectra.items()
    }


def as_edit(spectra, sigma_after) -> Edit:
    return Edit(
        {
            name: ModuleEdit(after / spectra[name].sigma, spectra[name].sigma, after)
            for name, after in sigma_after.items()
        }
    )


def refuse(kind, model, adapter, spectra) -> str:
    """The one-line message with which attaching is refused."""
    with pytest.raises(kind) as caught:
        LiveModel(loaded_base(model), adapter, spectra)
    assert isinstance(caught.value, SurgeryError)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_live_logits_equal_pefts_forward(case):
    model, folder = case
    ids = token_ids()
    expected = logits(with_peft(model, folder), ids)
    assert relative(expected, logits(model, ids)) > 0.1, "the update must matter, or equality shows nothing"
    with attach(model, folder) as live:
        assert relative(logits(live.model, ids), expected) < logits_apart(model)


def test_live_logits_keep_the_precision_of_a_float64_model(case):
    model, folder = case
    expected = logits(with_peft(double(model), folder), token_ids())
    with attach(double(model), folder) as live:
        assert relative(logits(live.model, token_ids()), expected) < logits_apart(live.model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_live_logits_of_a_half_precision_model_follow_the_float32_model(llama, dtype):
    model, folder = llama
    expected = logits(with_peft(model, folder), token_ids())
    alone = relative(logits(with_peft(copy.deepcopy(model).to(dtype), folder), token_ids()), expected)
    with attach(model.to(dtype), folder) as live:
        assert live.model(input_ids=token_ids()).logits.dtype == dtype
        assert relative(logits(live.model, token_ids()), expected) < 2 * alone + 1e-3


def test_logits_with_padding_equal_pefts_forward(llama):
    model, folder = llama
    ids, mask = token_ids(), torch.ones(3, 11, dtype=torch.long)
    mask[0, :4], mask[2, :7] = 0, 0
    with torch.no_grad():
        expected = with_peft(model, folder)(input_ids=ids, attention_mask=mask).logits
        with attach(model, folder) as live:
            found = live.model(input_ids=ids, attention_mask=mask).logits
    real = mask.bool()
    assert relative(found[real], expected[real]) < logits_apart(model)


def test_silencing_every_component_gives_the_base_models_logits(case):
    model, folder = case
    before = logits(model, token_ids())
    with attach(model, folder) as live:
        live.set_sigma({name: np.zeros(spectrum.rank) for name, spectrum in live.spectra.items()})
        np.testing.assert_array_equal(logits(live.model, token_ids()), before)


def test_logits_at_edited_sigma_equal_pefts_forward_of_the_exported_adapter(case, tmp_path):
    model, folder = case
    with attach(model, folder) as live:
        sigma = random_sigma(live.spectra, seed=5)
        exported = export(live.adapter, live.spectra, as_edit(live.spectra, sigma), tmp_path / "out").folder
        unedited = logits(live.model, token_ids())
        live.set_sigma(sigma)
        edited = logits(live.model, token_ids())
    assert relative(edited, unedited) > 0.05
    assert relative(edited, logits(with_peft(model, exported), token_ids())) < logits_apart(model)


def test_exporting_part_of_the_modules_equals_setting_part_of_the_sigmas(llama, tmp_path):
    model, folder = llama
    with attach(model, folder) as live:
        sigma = {n: s for n, s in random_sigma(live.spectra, seed=6).items() if "o_proj" in n}
        exported = export(live.adapter, live.spectra, as_edit(live.spectra, sigma), tmp_path / "out").folder
        live.set_sigma(random_sigma(live.spectra, seed=7))
        live.set_sigma(sigma)
        found = logits(live.model, token_ids())
    assert relative(found, logits(with_peft(model, exported), token_ids())) < logits_apart(model)


def test_setting_no_sigma_returns_to_the_adapters_own(llama):
    model, folder = llama
    with attach(model, folder) as live:
        before = logits(live.model, token_ids())
        live.set_sigma(random_sigma(live.spectra, seed=1))
        assert relative(logits(live.model, token_ids()), before) > 0.05
        live.set_sigma(None)
        np.testing.assert_array_equal(logits(live.model, token_ids()), before)


def test_a_row_axis_on_sigma_equals_running_each_variant_alone(case):
    model, folder = case
    ids = token_ids(rows=4)
    with attach(model, folder) as live:
        variants = [random_sigma(live.spectra, seed=seed) for seed in range(4)]
        live.set_sigma({name: np.stack([v[name] for v in variants]) for name in live.spectra})
        together = logits(live.model, ids)
        for row, variant in enumerate(variants):
            live.set_sigma(variant)
            assert relative(together[row], logits(live.model, ids[row : row + 1])[0]) < logits_apart(model)


def test_generation_with_a_row_axis_equals_generating_each_variant_alone(llama):
    model, folder = llama
    prompt = token_ids(rows=1)
    options = {"max_new_tokens": 10, "do_sample": False, "pad_token_id": 3}
    with attach(model, folder) as live:
        variants = [random_sigma(live.spectra, seed=seed) for seed in range(3)]
        live.set_sigma({name: np.stack([v[name] for v in variants]) for name in live.spectra})
        output = live.model.generate(
            prompt.repeat(3, 1),
            attention_mask=torch.ones(3, 11),
            output_logits=True,
            return_dict_in_generate=True,
            **options,
        )
        assert_clear_choice(model, torch.stack(output.logits))
        together = output.sequences
        for row, variant in enumerate(variants):
            live.set_sigma(variant)
            alone = live.model.generate(prompt, attention_mask=torch.ones(1, 11), **options)[0]
            np.testing.assert_array_equal(together[row, : alone.numel()], alone)
    assert len({tuple(row.tolist()) for row in together}) > 1, "the variants must differ to show anything"


def test_rows_of_sigma_that_do_not_match_the_batch_are_refused(llama):
    with attach(*llama) as live:
        live.set_sigma({name: np.stack([s.sigma] * 2) for name, s in live.spectra.items()})
        with pytest.raises(BaseModelError, match="2 rows of σ met an input of shape"):
            live.model(input_ids=token_ids(rows=3))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_sigma_of_another_length_is_refused(llama, size):
    # length 1 would broadcast over all components without a word
    with attach(*llama) as live, pytest.raises(SurgeryError):
        live.set_sigma({"model.layers.0.self_attn.o_proj": np.ones(size)})


def test_sigma_for_a_module_the_adapter_lacks_is_refused(llama):
    # ignoring it would score the unedited adapter under the variant's name
    with attach(*llama) as live, pytest.raises(SurgeryError):
        live.set_sigma({"model.layers.0.self_attn.o_prj": np.ones(4)})


def test_a_zero_perturbation_changes_no_logit(llama):
    with attach(*llama) as live:
        before = logits(live.model, token_ids())
        live.perturb(live.spectra, rows=3)
        np.testing.assert_array_equal(logits(live.model, token_ids()), before)
        live.unperturb()
        # a batch of two rows may be summed in another order than one of three
        assert relative(logits(live.model, token_ids(rows=2)), before[:2]) < logits_apart(live.model)


def test_a_perturbation_moves_logits_as_a_change_of_sigma_does(llama):
    with attach(*llama) as live:
        shift = {name: np.linspace(-0.5, 0.5, spectrum.rank) for name, spectrum in live.spectra.items()}
        for name, e in live.perturb(live.spectra, rows=3).items():
            e.data += torch.as_tensor(shift[name])
        perturbed = logits(live.model, token_ids())
        live.unperturb()
        live.set_sigma({name: live.spectra[name].sigma + shift[name] for name in shift})
        assert relative(perturbed, logits(live.model, token_ids())) < logits_apart(live.model)


POSITIONS = {
    "llama": (lambda: tiny_llama(max_position_embeddings=20), LLAMA_TARGETS, 20),
    "gpt2": (lambda: tiny_gpt2(n_positions=21), GPT2_TARGETS, 21),
    "mpt": (
        lambda: MptForCausalLM(
            MptConfig(d_model=16, n_heads=2, n_layers=1, vocab_size=VOCABULARY, max_seq_len=22)
        ),
        ("Wqkv",),
        22,
    ),
    # a table of 25, of which the places up to the padding's are never looked up
    "roberta": (
        lambda: RobertaForCausalLM(
            RobertaConfig(
                vocab_size=VOCABULARY,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=25,
                pad_token_id=1,
                is_decoder=True,
            )
        ),
        ("query", "value"),
        23,
    ),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_a_model_reads_as_many_tokens_as_it_has_positions_for_and_no_more(name, tmp_path):
    make, targets, expected = POSITIONS[name]
    folder = save_adapter(make(), tmp_path / "adapter", targets=targets, fan_in_fan_out=name == "gpt2")
    with attach(make().requires_grad_(False).eval(), folder) as live:
        assert live.positions == expected
        logits(live.model, torch.full((1, expected), 7))
        live.check_positions(expected)
        with pytest.raises(DataError, match=f"{expected + 1} tokens, more than {expected}"):
            live.check_positions(expected + 1)


def test_a_model_without_a_limit_has_no_number_of_positions(tmp_path):
    def make():
        return BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=1, n_head=2))

    folder = save_adapter(make(), tmp_path / "adapter", targets=("query_key_value",))
    with attach(make().requires_grad_(False).eval(), folder) as live:
        assert live.positions is None
        live.check_positions(1 << 20)


def test_close_restores_the_base_exactly(case):
    model, folder = case
    modules = dict(model.named_modules())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    before = logits(model, token_ids())
    live = attach(model, folder)
    live.set_sigma(random_sigma(live.spectra, seed=2))
    live.perturb(live.spectra, rows=3)
    assert relative(logits(model, token_ids()), before) > 0.05
    live.close()
    restored = dict(model.named_modules())
    assert list(restored) == list(modules)
    assert all(restored[name] is module for name, module in modules.items())
    assert list(model.state_dict()) == list(weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    np.testing.assert_array_equal(logits(model, token_ids()), before)


def test_closing_twice_is_harmless_and_the_base_can_be_used_again(llama):
    model, folder = llama
    live = attach(model, folder)
    first = logits(model, token_ids())
    live.close()
    live.close()
    with attach(model, folder):
        np.testing.assert_array_equal(logits(model, token_ids()), first)


def test_an_error_inside_the_context_still_closes(llama):
    model, folder = llama
    before = logits(model, token_ids())
    with pytest.raises(KeyError), attach(model, folder):
        raise KeyError
    np.testing.assert_array_equal(logits(model, token_ids()), before)


def test_a_zero_adapter_gives_the_base_models_logits(tmp_path):
    model = tiny_llama()
    folder = save_adapter(model, tmp_path / "adapter", scale=0.0)
    before = logits(model, token_ids())
    with attach(model, folder):
        np.testing.assert_array_equal(logits(model, token_ids()), before)


def test_the_live_layers_take_the_bases_mode(llama):
    model, folder = llama
    with attach(model, folder) as live:
        assert not any(module.training for module in live.model.modules())


def test_a_base_without_the_adapters_modules_is_refused_and_left_alone(llama):
    _, folder = llama
    adapter = open_adapter(folder)
    shallow = tiny_llama(num_hidden_layers=2)
    before = logits(shallow, token_ids())
    message = refuse(BaseModelError, shallow, adapter, decompose(adapter))
    assert "no module 'model.layers.2." in message
    np.testing.assert_array_equal(logits(shallow, token_ids()), before)


def test_a_base_of_another_architecture_is_refused(llama):
    adapter = open_adapter(llama[1])
    assert "no module" in refuse(BaseModelError, tiny_gpt2(), adapter, decompose(adapter))


def test_a_base_of_another_shape_is_refused_with_both_shapes(llama):
    adapter = open_adapter(llama[1])
    wider = tiny_llama(intermediate_size=56)
    before = logits(wider, token_ids())
    message = refuse(BaseModelError, wider, adapter, decompose(adapter))
    assert "56 × 32" in message or "32 × 56" in message
    assert "48 × 32" in message or "32 × 48" in message
    np.testing.assert_array_equal(logits(wider, token_ids()), before)


def test_a_transposed_base_is_not_taken_for_the_right_one(tmp_path):
    # 32 × 48 against 48 × 32: Conv1D keeps (in, out), and only the right reading tells them apart
    folder = save_adapter(tiny_gpt2(), tmp_path / "adapter", targets=["c_fc"], fan_in_fan_out=True)
    rename(folder, "c_fc", "c_proj")
    adapter = open_adapter(folder)
    assert "32 × 48" in refuse(BaseModelError, tiny_gpt2(), adapter, decompose(adapter))


def test_a_target_that_is_no_linear_layer_is_refused_by_its_type(tmp_path):
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", targets=["down_proj"])
    rename(folder, "mlp.down_proj", "input_layernorm")
    adapter = open_adapter(folder)
    assert "RMSNorm" in refuse(BaseModelError, tiny_llama(), adapter, decompose(adapter))


def test_spectra_of_other_modules_are_refused(llama):
    adapter = open_adapter(llama[1])
    spectrum = next(iter(decompose(adapter).values()))
    assert "spectra" in refuse(AdapterError, tiny_llama(), adapter, {"model.embed_tokens": spectrum})


def rename(folder: Path, old: str, new: str) -> None:
    """Let an adapter's factors belong to another module, in the weights and in the config."""
    file = folder / "adapter_model.safetensors"
    save_file({key.replace(old, new): tensor for key, tensor in load_file(file).items()}, file)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = [new.rpartition(".")[2]]
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("second", ["q_proj", "o_proj"], ids=["same modules", "other modules"])
def test_a_second_adapter_on_the_same_base_is_refused(tmp_path, second):
    # on other modules too: both would run at once, and every number would belong to their sum
    model = tiny_llama()
    with attach(model, save_adapter(model, tmp_path / "first", targets=["q_proj"])):
        adapter = open_adapter(save_adapter(tiny_llama(), tmp_path / "second", targets=[second]))
        message = refuse(BaseModelError, model, adapter, decompose(adapter))
        assert "another adapter is attached" in message
