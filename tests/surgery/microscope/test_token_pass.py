"""Shares of tokens against a recomputation by hooks on a plain merged model in float64, and against stored g."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.data import Example
from surgery.errors import Cancelled, DataError
from surgery.microscope import measure_tokens, random_directions
from surgery.model import LiveModel
from surgery.progress import Control
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import decompose
from tests.helpers import classifiers, seq2seq
from tests.helpers.dense_inputs import CASES
from tests.helpers.models import (
    double,
    example_loss,
    loaded_base,
    merged,
    random_examples,
    relative,
    save_adapter,
    singular_triplets,
    tiny_mixtral,
    with_peft,
)
from tests.helpers.rounding import sensitivities_apart
from tests.surgery.sensitivity.conftest import EXAMPLES, attached_to, calibration, measure, stopping

FEW = EXAMPLES[:4]
LONGEST = max(example.length for example in EXAMPLES)
MODULES = {
    "llama": ("model.layers.0.self_attn.k_proj", "model.layers.2.mlp.down_proj"),
    "gpt2": ("transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_proj"),
    "embeddings and head": ("model.embed_tokens", "lm_head"),
    "convolution": ("model.layers.1.mlp.mix",),
}


@pytest.fixture(scope="module", params=MODULES)
def case(request, tmp_path_factory):
    make, options = CASES[request.param]
    folder = save_adapter(make(), tmp_path_factory.mktemp("adapter"), **options)
    return make(), folder, MODULES[request.param]


def parts_of(layer: Any, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """What entered a layer in one pass over one row, and the gradient of what `run` returns at its output."""
    seen: list[torch.Tensor] = []

    def hook(_: Any, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        out = out.detach().requires_grad_()
        seen.extend((given[0].detach(), out))
        return out

    handle = layer.register_forward_hook(hook)
    run().backward()
    handle.remove()
    assert seen[1].grad is not None
    return seen[0], seen[1].grad


def dense_shares(heavy: Any, U: torch.Tensor, V: torch.Tensor, name: str, example: Example) -> Any:
    """(uᵀδ)(vᵀx) and vᵀx of every token of one row alone in a merged model; U and V are of peft's dense ΔW."""
    layer = heavy.get_submodule(name)
    x, delta = parts_of(layer, lambda: example_loss(heavy, example))
    if isinstance(layer, torch.nn.Embedding):
        U, V = V, U  # PEFT's ΔW of a table is (vocabulary, embedding)
        along = V[x[0]]
    elif isinstance(layer, torch.nn.Conv1d):
        along, delta = x[0].T @ V, delta.mT
    else:
        along = x[0] @ V
    return ((delta[0] @ U) * along).numpy(), along.numpy()


@pytest.fixture
def square_triplets(monkeypatch):
    """`singular_triplets` for convolutions too, whose dense ΔW has a kernel of one place."""
    original = torch.linalg.svd

    def flat(matrix: torch.Tensor, **options: Any) -> Any:
        return original(matrix.flatten(1) if matrix.dim() > 2 else matrix, **options)

    monkeypatch.setattr(torch.linalg, "svd", flat)


def test_shares_are_those_of_hooks_on_the_merged_model(case, square_triplets):
    model, folder, names = case
    triplets, heavy = singular_triplets(model, folder), merged(double(model), folder)
    with attached_to(double(model), folder) as live:
        for name in names:
            seen = measure_tokens(live, calibration(FEW), name, batch_size=3)
            start = 0
            for example, length in zip(FEW, seen.lengths, strict=True):
                shares, along = dense_shares(heavy, triplets[name][0], triplets[name][2], name, example)
                found = seen.shares[start : start + length]
                projected = seen.projected[start : start + length]
                there = ~np.isnan(projected[:, 0])
                np.testing.assert_allclose(found, shares, rtol=1e-7, atol=1e-11, err_msg=name)
                # a direction's sign is either; x V is kept in float32
                np.testing.assert_allclose(np.abs(projected[there]), np.abs(along[there]), rtol=1e-6, atol=1e-6)
                assert there.all() or name == "lm_head"
                start += length


