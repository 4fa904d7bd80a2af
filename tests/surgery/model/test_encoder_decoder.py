"""Sequence-to-sequence models: losses and greedy answers of several variants in one batch, against PEFT row by row."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.data import Encoding, Row
from surgery.edits import Edit, ModuleEdit
from surgery.errors import BaseModelError, DataError
from surgery.export import export
from surgery.model import BaseChoice, LiveModel, VariantEngine, Way, attach, stream_answers
from surgery.spectra import decompose
from tests.helpers.models import with_peft
from tests.helpers.rounding import assert_losses, logits_apart
from tests.helpers.seq2seq import FRENCH, KINDS, Kind, greedy_answer, pair_loss

# prompts and answers of different lengths, so that both sides of a batch are padded
ROWS = [
    Row("ab 12: c", "d e"),
    Row("xyz", "q"),
    Row("a=b+c. what? 12345", "it is 6, then 7"),
    Row("two, three", "45"),
]
LIMIT = 7


@dataclass(frozen=True, repr=False)
class Trained:
    """A family's adapter with variants of it, the folder of each as PEFT loads it, and the model attached."""

    kind: Kind
    live: LiveModel
    variants: Mapping[str, Any]
    folders: Mapping[str, Path]

    @property
    def examples(self):
        return self.live.encode(ROWS, Encoding()).examples

    def reference(self, variant: str) -> Any:
        return with_peft(self.kind(), self.folders[variant])


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    kind, folder = KINDS[request.param], tmp_path_factory.mktemp(request.param)
    base, source = kind.save(folder)
    adapter = open_adapter(source)
    spectra, rng = decompose(adapter), np.random.default_rng(3)
    modules = {}
    for name, spectrum in spectra.items():
        gain = rng.choice((0.0, 0.4, 2.5), size=spectrum.rank)
        modules[name] = ModuleEdit(gain, spectrum.sigma, gain * spectrum.sigma)
    edit = Edit(modules)
    folders = {"unedited": source, "edited": export(adapter, spectra, edit, folder / "edited").folder}
    variants = {"unedited": None, "edited": edit.sigma_after}
    with attach(adapter, spectra, BaseChoice(str(base))) as live:
        yield Trained(kind, live, variants, folders)


def test_rows_are_padded_on_the_right_and_nothing_is_to_be_said_of_it(trained):
    assert trained.live.layout == "right"
    assert trained.live.way == Way("right", "right", shared=False)
    assert trained.live.notes == ()


def test_losses_of_all_variants_in_one_batch_equal_pefts_own_row_by_row(trained):
    found = VariantEngine(trained.live, trained.variants).answer_losses(trained.examples)
    for name, losses in found.items():
        reference = trained.reference(name)
        with torch.no_grad():
            expected = [pair_loss(reference, example).item() for example in trained.examples]
        assert_losses(losses, expected, trained.live.model)


def forced(trained) -> dict[str, int]:
    """What a caller of `generate` says for a tokenizer that writes the language first."""
    tokenizer = trained.live.base.tokenizer
    return (
        {"forced_bos_token_id": tokenizer.convert_tokens_to_ids(FRENCH)} if FRENCH in tokenizer.get_vocab() else {}
    )


def test_answers_of_all_variants_in_one_batch_equal_pefts_own_generate_row_by_row(trained):
    found = VariantEngine(trained.live, trained.variants).answer(trained.examples, max_new_tokens=LIMIT)
    for name, answers in found.items():
        reference = trained.reference(name)
        for example, answer in zip(trained.examples, answers, strict=True):
            assert answer.tokens == greedy_answer(reference, example, LIMIT, **forced(trained))
        with torch.no_grad():
            expected = [pair_loss(reference, example).item() for example in trained.examples]
        assert_losses([answer.loss for answer in answers], expected, trained.live.model)


@pytest.mark.parametrize("rows", [1, 3])
def test_other_batches_give_the_same_answers_and_losses(trained, rows):
    whole = VariantEngine(trained.live, trained.variants).answer(trained.examples, max_new_tokens=LIMIT)
    for name, variant in trained.variants.items():
        parts = VariantEngine(trained.live, {name: variant}, rows=rows)
        found = parts.answer(trained.examples, max_new_tokens=LIMIT)[name]
        assert [answer.tokens for answer in found] == [answer.tokens for answer in whole[name]]
        assert_losses([a.loss for a in found], [a.loss for a in whole[name]], trained.live.model)


