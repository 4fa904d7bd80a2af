"""Variants as rows of one batch, and layers that cannot hold them apart."""

import numpy as np
import pytest
import torch

from surgery.errors import RowsMixedError
from surgery.model import (
    VariantEngine,
)
from tests.helpers.models import (
    random_examples,
)
from tests.helpers.rounding import assert_losses
from tests.surgery.model.conftest import FALLS_BACK, forwards, requests_of


def test_layers_that_mix_rows_are_given_one_variant_at_a_time_and_others_all(case, monkeypatch):
    with case.live() as attached:
        seen = forwards(attached, monkeypatch)
        VariantEngine(attached, case.variants).log_likelihoods([((7, 8), (9,)), ((7, 9), (9,)), ((7, 7), (9,))])
    expected = [(15, 2)]  # three requests of five variants
    if case.name in FALLS_BACK:
        expected += [(3, 2)] * 5
    assert seen == expected


def test_a_variant_equal_to_another_in_its_company_has_the_same_bits_on_one_thread(case):
    # the noise floor of a comparison: nothing at all, where both ride in one batch
    examples = random_examples(6, seed=8)
    variants = {"unedited": None, "same": case.variants["same"]}
    with case.live() as attached:
        engine = VariantEngine(attached, variants)
        losses = engine.answer_losses(examples)
        scores = engine.log_likelihoods(requests_of(6))
        model = attached.model
    if torch.get_num_threads() == 1:
        np.testing.assert_array_equal(losses["same"], losses["unedited"])
        assert scores["same"] == scores["unedited"]
    # where threads share the rows of a sum, they may split it otherwise for one row than for another
    assert_losses(losses["same"], losses["unedited"], model)
    likelihoods = {name: [score.log_likelihood for score in own] for name, own in scores.items()}
    assert_losses(likelihoods["same"], likelihoods["unedited"], model)


def test_a_layer_that_fails_for_one_variant_too_is_no_endless_fall_back(live, llama, monkeypatch):
    def refuse(**options):
        raise RowsMixedError("one row", "none")

    monkeypatch.setattr(live.model, "forward", refuse)
    with pytest.raises(RowsMixedError):
        VariantEngine(live, llama.variants).generate([(7,)], max_new_tokens=2)
