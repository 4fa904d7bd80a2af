"""What enters the modules, and E‖ΔWx‖² from it, against PEFT's own layers, one unpadded row at a time."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from surgery.adapter import open_adapter
from surgery.errors import DataError
from surgery.model import BaseChoice, LiveModel, attach
from surgery.sensitivity import (
    load_sensitivity,
    save_sensitivity,
)
from surgery.spectra import decompose
from tests.helpers import classifiers, seq2seq
from tests.helpers.dense_inputs import CASES, EXACT, Tokens, dense, energies, functional, whole
from tests.helpers.models import (
    double,
    loaded_base,
    random_examples,
    relative,
    save_adapter,
    tiny_llama,
    with_peft,
)
from tests.helpers.rounding import apart, terms_of
from tests.surgery.sensitivity.conftest import EXAMPLES, attached_to, measure

LAYOUTS = ("left", "right", "equal", "single")


@pytest.fixture(scope="module", params=CASES)
def case(request: Any, tmp_path_factory: Any) -> tuple[Any, Path]:
    make, options = CASES[request.param]
    return make(), save_adapter(make(), tmp_path_factory.mktemp("adapter"), **options)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_functional_energy_is_the_dense_mean_of_the_squared_update_of_every_token(case, layout):
    model, folder = case
    with attached_to(double(model), folder) as live:
        inputs = measure(live, batch_size=4, layout=layout).inputs
        seen = [name for name in live.spectra if not name.endswith("flat")]
        assert set(inputs.prompt) == set(seen)  # the places of a two-dimensional convolution are no tokens
        expected = dense(with_peft(double(model), folder), seen, EXAMPLES, whole)
        for name in seen:
            parts = ("answer",) if name == "lm_head" else ("all", "prompt", "answer")
            for part in parts:
                assert functional(live, inputs, name, part) == pytest.approx(expected[name].mean(part), rel=EXACT)
            M = inputs.of(name, "answer")
            np.testing.assert_array_equal(M, M.T)
            assert np.linalg.eigvalsh(M).min() > -EXACT * np.linalg.norm(M)


def test_in_float32_the_energy_is_within_rounding_of_the_dense_one(case):
    model, folder = case
    with attached_to(copy.deepcopy(model), folder) as live:
        inputs = measure(live, batch_size=4).inputs
        expected = dense(
            with_peft(double(model), folder), [n for n in inputs.prompt if n != "lm_head"], EXAMPLES, whole
        )
        for name, tokens in expected.items():
            # a square has twice the relative error of what is squared
            bound = 2 * apart(terms_of(live.model))
            assert functional(live, inputs, name, "all") == pytest.approx(tokens.mean("all"), rel=bound), name


def test_an_output_layer_counts_answers_alone_whatever_else_stands_in_its_batch(tmp_path):
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", targets=("lm_head",))
    answers = sum(len(example.answer_ids) for example in EXAMPLES)
    with attached_to(double(tiny_llama()), folder) as live:
        found = [measure(live, batch_size=size).inputs for size in (1, 4, 9)]
    for inputs in found:
        assert inputs.apart == {"lm_head": {"prompt": 0, "answer": answers}}
        assert relative(inputs.of("lm_head"), found[0].of("lm_head")) < EXACT
        with pytest.raises(DataError, match="no token of part 'prompt' enters module 'lm_head'"):
            inputs.of("lm_head", "prompt")


def test_recomputing_counts_each_token_once(live):
    plain, again = measure(live), measure(live, checkpointing=True)
    assert again.inputs.tokens == plain.inputs.tokens
    assert again.inputs.apart == plain.inputs.apart == {}
    for name in plain.values:
        np.testing.assert_array_equal(again.inputs.prompt[name], plain.inputs.prompt[name])
        np.testing.assert_array_equal(again.inputs.answer[name], plain.inputs.answer[name])


def test_a_batch_that_does_not_fit_counts_nothing(live, monkeypatch):
    from surgery.sensitivity import backward as module

    expected = measure(live, batch_size=2)
    original = module.answer_losses

    def scarce(model, batch):
        loss = original(model, batch)  # the layers have run before memory is short
        if len(batch.indices) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return loss

    monkeypatch.setattr(module, "answer_losses", scarce)
    halved = measure(live, batch_size=4)
    assert (halved.inputs.tokens, halved.inputs.apart) == (expected.inputs.tokens, {})
    for name in expected.values:
        np.testing.assert_array_equal(halved.inputs.answer[name], expected.inputs.answer[name])


@pytest.mark.parametrize("kind", seq2seq.KINDS)
def test_an_encoder_and_what_looks_it_up_see_the_prompt_and_a_decoder_its_answer(kind, tmp_path):
    made = seq2seq.KINDS[kind]
    model = double(made())
    _, folder = made.save(tmp_path)
    # prompts as long as answers, so that no shape tells one from the other
    rng = np.random.default_rng(1)
    pairs = [tuple(map(int, rng.integers(6, 60, size=6))) for _ in range(4)]
    examples = [
        replace(EXAMPLES[0], key=str(i), prompt_ids=a, answer_ids=(*a[::-1][:5], 1), task="SEQ_2_SEQ_LM")
        for i, a in enumerate(pairs)
    ]
    adapter = open_adapter(folder)
    with LiveModel(loaded_base(model, made.tokenizer(), task="SEQ_2_SEQ_LM"), adapter, decompose(adapter)) as live:
        inputs = measure(live, examples, batch_size=3).inputs
        names = list(live.spectra)
        reads = {name: "encoder" in name.split(".")[:2] or cross(name) for name in names}
        expected = {name: Tokens() for name in names}
        peft_model = with_peft(double(made()), folder)
        own = dict(peft_model.base_model.model.named_modules())

        def hook(name: str, layer: Any, given: tuple[torch.Tensor, ...]) -> None:
            expected[name].add("prompt" if reads[name] else "answer", energies(layer, given[0]))

        for name in names:
            own[name].register_forward_pre_hook(partial(hook, name))
        with torch.no_grad():
            for example in examples:
                seq2seq.pair_loss(peft_model, example)
        assert any(map(cross, names))
        for name in names:
            assert inputs.apart[name] == expected[name].count, name
            part = "prompt" if reads[name] else "answer"
            assert functional(live, inputs, name, part) == pytest.approx(expected[name].mean(part), rel=EXACT)
            assert functional(live, inputs, name, "all") == functional(live, inputs, name, part)


def cross(name: str) -> bool:
    """Whether a module makes keys or values of the encoder's states, by the names of the families here."""
    return ("EncDecAttention" in name or "encoder_attn" in name) and name.endswith(
        (".k", ".v", "k_proj", "v_proj")
    )


