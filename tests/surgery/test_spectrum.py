"""The factored decomposition against the dense one, and the numbers read off a spectrum."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from surgery.adapter import Factors, open_adapter
from surgery.spectrum import (
    Spectrum,
    components_for_energy,
    decompose,
    decompose_factors,
    effective_rank,
    stable_rank,
)

DTYPES = [np.float64, np.float32, np.float16, bfloat16]


def factors(B, A, scaling=1.0) -> Factors:
    return Factors("m", 0, "m", scaling, B, A, "B", "A")


def dense(B, A, scaling):
    """ΔW as the formula has it, in float64."""
    return scaling * (B.astype(np.float64) @ A.astype(np.float64))


@st.composite
def random_factors(draw):
    out, rank, into = draw(st.integers(1, 24)), draw(st.integers(1, 9)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    scaling = draw(st.sampled_from([1.0, 2.0, 0.25, -1.5, 8 / math.sqrt(3)]))
    # columns of very different size, as trained factors have
    sizes = 10.0 ** rng.uniform(-2, 1, rank)
    B, A = rng.standard_normal((out, rank)) * sizes, rng.standard_normal((rank, into))
    return factors(B.astype(dtype), A.astype(dtype), scaling)


@given(random_factors())
def test_singular_values_are_those_of_the_dense_update(module):
    expected = np.linalg.svd(dense(module.B, module.A, module.scaling), compute_uv=False)
    k = min(module.B.shape[0], *module.A.shape)
    sigma = decompose_factors(module).sigma
    assert sigma.shape == (k,)
    assert np.abs(sigma - expected[:k]).max() <= 1e-12 * expected[0]
    assert (expected[k:] <= 1e-12 * expected[0]).all()


@given(random_factors())
def test_u_and_v_are_orthonormal_and_rebuild_the_update(module):
    spectrum = decompose_factors(module)
    k = spectrum.rank
    assert spectrum.U.shape == (module.B.shape[0], k)
    assert spectrum.V.shape == (module.A.shape[1], k)
    assert all(array.dtype == np.float64 for array in (spectrum.U, spectrum.sigma, spectrum.V))
    for basis in (spectrum.U, spectrum.V):
        assert np.abs(basis.T @ basis - np.eye(k)).max() < 1e-12
    rebuilt = sum(
        spectrum.sigma[i] * np.outer(spectrum.U[:, i], spectrum.V[:, i]) for i in range(k)
    )  # fmt: skip
    update = dense(module.B, module.A, module.scaling)
    assert np.abs(rebuilt - update).max() <= 1e-12 * max(spectrum.sigma[0], 1e-300)


@given(random_factors())
def test_singular_values_descend_and_are_never_negative(module):
    sigma = decompose_factors(module).sigma
    assert (sigma >= 0).all()
    assert (np.diff(sigma) <= 0).all()


@given(random_factors())
def test_the_entry_of_largest_magnitude_of_every_u_is_positive(module):
    for column in decompose_factors(module).U.T:
        assert max(column, key=abs) > 0


@given(random_factors())
def test_decomposing_twice_gives_the_same_bits(module):
    first, second = decompose_factors(module), decompose_factors(module)
    for name in ("U", "sigma", "V"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_spectrum_belongs_to_the_product_and_not_to_its_factors(seed, rank):
    rng = np.random.default_rng(seed)
    U, _ = np.linalg.qr(rng.standard_normal((14, rank)))
    V, _ = np.linalg.qr(rng.standard_normal((11, rank)))
    sigma = 2.0 ** -np.arange(rank)
    # an invertible M of condition 9
    left, _ = np.linalg.qr(rng.standard_normal((rank, rank)))
    right, _ = np.linalg.qr(rng.standard_normal((rank, rank)))
    sizes = np.geomspace(1 / 3, 3, rank)
    M, inverse = left * sizes @ right, right.T / sizes @ left.T
    plain = decompose_factors(factors(U * sigma, V.T))
    mixed = decompose_factors(factors(U * sigma @ M, inverse @ V.T))
    assert np.abs(plain.sigma - sigma).max() < 1e-12
    for name in ("U", "sigma", "V"):
        assert np.abs(getattr(plain, name) - getattr(mixed, name)).max() < 1e-11


@given(random_factors(), st.floats(0.01, 100))
def test_a_larger_scaling_scales_sigma_and_nothing_else(module, ratio):
    scaled = factors(module.B, module.A, module.scaling * ratio)
    before, after = decompose_factors(module), decompose_factors(scaled)
    assert after.sigma == pytest.approx(ratio * before.sigma, rel=1e-9, abs=1e-12 * ratio * before.sigma[0])


def test_a_negative_alpha_turns_the_directions_and_keeps_sigma_positive():
    B, A = np.array([[3.0], [4.0]]), np.array([[0.0, 2.0]])
    spectrum = decompose_factors(factors(B, A, -0.5))
    assert spectrum.sigma == pytest.approx([5.0])
    assert spectrum.U[:, 0] == pytest.approx([0.6, 0.8])
    assert spectrum.V[:, 0] == pytest.approx([0.0, -1.0])


def test_a_rank_above_the_smaller_side_gives_as_many_components_as_the_update_can_have():
    rng = np.random.default_rng(0)
    for out, rank, into in ((3, 8, 10), (10, 8, 3), (2, 8, 2), (1, 5, 1)):
        module = factors(rng.standard_normal((out, rank)), rng.standard_normal((rank, into)))
        spectrum = decompose_factors(module)
        assert spectrum.rank == min(out, into)
        rebuilt = spectrum.U * spectrum.sigma @ spectrum.V.T
        assert np.abs(rebuilt - dense(module.B, module.A, 1.0)).max() < 1e-12


def test_a_zero_update_has_a_zero_spectrum_that_is_all_null():
    for B, A in ((np.zeros((6, 3)), np.ones((3, 5))), (np.ones((6, 3)), np.zeros((3, 5)))):
        spectrum = decompose_factors(factors(B, A))
        assert not spectrum.sigma.any()
        assert spectrum.null.all()
        assert np.isfinite(spectrum.U).all()
        assert np.isfinite(spectrum.V).all()


def test_components_at_rounding_level_are_null_and_small_ones_are_not():
    rng = np.random.default_rng(1)
    U, _ = np.linalg.qr(rng.standard_normal((20, 4)))
    V, _ = np.linalg.qr(rng.standard_normal((15, 4)))
    assert decompose_factors(factors(U * [1, 1e-3, 1e-9, 1e-13], V.T)).null.tolist() == [False] * 4
    deficient = rng.standard_normal((20, 2)) @ rng.standard_normal((2, 4))
    assert decompose_factors(factors(deficient, V.T)).null.tolist() == [False, False, True, True]


def test_every_module_of_an_adapter_is_decomposed_in_its_order(small_adapter):
    adapter = open_adapter(small_adapter)
    spectra = decompose(adapter)
    assert list(spectra) == list(adapter.modules)
    for name, spectrum in spectra.items():
        module = adapter.modules[name]
        assert isinstance(spectrum, Spectrum)
        assert (spectrum.name, spectrum.layer, spectrum.family) == (name, module.layer, module.family)
        # alpha 8 over rank 4
        expected = np.linalg.svd(dense(module.B, module.A, 2.0), compute_uv=False)[:4]
        assert np.abs(spectrum.sigma - expected).max() <= 1e-12 * expected[0]


@pytest.mark.parametrize(
    ("sigma", "effective", "stable", "k90"),
    [
        ([5.0], 1.0, 1.0, 1),
        ([1.0, 1.0, 1.0, 1.0], 4.0, 4.0, 4),
        ([3.0, 0.0, 0.0], 1.0, 1.0, 1),
        ([0.0, 0.0], 0.0, 0.0, 0),
        # shares 1/2, 1/4, 1/4: an entropy of 1.5 bits; squares 4, 1, 1 of which two hold 5/6
        ([2.0, 1.0, 1.0], 2**1.5, 1.5, 3),
        # squares 9, 1: the first holds exactly 90 %
        ([3.0, 1.0], math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)), 10 / 9, 1),
    ],
)
def test_ranks_read_off_a_spectrum_are_those_of_hand_computed_tables(sigma, effective, stable, k90):
    sigma = np.array(sigma)
    assert effective_rank(sigma) == pytest.approx(effective, rel=1e-12)
    assert stable_rank(sigma) == pytest.approx(stable, rel=1e-12)
    assert components_for_energy(sigma) == k90


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20), st.floats(0.05, 0.999))
def test_the_fewest_components_that_hold_the_share_are_counted(values, share):
    sigma = np.array(sorted(values, reverse=True))
    k = components_for_energy(sigma, share)
    total = math.fsum(v * v for v in sigma)
    held = [math.fsum(v * v for v in sigma[:n]) / total for n in range(len(sigma) + 1)]
    assert 1 <= k <= len(sigma)
    assert held[k] >= share - 1e-12
    assert held[k - 1] < share + 1e-12
    assert 1 - 1e-12 <= effective_rank(sigma) <= len(sigma) + 1e-9
    assert 1 - 1e-12 <= stable_rank(sigma) <= len(sigma) + 1e-9
