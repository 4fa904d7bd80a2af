"""Parts of rows put to edits, and what the log keeps of them."""

import json

import numpy as np
import pytest
import torch

from surgery.edits import EditPlan
from surgery.evaluation import evaluate
from surgery.experiments.search import Judges, objectives_named
from surgery.model import VariantEngine
from surgery.policies import Scale
from surgery.runs import AnswerLog
from tests.helpers.models import double, singular_triplets, tiny_llama
from tests.surgery.experiments.conftest import losses_by_hand, slice_of

ASKED = objectives_named(("loss", "exact", "kl", "protected"))


@pytest.fixture
def edit(shop):
    return EditPlan(Scale(0.6), scope="all", energy="none").apply(shop.spectra, None)


def judges(shop, log, protected=5):
    slices = {"own": shop.slice_, "protected": slice_of(protected, seed=3)}
    return Judges(shop.live, slices, ASKED, log)


def log_probabilities(shop, sigma_after, example) -> torch.Tensor:
    """Of the next token before each answer token, (token, vocabulary), by W + U·diag(σ′)·Vᵀ in float64."""
    model = double(tiny_llama())
    with torch.no_grad():
        for name, (U, sigma, V) in singular_triplets(tiny_llama(), shop.folder).items():
            model.get_submodule(name).weight += U @ torch.diag(torch.as_tensor(sigma_after.get(name, sigma))) @ V.T
        ids = torch.tensor([[*example.prompt_ids, *example.answer_ids]])
        first = len(example.prompt_ids) - 1
        return model(input_ids=ids).logits[0].log_softmax(-1)[first : first + len(example.answer_ids)]


def test_parts_together_are_the_whole_of_every_slice(shop, edit, tmp_path):
    with AnswerLog(tmp_path / "log") as log:
        judge = judges(shop, log)
        parts = [judge.changes(edit.sigma_after, part) for part in (range(2), range(2, 3), range(3, 7))]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert [len(found[each.name]) for each in ASKED] == [7, 7, 7, 5]
    for name, examples in (("loss", shop.slice_.examples), ("protected", slice_of(5, seed=3).examples)):
        change = losses_by_hand(shop, edit.sigma_after, examples) - losses_by_hand(shop, {}, examples)
        np.testing.assert_allclose(found[name], change, rtol=1e-7, atol=1e-10)
    for value, example in list(zip(found["kl"], shop.slice_.examples, strict=True))[:2]:
        p, q = (log_probabilities(shop, sigma, example) for sigma in ({}, edit.sigma_after))
        by_hand = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1).mean()
        assert by_hand > 1e-3
        np.testing.assert_allclose(value, by_hand.item(), rtol=1e-9)
    whole = evaluate(shop.live, shop.slice_, {"edit": edit.sigma_after})
    np.testing.assert_array_equal(
        found["exact"], whole.numbers("edit", "exact") - whole.numbers("unedited", "exact")
    )


def test_what_the_log_holds_is_not_asked_again_and_has_the_same_bits(shop, edit, tmp_path, monkeypatch):
    with AnswerLog(tmp_path / "log") as log:
        first = judges(shop, log).changes(edit.sigma_after, range(4))

    def nobody(*_: object, **__: object) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(VariantEngine, "answer", nobody)
    monkeypatch.setattr(VariantEngine, "answer_losses", nobody)
    monkeypatch.setattr(VariantEngine, "divergences", nobody)
    with AnswerLog(tmp_path / "log") as log:
        again = judges(shop, log).changes(edit.sigma_after, range(4))
    assert {name: numbers.tolist() for name, numbers in again.items()} == {
        name: numbers.tolist() for name, numbers in first.items()
    }


def test_a_line_that_does_not_fit_the_rows_is_asked_again(shop, edit, tmp_path):
    with AnswerLog(tmp_path / "log") as log:
        first = judges(shop, log).changes(edit.sigma_after, range(4))
        for place, names in list(log.known.items()):
            log.add(place, {name: {reading: [0.0] for reading in kept} for name, kept in names.items()})
        again = judges(shop, log).changes(edit.sigma_after, range(4))
    assert json.dumps({k: v.tolist() for k, v in again.items()}) == json.dumps(
        {k: v.tolist() for k, v in first.items()}
    )


def test_a_small_slice_may_have_no_row_in_a_part(shop, edit, tmp_path):
    with AnswerLog(tmp_path / "log") as log:
        judge = judges(shop, log, protected=1)
        assert [judge.changes(edit.sigma_after, part)["protected"].size for part in (range(3), range(3, 7))] == [
            1,
            0,
        ]
