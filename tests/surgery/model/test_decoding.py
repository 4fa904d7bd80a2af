"""Prompts read in company: shared beginnings, joined caches, limits."""

import pytest

from surgery.data import Example
from surgery.errors import DataError
from surgery.model import (
    Prompts,
    VariantEngine,
    variant_rows,
)
from tests.helpers.models import (
    EOS,
    greedy_tokens,
    random_examples,
)
from tests.helpers.rounding import assert_losses
from tests.surgery.model.conftest import LIMIT, forwards, generated, prompts_of

PREFIX = (7, 19, 8, 30, 11, 25, 9, 14, 40, 12)
# these neither mix rows nor look back a fixed number of places, and return the usual cache
SHARES = ("llama", "qwen2", "qwen3", "gpt2", "bloom")


def test_what_all_prompts_begin_with_is_read_once_and_changes_no_token_and_no_loss(case, monkeypatch):
    prompts = [(*PREFIX, *prompt) for prompt in prompts_of(7, seed=4)]
    examples = [
        Example("", prompt, e.answer_ids, "") for prompt, e in zip(prompts, random_examples(7, 5), strict=True)
    ]
    with case.live() as attached:
        losses = VariantEngine(attached, case.variants).answer_losses(examples)
        for most in (512, 30):  # in one part, and in several that are joined
            monkeypatch.setitem(variant_rows._TOKENS_AT_ONCE, "cpu", most)
            seen = forwards(attached, monkeypatch)
            found = VariantEngine(attached, case.variants).answer(examples, max_new_tokens=LIMIT)
            if case.name in SHARES:
                assert seen[0][1] == len(PREFIX)
                assert max(tokens for _, tokens in seen) < max(map(len, prompts))
    for name in case.variants:
        reference = case.reference(name)
        assert [each.tokens for each in found[name]] == [generated(reference, prompt) for prompt in prompts], name
        assert_losses([each.loss for each in found[name]], losses[name], reference)


def test_a_shared_prefix_that_does_not_fit_is_not_tried_again(live, llama, monkeypatch):
    prompts = [(*PREFIX, *prompt) for prompt in prompts_of(5)]
    expected = VariantEngine(live, llama.variants).generate(prompts, max_new_tokens=LIMIT)
    seen = forwards(live, monkeypatch, when=lambda rows, tokens: tokens == len(PREFIX))
    assert VariantEngine(live, llama.variants).generate(prompts, max_new_tokens=LIMIT) == expected
    assert [tokens for _, tokens in seen].count(len(PREFIX)) == 1


@pytest.mark.parametrize("configured", [None, 20, [21, 22]])
def test_answers_end_at_every_end_of_sequence_that_is_named(live, llama, configured):
    prompts = prompts_of(6)
    stops = {EOS} | ({configured} if isinstance(configured, int) else set(configured or ()))
    expected = [greedy_tokens(llama.reference("all"), prompt, LIMIT, stops) for prompt in prompts]
    live.model.generation_config.eos_token_id = configured
    found = VariantEngine(live, {"all": llama.variants["all"]}).generate(prompts, max_new_tokens=LIMIT)
    assert found == {"all": expected}


def test_answers_stay_within_the_positions_of_the_model(trained):
    gpt2 = trained("gpt2")  # looks positions up in a table of 64
    with gpt2.live() as attached:
        attached.model.transformer.wte.weight[EOS] = 0
        engine = VariantEngine(attached, gpt2.variants)
        found = engine.generate([(7,) * 60, (8,) * 64, (9,) * 3], max_new_tokens=LIMIT)
        assert [len(row) for row in found["all"]] == [5, 1, LIMIT]
        engine.log_likelihoods([((7,) * 60, (8,) * 5)])
        for refused in (
            lambda: engine.generate([(7,) * 65], max_new_tokens=1),
            lambda: engine.log_likelihoods([((7,) * 60, (8,) * 6)]),
            lambda: engine.answer_losses([Example("k", (7,) * 60, (8,) * 5, "")]),
        ):
            with pytest.raises(DataError, match="65 tokens, more than 64"):
                refused()


def test_joined_prompts_of_unequal_length_go_on_like_those_read_at_once(live):
    prompts = prompts_of(5, seed=6)
    whole = Prompts(live, prompts)
    first = Prompts(live, prompts[:2], width=max(map(len, prompts)))
    first.join([Prompts(live, prompts[2:], width=max(map(len, prompts)))])
    for _ in range(4):
        assert first.chosen == whole.chosen
        whole.advance(whole.chosen)
        first.advance(first.chosen)
