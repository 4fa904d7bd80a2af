"""Which way is found: the fastest for models that read rows rightly, a slower one as soon as one of them is wrong."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from surgery.adapter import open_adapter
from surgery.errors import BaseModelError, DataError
from surgery.model import CACHE, LiveModel, VariantEngine, Way, ways
from surgery.spectra import decompose
from tests.helpers.families import attached, train
from tests.helpers.models import VOCABULARY, loaded_base, random_examples, save_adapter
from tests.helpers.refusals import refusal
from tests.helpers.rounding import assert_losses
from tests.surgery.model.conftest import LIMIT, forwards, prompts_of

FASTEST = Way()


def changed(live, monkeypatch, change) -> None:
    """Let `change` rewrite what every forward pass is given."""
    forward = live.model.forward
    monkeypatch.setattr(live.model, "forward", lambda **options: forward(**change(options)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_sends_no_right_model_to_a_slower_way(case, dtype):
    with case.live(case.family.model().to(dtype)) as live:
        assert live.way == FASTEST
        assert live.notes == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_shared_opening_that_shifts_distances_is_found_in_half_precision_too(dtype, tmp_path):
    folder = train("mpt", tmp_path / "adapter")
    with attached("mpt", folder, dtype) as live:
        assert live.way == Way(shared=False)
        assert "what the prompts begin with is read for each of them" in live.notes[0]


def test_a_model_that_is_blind_to_masks_is_padded_on_the_right(live, monkeypatch):
    changed(live, monkeypatch, lambda options: {**options, "attention_mask": None, "position_ids": None})
    assert live.layout == "right"
    assert live.way == Way("right", "equal", shared=False)


def test_a_cache_that_takes_one_token_at_a_time_is_not_asked_for_whole_answers(live, monkeypatch):
    def one(options):
        assert CACHE not in options or options["input_ids"].shape[1] == 1
        return options

    changed(live, monkeypatch, one)
    assert live.way == Way(shared=False, follows=False)


def test_a_model_that_keeps_no_cache_reads_its_rows_again(live, monkeypatch):
    changed(live, monkeypatch, lambda options: {**options, "use_cache": False})
    assert live.way == Way(cached=False, shared=False, follows=False)


def test_a_model_that_mixes_rows_of_a_batch_is_given_one_at_a_time(live, monkeypatch):
    forward = live.model.forward

    def mixing(**options):
        output = forward(**options)
        output.logits = output.logits + 0.1 * output.logits.mean(0) * (len(output.logits) > 1)
        return output

    monkeypatch.setattr(live.model, "forward", mixing)
    assert live.way == Way("single", "single", shared=False)


def test_a_model_whose_tokens_see_later_ones_is_refused(live, monkeypatch):
    forward = live.model.forward

    def seeing(**options):
        output = forward(**options)
        output.logits = output.logits + output.logits[:, -1:]
        return output

    monkeypatch.setattr(live.model, "forward", seeing)
    with pytest.raises(BaseModelError, match="gives a token other numbers when tokens follow it"):
        VariantEngine(live, {"a": None}).answer_losses(random_examples(2))


def test_a_model_that_cannot_read_ids_alone_is_refused_with_its_own_words(live, monkeypatch):
    def wants_more(**options):
        raise KeyError("pixel_values")

    monkeypatch.setattr(live.model, "forward", wants_more)
    with pytest.raises(BaseModelError, match=r"cannot read a row of token ids alone .*pixel_values"):
        VariantEngine(live, {"a": None}).generate(prompts_of(2), max_new_tokens=2)


def test_rows_that_do_not_fit_into_memory_are_refused(live, monkeypatch):
    def short(**options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(live.model, "forward", short)
    with pytest.raises(DataError, match="do not fit into memory"):
        VariantEngine(live, {"a": None}).generate(prompts_of(2), max_new_tokens=2)


def test_a_way_is_found_once_in_a_dozen_short_passes_and_leaves_the_model_as_it_was(live, llama, monkeypatch):
    ids = torch.tensor([prompts_of(1)[0]])
    with torch.no_grad():
        before = live.model(input_ids=ids).logits
    seen = []
    changed(live, monkeypatch, lambda options: seen.append(options["input_ids"].shape) or options)
    assert live.way == FASTEST
    assert len(seen) <= 12
    assert all(rows <= 3 and tokens <= 24 for rows, tokens in seen)
    count = len(seen)
    assert live.way == live._ways.way
    assert len(seen) == count
    with torch.no_grad():
        torch.testing.assert_close(live.model(input_ids=ids).logits, before, rtol=0, atol=0)


ALL = [way for layout in ways.LAYOUTS for way in ways.decoding_ways(layout)]


@pytest.mark.parametrize("way", ALL, ids=str)
def test_every_way_gives_the_losses_and_answers_of_the_fastest(live, llama, way, monkeypatch):
    examples, variants = random_examples(5), {name: llama.variants[name] for name in ("all", "unedited")}
    opening = (7, 8, 9, 10, 11, 12, 13, 14, 15)
    prompts = [opening + prompt for prompt in prompts_of(5)]

    def everything():
        engine = VariantEngine(live, variants)
        requests = [(e.prompt_ids, e.answer_ids) for e in examples]
        return (
            engine.answer(examples, max_new_tokens=LIMIT),
            engine.answer_losses(examples),
            engine.log_likelihoods(requests),
            engine.generate(prompts, max_new_tokens=LIMIT),
        )

    expected = everything()
    monkeypatch.setitem(live.__dict__, "_ways", SimpleNamespace(layout=way.scoring, way=way))
    shapes = forwards(live, monkeypatch)
    found = everything()
    if way.scoring == way.decoding == "single":
        assert {rows for rows, _ in shapes} == {1}
    assert found[3] == expected[3]
    for name in variants:
        assert [each.tokens for each in found[0][name]] == [each.tokens for each in expected[0][name]]
        for part, value in ((0, "loss"), (2, "log_likelihood")):
            numbers = [np.array([getattr(each, value) for each in side[part][name]]) for side in (found, expected)]
            assert_losses(*numbers, live.model)
        assert_losses(found[1][name], expected[1][name], live.model)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_an_encoder_with_a_language_models_head_is_refused_and_runs_where_its_config_makes_it_a_decoder(
    family, tmp_path
):
    """Attention goes both ways in it: the last token of an answer moves the logits before the first."""
    for is_decoder in (False, True):
        config = CONFIG_MAPPING[family](
            vocab_size=VOCABULARY,
            hidden_size=32,
            embedding_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            initializer_range=0.2,
            is_decoder=is_decoder,
        )
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
        adapter = open_adapter(save_adapter(model, tmp_path / f"{is_decoder}", targets=("query", "value")))
        with LiveModel(loaded_base(model), adapter, decompose(adapter)) as live:
            if is_decoder:
                assert live.layout
                continue
            message = refusal(BaseModelError, getattr, live, "layout")
            assert "other numbers when tokens follow it" in message
            assert "makes them one with is_decoder" in message