@pytest.mark.parametrize("trained", ["bart"], indirect=True)
@pytest.mark.parametrize("failing", [1, 2, 4])
def test_a_batch_that_does_not_fit_goes_on_in_halves_with_what_its_rows_have_said(trained, failing, monkeypatch):
    live, engine = trained.live, VariantEngine(trained.live, trained.variants)
    whole = engine.answer(trained.examples, max_new_tokens=LIMIT)
    forward, passes = live.model.forward, []

    def short(**options):
        passes.append(options)
        if len(passes) == failing:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(**options)

    monkeypatch.setattr(live.model, "forward", short)
    found = VariantEngine(live, trained.variants).answer(trained.examples, max_new_tokens=LIMIT)
    assert len(passes) > failing
    for name in trained.variants:
        assert [answer.tokens for answer in found[name]] == [answer.tokens for answer in whole[name]]


WAYS = [
    Way(layout, decoding, cached, shared=False)
    for layout, decoding in (("right", "right"), ("right", "equal"), ("equal", "equal"), ("single", "single"))
    for cached in (True, False)
]


@pytest.mark.parametrize("trained", ["flan", "m2m"], indirect=True)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_way_gives_the_losses_and_answers_of_the_fastest(trained, way, monkeypatch):
    live, examples = trained.live, trained.examples
    expected = VariantEngine(live, trained.variants).answer(examples, max_new_tokens=LIMIT)
    monkeypatch.setattr(type(live), "way", way)
    monkeypatch.setattr(type(live), "layout", way.scoring)
    engine = VariantEngine(live, trained.variants)
    found, losses = engine.answer(examples, max_new_tokens=LIMIT), engine.answer_losses(examples)
    for name in trained.variants:
        assert [answer.tokens for answer in found[name]] == [answer.tokens for answer in expected[name]]
        assert_losses(losses[name], [answer.loss for answer in expected[name]], live.model)


def test_streamed_answers_end_as_the_engines_do(trained):
    live, tokenizer = trained.live, trained.live.base.tokenizer
    *_, last = stream_answers(live, ROWS[0].prompt, trained.variants, Encoding(), limit=LIMIT)
    found = VariantEngine(live, trained.variants).answer(trained.examples[:1], max_new_tokens=LIMIT)
    for name, (answer,) in found.items():
        assert last[name] == tokenizer.decode(answer.tokens, skip_special_tokens=True).strip()


@pytest.mark.parametrize("trained", ["bart"], indirect=True)
def test_a_model_whose_encoder_reads_its_padding_is_given_rows_of_one_length(trained, monkeypatch):
    live = trained.live
    encoder = live.model.get_encoder()
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda **options: forward(**{**options, "attention_mask": None}))
    live.base.ways.clear()
    live.__dict__.pop("_ways", None)
    try:
        assert live.layout == "equal"
        assert live.way == Way("equal", "equal", shared=False)
        assert "padded on the right other numbers" in live.notes[0]
    finally:
        live.base.ways.clear()
        live.__dict__.pop("_ways", None)


@pytest.mark.parametrize("trained", ["t5", "m2m"], indirect=True)
def test_half_precision_sends_no_model_to_a_slower_way(trained, tmp_path):
    base, source = trained.kind.save(tmp_path)
    adapter = open_adapter(source)
    with attach(adapter, decompose(adapter), BaseChoice(str(base), dtype="bfloat16")) as live:
        assert live.way == Way("right", "right", shared=False)


@pytest.mark.parametrize("trained", ["bart"], indirect=True)
def test_places_of_encoder_and_decoder_are_counted_apart(trained):
    live = trained.live
    assert live.positions == 64
    rows = [Row("a" * 60, "b" * 60)]
    assert live.encode(rows, Encoding()).examples[0].length == 124
    with pytest.raises(DataError, match="the model has positions for 64"):
        live.encode([Row("a" * 63, "b")], Encoding())
    long = live.encode(rows, Encoding()).examples
    answers = VariantEngine(live, {"a": None}).answer(long, max_new_tokens=100)["a"]
    assert len(answers[0].tokens) <= 64


@pytest.mark.parametrize("trained", ["t5"], indirect=True)
def test_a_model_without_a_start_for_its_decoder_is_refused(trained, monkeypatch):
    monkeypatch.setattr(trained.live.model.config, "decoder_start_token_id", None)
    monkeypatch.setattr(trained.live.model.generation_config, "decoder_start_token_id", None)
    monkeypatch.setattr(type(trained.live.model), "prepare_decoder_input_ids_from_labels", None)
    with pytest.raises(BaseModelError, match="names no decoder_start_token_id"):
        VariantEngine(trained.live, {"a": None}).generate([(4, 5)], max_new_tokens=3)


def test_a_live_model_computes_pefts_logits(trained):
    example = trained.examples[2]
    ids, labels = torch.tensor([example.prompt_ids]), torch.tensor([example.answer_ids])
    with torch.no_grad():
        found = trained.live.model(input_ids=ids, labels=labels).logits
        expected = trained.reference("unedited")(input_ids=ids, labels=labels).logits
    assert float((found - expected).norm() / expected.norm()) <= logits_apart(trained.live.model)