@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS"])
def test_all_tokens_of_a_classifier_are_prompt(task, tmp_path):
    kind = classifiers.KINDS["bert"]
    made, base, folder = classifiers.save_classifier(kind, tmp_path, task)
    adapter = open_adapter(folder)
    with attach(adapter, decompose(adapter), BaseChoice(str(base), None, "cpu", "float32")) as live:
        rows = random_examples(6, seed=3, vocabulary=30)
        labelled = [
            replace(
                row, answer_ids=(1,) if task == "SEQ_CLS" else (-100, *[0] * (len(row.prompt_ids) - 1)), task=task
            )
            for row in rows
            if len(row.prompt_ids) > 1
        ]
        found = measure(live, labelled, batch_size=3)
    tokens = sum(len(row.prompt_ids) for row in labelled)
    assert found.inputs.tokens == {"prompt": tokens, "answer": 0}
    assert found.inputs.apart == {}
    wanted = [1 if task == "SEQ_CLS" else len(row.prompt_ids) - 1 for row in labelled]
    assert found.answer_tokens.tolist() == wanted
    plain = {name: Tokens() for name in found.values}
    own = dict(made.double().base_model.model.named_modules())
    for name in plain:
        own[name].register_forward_pre_hook(
            partial(lambda name, layer, given: plain[name].add("prompt", energies(layer, given[0])), name)
        )
    with torch.no_grad():
        for row in labelled:
            made(input_ids=torch.tensor([row.prompt_ids]))
    for name, each in plain.items():
        energy = float(decompose(adapter)[name].sigma ** 2 @ found.inputs.q(name))
        assert energy == pytest.approx(each.mean("all"), rel=2 * apart(terms_of(made))), name


