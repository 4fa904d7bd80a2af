"""The base as a variant: the plain model of transformers, whatever else than factors training left in the adapter."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from surgery.adapter import open_adapter
from surgery.errors import BaseModelError, DataError
from surgery.model import (
    BaseChoice,
    LiveModel,
    VariantEngine,
    base_for,
    changes_beside_sigma,
    refuse_without_base,
    silenced,
)
from surgery.spectra import decompose
from tests.helpers.classifiers import KINDS, save_classifier
from tests.helpers.models import (
    LLAMA_TARGETS,
    VOCABULARY,
    example_loss,
    loaded_base,
    moved,
    random_examples,
    tiny_llama,
)
from tests.helpers.refusals import refusal
from tests.helpers.rounding import assert_losses

RESIZED = "resized vocabulary"
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "factors alone": ({}, ()),
    "LoRA biases": ({"lora_bias": True}, ("LoRA biases",)),
    "all biases": ({"bias": "all"}, ("biases",)),
    "biases of adapted layers": ({"bias": "lora_only"}, ("biases",)),
    "saved modules": ({"modules_to_save": ["lm_head"]}, ("saved modules",)),
    "trained tokens": ({"trainable_token_indices": [7, 11]}, ("trained tokens",)),
    "DoRA": ({"use_dora": True}, ("DoRA's magnitudes",)),
    "replicated layers": ({"layer_replication": [[0, 2], [1, 3]]}, ("replicated layers",)),
    RESIZED: ({}, ("saved modules",)),
}


def base_model() -> Any:
    """With biases in its attention, away from zero; the same on every call."""
    return moved(tiny_llama(attention_bias=True, tie_word_embeddings=False).requires_grad_(True)).requires_grad_(
        False
    )


def trained(folder: Path, config: dict[str, Any], tokens: int = VOCABULARY) -> Path:
    """An adapter of which peft trained everything that it trains, on a base with so many tokens."""
    model = base_model()
    if tokens != VOCABULARY:
        model.resize_token_embeddings(tokens)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=list(LLAMA_TARGETS), task_type="CAUSAL_LM", **config)
    moved(get_peft_model(model, lora), seed=2, by=0.2).save_pretrained(
        folder, save_embedding_layers=tokens != VOCABULARY
    )
    return folder


@pytest.fixture(scope="module", params=CASES)
def kind(request, tmp_path_factory):
    config, beside = CASES[request.param]
    tokens = VOCABULARY + 3 if request.param == RESIZED else VOCABULARY
    adapter = open_adapter(trained(tmp_path_factory.mktemp("adapter"), config, tokens))
    return SimpleNamespace(adapter=adapter, spectra=decompose(adapter), beside=beside)


def attach(kind) -> LiveModel:
    return LiveModel(loaded_base(base_model()), kind.adapter, kind.spectra)


def logits(model: Any) -> torch.Tensor:
    ids = torch.randint(6, VOCABULARY, (3, 11), generator=torch.Generator().manual_seed(0))
    ids[:, 4] = 7  # one of the trained tokens
    with torch.no_grad():
        return model(input_ids=ids).logits


def test_the_base_alone_gives_the_logits_of_the_plain_model_bit_by_bit_and_the_adapter_comes_back(kind):
    plain = logits(base_model())
    with attach(kind) as live:
        before = logits(live.model)
        assert before.shape != plain.shape or not torch.allclose(before, plain)
        with live.alone() as same:
            assert same is live
            assert torch.equal(logits(live.model), plain)
        assert torch.equal(logits(live.model), before)


def test_sigma_zero_is_the_base_just_where_nothing_beside_the_factors_is_found(kind):
    assert changes_beside_sigma(kind.adapter) == kind.beside
    plain = logits(base_model())
    with attach(kind) as live:
        live.set_sigma(silenced(kind.spectra))
        found = logits(live.model)
        assert (found.shape == plain.shape and torch.equal(found, plain)) == (not kind.beside)


def test_the_engine_asks_the_base_alone_as_a_plain_model_is_asked(kind):
    examples = random_examples(5, seed=3)
    plain = [example_loss(base_model(), example).item() for example in examples]
    with attach(kind) as live, live.alone():
        found = VariantEngine(live, {"base": None}).answer(examples, max_new_tokens=5)["base"]
        assert_losses([each.loss for each in found], plain, live.model)


def test_a_base_that_rides_along_scores_as_the_plain_model_in_any_batch(tmp_path):
    adapter = open_adapter(trained(tmp_path, {}))
    spectra, examples = decompose(adapter), random_examples(5, seed=3)
    half = {name: 0.5 * spectrum.sigma for name, spectrum in spectra.items()}
    plain = [example_loss(base_model(), example).item() for example in examples]
    with LiveModel(loaded_base(base_model()), adapter, spectra) as live:
        for rows in (3, 64):
            engine = VariantEngine(live, {"unedited": None, "half": half, "base": silenced(spectra)}, rows=rows)
            found = engine.answer_losses(examples)
            assert_losses(found["base"], plain, live.model)
            assert abs(found["unedited"] - plain).max() > 1e-2


def test_a_base_that_lacks_a_token_refuses_it_and_says_how_many_it_knows(tmp_path):
    adapter = open_adapter(trained(tmp_path, {}, VOCABULARY + 3))
    asked = [((5, VOCABULARY), (7,))]
    with LiveModel(loaded_base(base_model()), adapter, decompose(adapter)) as live:
        VariantEngine(live, {"unedited": None}).log_likelihoods(asked)
        with live.alone():
            engine = VariantEngine(live, {"base": None})
            for ask, *arguments in (
                (engine.log_likelihoods, asked),
                (engine.answer_losses, random_examples(1, vocabulary=VOCABULARY + 40)),
            ):
                said = refusal(DataError, ask, *arguments)
                assert f"the base model without the adapter knows {VOCABULARY:,}" in said
            said = refusal(DataError, engine.generate, [(5, VOCABULARY + 2)], max_new_tokens=1)
            assert f"token number {VOCABULARY + 2:,}" in said
            assert "--base-arm" in said


def test_a_classifier_without_a_head_of_its_own_is_no_base(tmp_path):
    _, base, folder = save_classifier(KINDS["bert"], tmp_path)
    said = refusal(BaseModelError, refuse_without_base, base_for(open_adapter(folder), BaseChoice(str(base))))
    assert "classifier" in said
    assert "--base-arm" in said
    refuse_without_base(loaded_base(base_model()))
