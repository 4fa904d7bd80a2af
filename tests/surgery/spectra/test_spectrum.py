"""The factored decomposition against the dense one, and the numbers read off a spectrum."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from surgery.adapter import Factors, Site, open_adapter
from surgery.spectra import (
    Spectrum,
    components_for_energy,
    decompose,
    decompose_factors,
    effective_rank,
    sigma_clusters,
    stable_rank,
)

DTYPES = [np.float64, np.float32, np.float16, bfloat16]


def factors(B, A, scaling=1.0) -> Factors:
    return Factors("m", 0, "m", scaling, B, A, "B", "A", Site("m"))


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
        assert np.abs(basis.T @ basis - np.eye(k)).max() < 1e-14
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


def orthonormal(rng, rows, columns):
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def well_conditioned(rng, rank):
    """M and its inverse; condition 9."""
    left, right, sizes = orthonormal(rng, rank, rank), orthonormal(rng, rank, rank), np.geomspace(1 / 3, 3, rank)
    return left * sizes @ right, right.T / sizes @ left.T


def rounded(spectrum, dtype, seed=0, *, out=40, into=30):
    """A module with this spectrum, its factors mixed by a rotation and rounded to `dtype`."""
    rng = np.random.default_rng(seed)
    rank = len(spectrum)
    U, V, mix = (orthonormal(rng, rows, rank) for rows in (out, into, rank))
    return factors((U * spectrum @ mix).astype(dtype), (mix.T @ V.T).astype(dtype))


# descending distinct values, each up to four times, and possibly zeros at the end
@st.composite
def clustered_spectra(draw):
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    zeros = draw(st.integers(0, 2))
    sigma = np.repeat(0.5 ** np.arange(len(counts)), counts)
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.append(sigma, np.zeros(zeros)), np.append(labels, np.full(zeros, -1))


@given(st.sampled_from(DTYPES), st.integers(33, 90), st.integers(0, 10_000))
def test_ranks_of_more_than_one_block_of_reflectors_are_as_exact(dtype, rank, seed):
    rng = np.random.default_rng(seed)
    out, into = rng.integers(20, 120, 2)
    module = factors(
        rng.standard_normal((out, rank)).astype(dtype), rng.standard_normal((rank, into)).astype(dtype), 0.5
    )
    spectrum = decompose_factors(module)
    update = dense(module.B, module.A, 0.5)
    expected = np.linalg.svd(update, compute_uv=False)[: spectrum.rank]
    assert spectrum.rank == min(out, rank, into)
    assert np.abs(spectrum.sigma - expected).max() <= 1e-12 * expected[0]
    assert np.abs(spectrum.U * spectrum.sigma @ spectrum.V.T - update).max() <= 1e-12 * expected[0]
    for basis in (spectrum.U, spectrum.V):
        assert np.abs(basis.T @ basis - np.eye(spectrum.rank)).max() < 1e-14


@given(clustered_spectra(), st.sampled_from(DTYPES), st.integers(0, 10_000))
def test_degenerate_and_vanishing_singular_values_are_those_of_the_dense_update(clustered, dtype, seed):
    module = rounded(clustered[0], dtype, seed)
    expected = np.linalg.svd(dense(module.B, module.A, 1.0), compute_uv=False)
    sigma = decompose_factors(module).sigma
    assert np.abs(sigma - expected[: sigma.size]).max() <= 1e-12 * expected[0]


@pytest.mark.parametrize("sizes", [np.geomspace(1, 1e-12, 12), np.geomspace(1e12, 1, 12)])
def test_factors_of_condition_1e12_keep_orthonormal_directions(sizes):
    # a Gram matrix of these would lose everything below 1e-8
    rng = np.random.default_rng(2)
    U, V = orthonormal(rng, 300, 12), orthonormal(rng, 200, 12)
    spectrum = decompose_factors(factors(U * sizes, V.T))
    assert np.abs(spectrum.sigma - np.sort(sizes)[::-1]).max() <= 1e-14 * sizes.max()
    for basis in (spectrum.U, spectrum.V):
        assert np.abs(basis.T @ basis - np.eye(12)).max() < 1e-14


@given(clustered_spectra(), st.integers(0, 10_000))
def test_mixing_the_factors_moves_neither_sigma_nor_the_space_of_any_cluster(clustered, seed):
    sigma, labels = clustered
    rng = np.random.default_rng(seed)
    U, V = orthonormal(rng, 20, sigma.size), orthonormal(rng, 15, sigma.size)
    M, inverse = well_conditioned(rng, sigma.size)
    found = decompose_factors(factors(U * sigma @ M, inverse @ V.T))
    assert np.abs(found.sigma - sigma).max() < 1e-13
    assert found.clusters.tolist() == labels.tolist()
    for label in set(labels[labels >= 0]):
        inside = labels == label
        for ours, theirs in ((found.U, U), (found.V, V)):
            difference = ours[:, inside] @ ours[:, inside].T - theirs[:, inside] @ theirs[:, inside].T
            assert np.abs(difference).max() < 1e-12


def test_the_layout_of_the_factors_changes_no_bit_and_they_are_left_as_they_were():
    rng = np.random.default_rng(3)
    B, A = rng.standard_normal((50, 6)), rng.standard_normal((6, 40))
    wide, tall = rng.standard_normal((50, 12)), rng.standard_normal((40, 6))
    wide[:, ::2], tall[:] = B, A.T
    expected = decompose_factors(factors(B.copy(), A.copy()))
    for left, right in ((B, A), (np.asfortranarray(B), np.asfortranarray(A)), (wide[:, ::2], tall.T)):
        before = left.tobytes(), right.tobytes()
        found = decompose_factors(factors(left, right))
        for name in ("U", "sigma", "V"):
            assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
        assert (left.tobytes(), right.tobytes()) == before


def test_a_module_has_the_same_bits_alone_as_beside_others(small_adapter):
    adapter = open_adapter(small_adapter)
    together = decompose(adapter)
    for name in reversed(adapter.modules):
        alone = decompose_factors(adapter.modules[name])
        for array in ("U", "sigma", "V"):
            assert getattr(alone, array).tobytes() == getattr(together[name], array).tobytes()


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


@pytest.mark.parametrize(
    ("sigma", "labels"),
    [
        ([3.0], [0]),
        ([3.0, 2.0, 1.0], [0, 1, 2]),
        ([2.0, 2.0, 2.0], [0, 0, 0]),
        ([4.0, 2.0, 2.0, 1.0, 1.0, 1.0], [0, 1, 1, 2, 2, 2]),
        # a gap of the tolerance times the largest joins, whatever the size of the two
        ([1000.0, 10.0, 9.0, 7.9, 5.0], [0, 1, 1, 2, 3]),
        # each within reach of the next: one run, although its ends are not
        ([1000.0, 999.0, 998.0, 997.0], [0, 0, 0, 0]),
        # null components are apart even from what is within the tolerance
        ([1000.0, 0.5, 0.0, 0.0], [0, 1, -1, -1]),
        ([1000.0, 1e-13], [0, -1]),
        ([0.0, 0.0], [-1, -1]),
    ],
)
def test_clusters_are_runs_of_close_values_and_null_ones_stand_apart(sigma, labels):
    assert sigma_clusters(np.array(sigma), 1e-3).tolist() == labels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("out", "into"), [(16, 20), (64, 64), (500, 300)])
@given(clustered=clustered_spectra(), seed=st.integers(0, 10_000))
def test_degenerate_values_are_found_again_after_their_factors_were_rounded(dtype, out, into, clustered, seed):
    sigma, labels = clustered
    alive = sigma > 0
    found = decompose_factors(rounded(sigma[alive], dtype, seed, out=out, into=into))
    assert found.precision == float(ml_dtypes.finfo(dtype).eps)
    assert found.clusters.tolist() == labels[alive].tolist()
    counts = np.bincount(labels[alive])
    assert found.degenerate.tolist() == [counts[label] > 1 for label in labels[alive]]


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize(("out", "into"), [(16, 20), (64, 64), (500, 300)])
def test_directions_at_the_tolerated_gap_keep_their_identity_through_rounding(dtype, out, into):
    gap = 4 * float(ml_dtypes.finfo(dtype).eps) / math.sqrt(min(out, into))
    sigma = 1 - 1.1 * gap * np.arange(6)
    exact, found = (decompose_factors(rounded(sigma, kind, out=out, into=into)) for kind in (np.float64, dtype))
    assert found.gap_tolerance == pytest.approx(gap)
    # nearly the same direction, and far from it within a hundredth of that gap
    assert np.abs((exact.U * found.U).sum(axis=0)).min() > 0.95
    sigma = 1 - 0.011 * gap * np.arange(6)
    exact, found = (decompose_factors(rounded(sigma, kind, out=out, into=into)) for kind in (np.float64, dtype))
    assert found.clusters.tolist() == [0] * 6
    assert np.abs((exact.U * found.U).sum(axis=0)).min() < 0.8


def test_a_null_component_is_neither_degenerate_nor_part_of_a_cluster():
    rng = np.random.default_rng(4)
    U, V = orthonormal(rng, 20, 5), orthonormal(rng, 15, 5)
    found = decompose_factors(factors(U * [2, 1, 1, 0, 0], V.T))
    assert found.clusters.tolist() == [0, 1, 1, -1, -1]
    assert found.degenerate.tolist() == [False, True, True, False, False]
    nothing = decompose_factors(factors(np.zeros((20, 3)), V.T[:3]))
    assert nothing.clusters.tolist() == [-1] * 3
    assert not nothing.degenerate.any()


@given(st.integers(0, 10_000), st.integers(2, 4))
def test_only_the_summed_sensitivity_of_a_cluster_survives_a_rotation_inside_it(seed, size):
    rng = np.random.default_rng(seed)
    sigma = np.r_[2.0, np.ones(size), 0.5]
    U, V, G = orthonormal(rng, 20, size + 2), orthonormal(rng, 15, size + 2), rng.standard_normal((20, 15))
    M, inverse = well_conditioned(rng, size + 2)
    turn = np.eye(size + 2)
    turn[1:-1, 1:-1] = orthonormal(rng, size, size)
    # the same update twice: the rotation inside the cluster cancels
    assert np.abs((U @ turn * sigma @ (V @ turn).T) - (U * sigma @ V.T)).max() < 1e-14
    spectra = [
        decompose_factors(factors(left * sigma @ mix, unmix @ right.T))
        for left, right, mix, unmix in (
            (U, V, np.eye(size + 2), np.eye(size + 2)),
            (U @ turn, V @ turn, M, inverse),
        )
    ]
    first, second = (np.einsum("oi,ok,ik->k", G, s.U, s.V) for s in spectra)
    labels = spectra[0].clusters
    assert labels.tolist() == spectra[1].clusters.tolist() == [0, *[1] * size, 2]
    sums = [[g[labels == label].sum() for label in range(3)] for g in (first, second)]
    assert sums[0] == pytest.approx(sums[1], abs=1e-11)
    assert np.abs(first - second)[1:-1].max() > 1e-3


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


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_ranks_of_a_spectrum_do_not_depend_on_its_size(size: float) -> None:
    sigma = np.array([4.0, 2.0, 1.0, 1e-12])
    share = sigma / sigma.sum()
    assert effective_rank(size * sigma) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-12)
    assert stable_rank(size * sigma) == pytest.approx(21 / 16, rel=1e-12)
    assert components_for_energy(size * sigma) == 2
    assert effective_rank(np.array([1.0, 5e-324])) == 1.0