def test_an_answer_has_as_many_tokens_as_its_loss_is_the_mean_of(live):
    assert measure(live).answer_tokens.tolist() == [len(example.answer_ids) for example in EXAMPLES]


def test_a_file_gives_the_moments_back_to_the_bit(live, tmp_path):
    measured = measure(live)
    inputs = replace(measured.inputs, apart={next(iter(measured.values)): {"prompt": 7, "answer": 0}}, base=True)
    file = tmp_path / "g.safetensors"
    save_sensitivity(replace(measured, inputs=inputs), file)
    found = load_sensitivity(file)
    assert (found.inputs.tokens, found.inputs.apart, found.inputs.base) == (inputs.tokens, inputs.apart, True)
    for name in measured.values:
        np.testing.assert_array_equal(found.inputs.prompt[name], inputs.prompt[name])
        np.testing.assert_array_equal(found.inputs.answer[name], inputs.answer[name])
    np.testing.assert_array_equal(found.answer_tokens, measured.answer_tokens)
    np.testing.assert_array_equal(
        found.moments.q, measured.moments.q * 1.0 if not inputs.apart else found.moments.q
    )


def test_a_file_of_an_earlier_version_opens_without_inputs(live, tmp_path):
    save_sensitivity(replace(measure(live), inputs=None, answer_tokens=None), tmp_path / "g.safetensors")
    held = load_file(tmp_path / "g.safetensors")
    assert not [name for name in held if name.startswith("M.") or name == "answer_tokens"]
    found = load_sensitivity(tmp_path / "g.safetensors")
    assert found.inputs is None
    assert found.answer_tokens is None
    assert np.isnan(found.moments.q).all()


@pytest.mark.parametrize("damage", ["shape", "dtype", "infinite", "one part", "tokens", "header"])
def test_moments_that_are_none_make_no_sensitivity_file(live, tmp_path, damage):
    file = tmp_path / "g.safetensors"
    save_sensitivity(measure(live), file)
    with safe_open(str(file), framework="np") as handle:
        metadata = handle.metadata()
    tensors = load_file(file)
    first = tensors["M.prompt.0"]
    tensors |= {
        "shape": {"M.prompt.0": first[1:]},
        "dtype": {"M.prompt.0": first.astype(np.float32)},
        "infinite": {"M.prompt.0": first * np.inf},
        "tokens": {},
        "header": {},
    }.get(damage, {})
    if damage == "one part":
        del tensors["M.answer.0"]
    if damage == "tokens":
        metadata["inputs"] = '{"tokens": {"prompt": -1, "answer": 2}, "apart": {}, "base": false}'
    if damage == "header":
        metadata["inputs"] = "[]"
    save_file(tensors, str(file), metadata=metadata)
    with pytest.raises(DataError, match="no sensitivity file"):
        load_sensitivity(file)


def test_parts_that_are_not_there_are_refused_by_name(live):
    inputs = measure(live).inputs
    name = next(iter(inputs.prompt))
    for part, problem in (("middle", "no part 'middle'"), ("all", "were not measured")):
        with pytest.raises(DataError, match=problem):
            inputs.of(name if part == "middle" else "nowhere", part)
    total = inputs.tokens["prompt"] * inputs.of(name, "prompt") + inputs.tokens["answer"] * inputs.of(
        name, "answer"
    )
    np.testing.assert_allclose(inputs.of(name), total / sum(inputs.tokens.values()), rtol=1e-14)