@pytest.mark.parametrize("batch_size", [1, 4])
def test_shares_of_a_padded_batch_add_up_to_g_in_float32(live, batch_size):
    g = measure(live, FEW).values
    for name in ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"):
        seen = measure_tokens(live, calibration(FEW), name, batch_size=batch_size)
        assert seen.lengths == tuple(example.length for example in FEW)
        assert len(set(seen.lengths)) > 1
        assert relative(sums(seen), g[name]) < sensitivities_apart(live.model, math.sqrt(LONGEST)), name


def sums(seen: Any) -> np.ndarray:
    return np.add.reduceat(seen.shares, np.cumsum([0, *seen.lengths[:-1]]), axis=0)


def test_shares_hold_what_a_token_adds_through_the_norm_of_dora(tmp_path):
    make, options = CASES["dora"]
    folder = save_adapter(make(), tmp_path / "adapter", **options)
    name, example = "model.layers.1.mlp.down_proj", FEW[0]
    heavy = with_peft(double(make()), folder)
    layer = heavy.base_model.model.get_submodule(name)
    x, delta = parts_of(layer, lambda: example_loss(heavy, example))
    weight, magnitude = layer.base_layer.weight, layer.lora_magnitude_vector["default"].weight.detach()
    with attached_to(double(make()), folder) as live:
        seen = measure_tokens(live, calibration([example]), name)
        spectrum = live.spectra[name]
        assert relative(sums(seen), measure(live, [example]).values[name]) < 1e-9
    U, V = torch.from_numpy(spectrum.U), torch.from_numpy(spectrum.V)

    def out(sigma: torch.Tensor) -> torch.Tensor:
        whole = weight + (U * sigma) @ V.T
        return x[0] @ (magnitude / whole.norm(dim=1))[:, None].mul(whole).T

    slopes = torch.func.jacfwd(out)(torch.from_numpy(spectrum.sigma))
    np.testing.assert_allclose(seen.shares, torch.einsum("to,tok->tk", delta[0], slopes), rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_shares_of_encoder_and_decoder_add_up_to_g(kind, tmp_path):
    made = seq2seq.KINDS[kind]
    _, folder = made.save(tmp_path)
    # prompts and answers of one length, so that no shape tells them apart, and others
    rows = [
        Example(e.key, e.prompt_ids, e.answer_ids, "", task="SEQ_2_SEQ_LM") for e in random_examples(5, seed=7)
    ]
    rows.append(Example("same", (8, 9, 10), (11, 12, 5), "", task="SEQ_2_SEQ_LM"))
    adapter = open_adapter(folder)
    with LiveModel(loaded_base(double(made()), task="SEQ_2_SEQ_LM"), adapter, decompose(adapter)) as live:
        names = [name for name in live.spectra if re.search(r"(block|layers)\.0\.(.*\.)?(wo|v|v_proj|fc2)$", name)]
        assert len(names) == 5  # in the encoder, the decoder, and where it looks the encoder up
        g = measure_sensitivity(live, calibration(rows), names).values
        for name in names:
            seen = measure_tokens(live, calibration(rows), name, batch_size=4)
            assert relative(sums(seen), g[name]) < 1e-9, name
            read = np.concatenate([np.arange(e.length) < len(e.prompt_ids) for e in rows])
            looks_up = "EncDecAttention.v" in name or "encoder_attn.v" in name
            encodes = name.startswith(("encoder", "model.encoder")) or looks_up
            np.testing.assert_array_equal(~np.isnan(seen.projected[:, 0]), read == encodes, err_msg=name)
            assert not seen.shares[read != encodes].any()


@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS"])
def test_shares_of_a_classifier_add_up_to_g(task, tmp_path):
    _, _, folder = classifiers.save_classifier(classifiers.KINDS["bert"], tmp_path, task)
    rng, rows = np.random.default_rng(0), []
    for i, length in enumerate((4, 9, 6)):
        ids = tuple(map(int, rng.integers(5, 29, size=length)))
        labels = tuple(map(int, rng.integers(0, 3, size=length))) if task == "TOKEN_CLS" else (i % 3,)
        rows.append(Example(str(i), ids, labels, "", task=task))
    adapter = open_adapter(folder)
    with LiveModel(
        loaded_base(double(classifiers.KINDS["bert"].model(task)), task=task), adapter, decompose(adapter)
    ) as live:
        name = next(name for name in live.spectra if name.endswith("0.attention.self.query"))
        g = measure_sensitivity(live, calibration(rows), [name]).values[name]
        seen = measure_tokens(live, calibration(rows), name)
        assert seen.lengths == (4, 9, 6)
        assert relative(sums(seen), g) < 1e-9


def test_random_readings_are_the_largest_over_tokens_in_contexts_of_their_own(live):
    name = "model.layers.1.self_attn.o_proj"
    twice = [*FEW, FEW[0]]
    seen = measure_tokens(live, calibration(twice), name, batch_size=2)
    first = seen.first.copy()
    assert not first[-FEW[0].length :].any()  # all of it stands in the first row already
    assert first[: FEW[0].length].all()
    entered = []
    layer = live.model.get_submodule(name)
    for example in FEW:
        handle = layer.register_forward_pre_hook(lambda _, given: entered.append(given[0][0]))
        with torch.no_grad():
            example_loss(live.model, example)
        handle.remove()
    along = torch.cat(entered)[torch.from_numpy(first[: -FEW[0].length])] @ torch.from_numpy(random_directions(32))
    expected = along.abs().sort(dim=0, descending=True).values.T[:, : seen.random.shape[1]].numpy()
    assert relative(seen.random, expected) < sensitivities_apart(live.model)


def test_drawn_answers_are_the_measurements_own(live):
    drawn = replace(calibration(), sampled=3)
    g = measure_sensitivity(live, drawn, list(live.spectra)).values
    few = replace(drawn, examples=drawn.examples[2:5])
    name = "model.layers.0.mlp.down_proj"
    seen = measure_tokens(live, few, name)
    assert relative(sums(seen), g[name][2:5]) < sensitivities_apart(live.model, math.sqrt(LONGEST))


def test_recomputing_in_the_backward_pass_counts_no_token_twice(live):
    name = "model.layers.0.mlp.gate_proj"
    plain = measure_tokens(live, calibration(FEW), name)
    again = measure_tokens(live, calibration(FEW), name, checkpointing=True)
    np.testing.assert_array_equal(again.shares, plain.shares)


def test_experts_and_places_that_are_no_tokens_are_refused(tmp_path):
    folder = save_adapter(
        tiny_mixtral(),
        tmp_path / "experts",
        targets=["q_proj"],
        target_parameters=["mlp.experts.down_proj"],
        lora_dropout=0,
    )
    with attached_to(tiny_mixtral(), folder) as live:
        expert = next(name for name in live.spectra if "experts" in name)
        with pytest.raises(DataError, match=r"sorted by expert.*q_proj"):
            measure_tokens(live, calibration(FEW), expert)
        with pytest.raises(DataError, match="no module"):
            measure_tokens(live, calibration(FEW), "elsewhere")
    make, options = CASES["convolution"]
    folder = save_adapter(make(), tmp_path / "flat", **options)
    with attached_to(make(), folder) as live:
        with pytest.raises(DataError, match="places are no tokens"):
            measure_tokens(live, calibration(FEW), "model.layers.1.mlp.flat")
        assert measure(live, FEW).values["model.layers.1.mlp.flat"].any()  # nothing is left behind


def test_a_cancelled_pass_leaves_the_model_as_it_was(live):
    expected = measure(live, FEW)
    with pytest.raises(Cancelled):
        measure_tokens(
            live,
            calibration(FEW),
            "model.layers.0.mlp.gate_proj",
            batch_size=1,
            control=Control(progress=stopping(2)[0]),
        )
    np.testing.assert_array_equal(measure(live, FEW).losses, expected.losses)
    assert all(parts.spread is None for layer in live.layers.values() for parts in [layer.components])
