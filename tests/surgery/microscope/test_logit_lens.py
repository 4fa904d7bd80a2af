"""What a direction writes, against a dense computation with the weights themselves in float64."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from surgery.adapter import open_adapter
from surgery.data import Example
from surgery.errors import BaseModelError
from surgery.microscope import logit_lens, random_directions
from surgery.model import LiveModel
from surgery.spectra import decompose
from tests.helpers import classifiers, seq2seq
from tests.helpers.models import GPT2_TARGETS, loaded_base, save_adapter, tiny_gpt2, tiny_llama
from tests.surgery.sensitivity.conftest import EXAMPLES, attached_to

SHORT = EXAMPLES[0]


def dense_logits(directions: np.ndarray, gamma: torch.Tensor, head: torch.Tensor, *, centred: bool) -> np.ndarray:
    """(direction, vocabulary): every unit direction at its usual size, normed by hand, with its weights, through the head."""
    states = directions.T.astype(np.float64)
    if centred:
        states = states - states.mean(axis=1, keepdims=True)
    states = states / np.sqrt((states**2).mean(axis=1, keepdims=True) + 1e-5 / directions.shape[0])
    return (states * gamma.double().numpy()) @ head.double().numpy().T


def assert_lens(lens, U, gamma, head, *, centred=False):
    logits = dense_logits(U, gamma, head, centred=centred)
    random = dense_logits(random_directions(U.shape[0]), gamma, head, centred=centred)
    deviation = np.sqrt((random**2).mean(axis=0))
    bound = 1e-4 * np.abs(random).max()  # the norms' ε, and float32
    np.testing.assert_allclose(lens.random, random.max(axis=1), atol=bound)
    for k, row in enumerate(logits):
        for side, sign in enumerate((1, -1)):
            tokens = lens.tokens[k, side]
            np.testing.assert_allclose(lens.logits[k, side], sign * row[tokens], atol=bound)
            written = deviation[tokens] > 0  # a padding's row of the table may be all zero
            expected = np.divide(sign * row[tokens], deviation[tokens], out=np.zeros(len(tokens)), where=written)
            np.testing.assert_allclose(lens.deviations[k, side], expected, atol=1e-3)
            others = np.delete(sign * row, tokens)
            assert others.max() <= lens.logits[k, side].min() + bound


def test_the_lens_of_a_llama_is_its_norms_weight_and_its_head(tmp_path):
    model = tiny_llama()
    with torch.no_grad():
        model.model.norm.weight.copy_(torch.linspace(0.2, 2, 32))
    folder = save_adapter(model, tmp_path, targets=["o_proj", "down_proj", "embed_tokens", "q_proj"])
    with attached_to(model, folder) as live:
        gamma, head = model.model.norm.weight.detach(), model.lm_head.weight.detach()
        for name in ("model.layers.0.self_attn.o_proj", "model.layers.2.mlp.down_proj", "model.embed_tokens"):
            assert_lens(logit_lens(live, name, SHORT), live.spectra[name].U, gamma, head)
        with pytest.raises(BaseModelError, match="does not write into the residual stream"):
            logit_lens(live, "model.layers.0.self_attn.q_proj", SHORT)


def test_the_lens_of_dora_has_its_scale_of_the_outputs(tmp_path):
    model = tiny_llama()
    folder = save_adapter(model, tmp_path, targets=["down_proj"], use_dora=True)
    name = "model.layers.1.mlp.down_proj"
    trained = moved_magnitudes(folder)
    with attached_to(model, folder) as live:
        spectrum = live.spectra[name]
        weight = live.model.get_submodule(name).base.weight.double().numpy()
        norms = np.linalg.norm(weight + (spectrum.U * spectrum.sigma) @ spectrum.V.T, axis=1)
        scaled = (trained[name] / norms)[:, None] * spectrum.U
        assert_lens(
            logit_lens(live, name, SHORT),
            scaled / np.linalg.norm(scaled, axis=0),
            model.model.norm.weight.detach(),
            model.lm_head.weight.detach(),
        )


def moved_magnitudes(folder) -> dict[str, np.ndarray]:
    """Give every output of a saved DoRA another magnitude; returns them by module."""
    file = folder / "adapter_model.safetensors"
    tensors, found = load_file(file), {}
    for key in [key for key in tensors if "magnitude" in key]:
        tensors[key] = tensors[key] * np.linspace(0.3, 3, tensors[key].size, dtype=np.float32)
        found[key.removeprefix("base_model.model.").partition(".lora_")[0]] = tensors[key].astype(np.float64)
    save_file(tensors, file)
    return found


def test_the_lens_of_a_gpt2_centres_and_leaves_biases_out(tmp_path):
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.ln_f.weight.copy_(torch.linspace(0.2, 2, 32))
        model.transformer.ln_f.bias.copy_(torch.linspace(-3, 3, 32))
    folder = save_adapter(model, tmp_path, targets=GPT2_TARGETS, fan_in_fan_out=True)
    with attached_to(model, folder) as live:
        name = "transformer.h.0.mlp.c_proj"
        gamma, tied = model.transformer.ln_f.weight.detach(), model.transformer.wte.weight.detach()
        assert_lens(logit_lens(live, name, SHORT), live.spectra[name].U, gamma, tied, centred=True)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("t5", {}), ("t5", {"tie_word_embeddings": True}), ("bart", {})],
    ids=["t5", "tied", "bart"],
)
def test_the_lens_of_a_decoder_goes_through_its_own_norm(kind, changes, tmp_path):
    made = seq2seq.KINDS[kind]
    torch.manual_seed(0)
    model = (seq2seq._t5(**changes) if kind == "t5" else made()).requires_grad_(False).eval()
    with torch.no_grad():
        norm = model.decoder.final_layer_norm if kind == "t5" else model.model.decoder.layers[-1].final_layer_norm
        norm.weight.copy_(torch.linspace(0.2, 2, 32))
    _, folder = made.save(tmp_path, model)
    row = Example("", (8, 9, 10), (11, 12, 1), "", task="SEQ_2_SEQ_LM")
    adapter = open_adapter(folder)
    with LiveModel(loaded_base(model, task="SEQ_2_SEQ_LM"), adapter, decompose(adapter)) as live:
        ending = ".wo" if kind == "t5" else ".fc2"
        name = next(n for n in live.spectra if "decoder" in n and n.endswith(ending))
        head = model.get_output_embeddings().weight.detach()
        assert_lens(
            logit_lens(live, name, row), live.spectra[name].U, norm.weight.detach(), head, centred=kind == "bart"
        )
        encoder = next(n for n in live.spectra if "encoder." in n and n.endswith(ending))
        with pytest.raises(BaseModelError, match="encoder's stream"):
            logit_lens(live, encoder, row)


def test_models_without_a_head_of_tokens_are_refused(tmp_path):
    _, _, folder = classifiers.save_classifier(classifiers.KINDS["llama"], tmp_path)
    adapter = open_adapter(folder)
    with LiveModel(
        loaded_base(classifiers.KINDS["llama"].model(), task="SEQ_CLS"), adapter, decompose(adapter)
    ) as live:
        name = next(n for n in live.spectra if n.endswith("down_proj"))
        with pytest.raises(BaseModelError, match="labels and no tokens"):
            logit_lens(live, name, Example("", (5, 6), (1,), "", task="SEQ_CLS"))
    bare = tiny_llama()
    folder = save_adapter(bare, tmp_path / "bare", targets=["o_proj"])
    bare.model.norm = torch.nn.Linear(32, 32, bias=False)
    with attached_to(bare, folder) as live, pytest.raises(BaseModelError, match="not given the output of a norm"):
        logit_lens(live, "model.layers.0.self_attn.o_proj", SHORT)
