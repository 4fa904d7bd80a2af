"""The bounds of `tests.helpers.rounding` hold for sums in any order, and are small beside a term that is missing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.models import tiny_llama
from tests.helpers.rounding import apart, assert_clear_choice, assert_clear_tokens, assert_losses, terms_of


def one_after_the_other(terms: np.ndarray) -> float:
    """The sum in the dtype of the terms, as the plainest kernel makes it."""
    return float(np.add.accumulate(terms)[-1])


@given(seed=st.integers(0, 10_000), count=st.sampled_from([2, 5, 30, 400, 20_000]), signed=st.booleans())
def test_sums_in_any_two_orders_lie_within_the_bound(seed, count, signed):
    rng = np.random.default_rng(seed)
    terms = rng.standard_normal(count) if signed else rng.random(count)
    for dtype, kind in ((np.float32, torch.float32), (np.float64, torch.float64)):
        rounded = terms.astype(dtype)
        sums = [one_after_the_other(rng.permutation(rounded)) for _ in range(2)]
        condition = float(np.abs(terms).sum() / abs(terms.sum()))
        assert abs(sums[0] - sums[1]) <= apart(count, condition, kind) * abs(terms.sum())


def test_the_bound_is_smaller_than_a_term_that_is_missing_from_a_sum_of_thousands():
    terms = np.random.default_rng(0).random(2_000)
    assert apart(terms.size) * terms.sum() < np.median(terms)


def test_few_terms_are_bound_by_the_worst_case_and_many_by_a_random_walk():
    assert apart(4) == pytest.approx(8 * 2.0**-24)
    assert apart(10_000) == pytest.approx(6 * 2**0.5 * 100 * 2.0**-24)
    assert apart(10_000, dtype=torch.float64) == pytest.approx(apart(10_000) * 2.0**-29)


def test_the_terms_of_a_model_are_the_longer_sides_of_its_weights():
    # four projections of the attention and three of the MLP in each layer, the embedding and the head
    assert terms_of(tiny_llama()) == 3 * (4 * 32 + 3 * 48) + 2 * 64


def test_losses_further_apart_than_rounding_reaches_are_refused():
    model = tiny_llama()
    assert_losses([0.1, 5.0], [0.1 + 1e-6, 5.0 - 5e-6], model)
    for wrong in ([0.1 + 1e-4, 5.0], [0.1, 5.0005], [0.1, np.nan]):
        with pytest.raises(AssertionError):
            assert_losses(wrong, [0.1, 5.0], model)


def test_a_choice_that_rounding_could_turn_is_refused():
    model = tiny_llama()
    assert_clear_choice(model, torch.tensor([[0.0, 5.0, 4.9], [1.0, 1.0, 1.0]]))
    with pytest.raises(AssertionError, match="rounding could turn"):
        assert_clear_choice(model, torch.tensor([[0.0, 5.0, 5.0 - 1e-5]]))
    close = torch.tensor([[5.0, 5.0 - 1e-5, 0.0]])
    assert_clear_tokens(model, close, torch.tensor([2]))
    for token in (0, 1):
        with pytest.raises(AssertionError, match="rounding could turn"):
            assert_clear_tokens(model, close, torch.tensor([token]))
