"""Participation ratios against their formulas in plain Python and a dense simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.spectra import (
    full_participation,
    functional_participation,
    functional_shares,
    nuclear_participation,
)

seeds = st.integers(0, 10_000)


def drawn(seed: int, rank: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, rank)) @ rng.standard_normal((rank, rank))
    return np.sort(rng.random(rank) + 0.01)[::-1], x


@given(seeds, st.sampled_from([1e-150, 1.0, 1e150]))
def test_ratios_are_those_of_the_formulas_and_blind_to_a_common_scale(seed, scale):
    sigma, x = drawn(seed)
    M = x.T @ x / len(x)
    w = [s * s * q for s, q in zip(sigma, np.diag(M), strict=True)]
    assert functional_participation(scale * sigma, np.diag(M)) == pytest.approx(
        math.fsum(w) ** 2 / math.fsum(a * a for a in w), rel=1e-12
    )
    np.testing.assert_allclose(
        functional_shares(scale * sigma, np.diag(M)), np.array(w) / math.fsum(w), rtol=1e-12
    )
    assert nuclear_participation(scale * sigma) == pytest.approx(sigma.sum() ** 2 / (sigma**2).sum(), rel=1e-12)
    # of the outputs ΔWx of a dense update: the eigenvalues of their second moment are those of G
    eigenvalues = np.linalg.eigvalsh(
        np.cov((x * sigma).T, bias=True) + np.outer((x * sigma).mean(0), (x * sigma).mean(0))
    )
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert full_participation(scale * sigma, M) == pytest.approx(expected, rel=1e-9)
    assert full_participation(sigma, M) <= functional_participation(sigma, np.diag(M)) * (1 + 1e-12)


@given(st.integers(1, 9))
def test_an_even_update_uses_every_direction_and_a_zero_one_none(rank):
    one, zero = np.ones(rank), np.zeros(rank)
    for found in (
        functional_participation(one, one),
        nuclear_participation(one),
        full_participation(one, np.eye(rank)),
    ):
        assert found == pytest.approx(rank)
    # the same input along every direction is one direction
    assert full_participation(one, np.ones((rank, rank))) == pytest.approx(1)
    assert (
        functional_participation(zero, one)
        == nuclear_participation(zero)
        == full_participation(zero, np.eye(rank))
        == 0
    )
    assert not functional_shares(one, zero).any()
