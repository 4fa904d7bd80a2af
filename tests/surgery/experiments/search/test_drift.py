"""KL(unedited ‖ edited) of rows, against dense models without any adapter."""

import numpy as np
import pytest
import torch

from surgery.edits import EditPlan
from surgery.errors import Cancelled
from surgery.experiments.search import divergences
from surgery.policies import Scale
from surgery.progress import Control
from tests.helpers.models import double, singular_triplets, tiny_llama


def log_probabilities(shop, sigma_after, example) -> torch.Tensor:
    """Of the next token before each answer token, (token, vocabulary), by W + U·diag(σ′)·Vᵀ in float64."""
    model = double(tiny_llama())
    with torch.no_grad():
        for name, (U, sigma, V) in singular_triplets(tiny_llama(), shop.folder).items():
            model.get_submodule(name).weight += U @ torch.diag(torch.as_tensor(sigma_after.get(name, sigma))) @ V.T
        ids = torch.tensor([[*example.prompt_ids, *example.answer_ids]])
        first = len(example.prompt_ids) - 1
        return model(input_ids=ids).logits[0].log_softmax(-1)[first : first + len(example.answer_ids)]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_divergence_of_each_row_is_that_of_two_dense_models(shop, batch_size):
    edit = EditPlan(Scale(0.6), scope="all", energy="none").apply(shop.spectra, None)
    found = divergences(shop.live, shop.slice_.examples, edit.sigma_after, batch_size=batch_size)
    for value, example in list(zip(found, shop.slice_.examples, strict=True))[:3]:
        p, q = (log_probabilities(shop, sigma, example) for sigma in ({}, edit.sigma_after))
        by_hand = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1).mean()
        assert by_hand > 1e-3
        np.testing.assert_allclose(value, by_hand.item(), rtol=1e-9)


def test_what_moves_nothing_diverges_by_nothing(shop):
    own = {name: spectrum.sigma for name, spectrum in shop.spectra.items()}
    assert (divergences(shop.live, shop.slice_.examples, own) == 0).all()


def test_a_cancel_stops_between_batches_and_leaves_the_adapters_own_sigma(shop):
    edit = EditPlan(Scale(0.6), scope="all", energy="none").apply(shop.spectra, None)
    with pytest.raises(Cancelled):
        divergences(shop.live, shop.slice_.examples, edit.sigma_after, control=Control(cancelled=lambda: True))
