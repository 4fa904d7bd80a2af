"""Greedy answers of several rows that end at different times."""

import pytest
import transformers

from surgery.errors import Cancelled
from surgery.model import (
    CACHE,
    VariantEngine,
    variant_rows,
)
from surgery.progress import Control
from tests.helpers.models import (
    random_examples,
)
from tests.helpers.rounding import assert_losses
from tests.surgery.model.conftest import FALLS_BACK, LIMIT, forwards, generated, prompts_of


def test_generated_tokens_equal_pefts_own_generate_for_every_variant(case):
    prompts = prompts_of(7)
    with case.live() as attached:
        found = VariantEngine(attached, case.variants).generate(prompts, max_new_tokens=LIMIT)
    assert list(found) == list(case.variants)
    for name in case.variants:
        reference = case.reference(name)
        assert found[name] == [generated(reference, prompt) for prompt in prompts], name
    assert found["all"] != found["unedited"], "the edits must matter"
    assert found["same"] == found["unedited"]
    lengths = {len(row) for rows in found.values() for row in rows}
    assert LIMIT in lengths
    assert len(lengths) > 1, "rows must end at different times"


def test_rows_that_have_ended_leave_the_batch(case, monkeypatch):
    prompts = prompts_of(7)
    with case.live() as attached:
        seen = forwards(attached, monkeypatch)
        found = VariantEngine(attached, {"a": None}).generate(prompts, max_new_tokens=LIMIT)["a"]
    # a row takes part until its end of sequence is chosen, the last token of a full answer is not read
    steps = [min(len(row) + 1, LIMIT) for row in found]
    expected = [sum(step > count for step in steps) for count in range(LIMIT)]
    assert [rows for rows, _ in seen] == [rows for rows in expected if rows]


def test_long_prompts_are_read_in_parts_and_decoded_together(case, monkeypatch):
    prompts = prompts_of(6, seed=2)
    with case.live() as attached:
        engine = VariantEngine(attached, case.variants)
        expected = engine.generate(prompts, max_new_tokens=LIMIT)
        examples = random_examples(6, seed=3)
        losses = engine.answer_losses(examples)
        monkeypatch.setitem(variant_rows._TOKENS_AT_ONCE, "cpu", 30)
        seen = forwards(attached, monkeypatch)
        parted = VariantEngine(attached, case.variants)
        assert parted.generate(prompts, max_new_tokens=LIMIT) == expected
        together = max(rows for rows, _ in seen)
        answered = parted.answer(examples, max_new_tokens=2)
    for name, found in answered.items():
        assert_losses([answer.loss for answer in found], losses[name], attached.model)
    if case.name not in {*FALLS_BACK, "lfm2"}:
        assert together > 5, "all variants of several prompts are decoded together"


def test_stop_ends_each_prompt_by_itself_after_the_token_that_says_so(live, llama):
    prompts = [*prompts_of(5), prompts_of(5)[0]]
    engine = VariantEngine(live, llama.variants)
    whole = engine.generate(prompts, max_new_tokens=LIMIT)
    asked = []

    def stop(index, tokens):
        asked.append((index, len(tokens)))
        return len(tokens) > index // 2 or tokens[-1] == 20

    found = engine.generate(prompts, max_new_tokens=LIMIT, stop=stop)
    for name, rows in whole.items():
        for index, row in enumerate(rows):
            end = next((i + 1 for i, token in enumerate(row) if i >= index // 2 or token == 20), len(row))
            assert found[name][index] == row[:end]
    assert {index for index, _ in asked} == set(range(6))
    assert all(length >= 1 for _, length in asked)


def test_a_model_without_a_cache_generates_the_same(live, llama, monkeypatch):
    prompts = prompts_of(5)
    engine = VariantEngine(live, llama.variants)
    expected = engine.generate(prompts, max_new_tokens=LIMIT)
    examples = random_examples(5)
    losses = engine.answer_losses(examples)
    with llama.live() as attached:
        forward = attached.model.forward

        def forgetful(**options):
            assert CACHE not in options
            output = forward(**options)
            setattr(output, CACHE, None)
            return output

        monkeypatch.setattr(attached.model, "forward", forgetful)
        assert not attached.way.cached
        for rows in (None, 3):
            engine = VariantEngine(attached, llama.variants, rows=rows)
            assert engine.generate(prompts, max_new_tokens=LIMIT) == expected
        for name, answers in engine.answer(examples, max_new_tokens=2).items():
            assert_losses([answer.loss for answer in answers], losses[name], live.model)


def test_a_cache_of_an_unknown_kind_is_made_anew_when_rows_leave(live, llama, monkeypatch):
    prompts = prompts_of(6)
    engine = VariantEngine(live, llama.variants)
    expected = engine.generate(prompts, max_new_tokens=LIMIT)

    class Foreign(transformers.DynamicCache):
        def reorder_cache(self, index):
            raise AssertionError("nothing says that this selects all that it holds")

    forward = live.model.forward

    def with_it(**options):
        return forward(**{CACHE: Foreign(config=live.model.config), **options})

    monkeypatch.setattr(live.model, "forward", with_it)
    monkeypatch.setitem(variant_rows._TOKENS_AT_ONCE, "cpu", 30)
    assert VariantEngine(live, llama.variants).generate(prompts, max_new_tokens=LIMIT) == expected


def test_rows_that_run_out_of_memory_late_go_on_from_what_they_said(live, llama, monkeypatch):
    prompts = prompts_of(6)
    engine = VariantEngine(live, llama.variants)
    expected = engine.generate(prompts, max_new_tokens=LIMIT)
    losses = engine.answer_losses(random_examples(6))
    steps = []

    def fails(rows, tokens):
        steps.append(tokens)
        return len(steps) == 5

    seen = forwards(live, monkeypatch, fails)
    assert VariantEngine(live, llama.variants).generate(prompts, max_new_tokens=LIMIT) == expected
    again = next(tokens for _, tokens in seen[5:] if tokens > 1)
    assert again > max(len(prompt) for prompt in prompts), "the second reading holds what was said before"
    steps.clear()
    found = VariantEngine(live, llama.variants).answer(random_examples(6), max_new_tokens=LIMIT)
    for name, answers in found.items():
        assert_losses([answer.loss for answer in answers], losses[name], live.model)


def test_decoding_can_be_cancelled_between_tokens(live, llama, monkeypatch):
    seen = forwards(live, monkeypatch)
    with pytest.raises(Cancelled):
        VariantEngine(live, llama.variants).generate(
            prompts_of(4), max_new_tokens=LIMIT, control=Control(cancelled=lambda: len(seen) == 3)
        )
    assert len(seen) == 3
