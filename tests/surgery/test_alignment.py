"""Subspace alignment on bases whose principal angles are known by construction."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from surgery import alignment
from surgery.alignment import (
    MEASURES,
    SIDES,
    align,
    family_members,
    full_grid,
    layer_invariance,
    module_synergy,
    random_cosine,
    random_overlap,
)
from surgery.errors import PolicyError
from surgery.spectrum import Spectrum


def module(name, layer, family, U, V=None) -> Spectrum:
    U = np.asarray(U, dtype=np.float64)
    V = U if V is None else np.asarray(V, dtype=np.float64)
    return Spectrum(name, layer, family, U, np.arange(U.shape[1], 0, -1.0), V)


def axes(*columns, dimension=8):
    """A basis of unit vectors along the given axes."""
    return np.eye(dimension)[:, list(columns)]


def random_basis(rng, dimension, rank):
    return np.linalg.qr(rng.standard_normal((dimension, rank)))[0]


def test_overlap_of_coordinate_subspaces_is_the_share_of_axes_in_common():
    modules = [module("a", 0, "o", axes(0, 1, 2, 3)), module("b", 1, "o", axes(1, 0, 4, 5))]
    modules.append(module("c", 2, "o", axes(4, 5, 6, 7)))
    found = align(modules, modules)
    assert found.values.tolist() == [[1.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0.0, 0.5, 1.0]]
    assert found.rows == found.columns == ("a", "b", "c")
    assert found.dimension == 8
    assert found.reference == 0.5
    assert align(modules, modules, k=2).values.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert align(modules, modules, k=2).reference == 0.25


def test_principal_similarity_is_the_absolute_cosine_of_the_leading_directions():
    tilted = np.array([[math.cos(1.0), 0.0], [-math.sin(1.0), 0.0], [0.0, 1.0]])
    straight = axes(0, 2, dimension=3)
    found = align([module("a", 0, "o", straight)], [module("b", 0, "o", -tilted)], measure="principal")
    assert found.values[0, 0] == pytest.approx(math.cos(1.0), rel=1e-14)
    assert found.values.shape == (1, 1)


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_overlap_is_the_mean_squared_cosine_of_the_principal_angles(seed, k):
    rng = np.random.default_rng(seed)
    left = [module(f"l{i}", i, "o", random_basis(rng, 12, 6)) for i in range(3)]
    right = [module(f"r{i}", i, "o", random_basis(rng, 12, 5)) for i in range(2)]
    found = align(left, right, k=k)
    principal = align(left, right, measure="principal", k=k)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            angles = subspace_angles(a.U[:, :k], b.U[:, :k])
            assert found.values[i, j] == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-12)
            assert principal.values[i, j] == pytest.approx(abs(a.U[:, 0] @ b.U[:, 0]), abs=1e-14)


@given(st.integers(0, 10_000))
def test_a_family_against_itself_is_symmetric_with_ones_on_the_diagonal(seed):
    rng = np.random.default_rng(seed)
    members = [module(f"m{i}", i, "o", random_basis(rng, 10, 5)) for i in range(4)]
    for measure in ("overlap", "principal"):
        values = align(members, members, measure=measure).values
        assert values == pytest.approx(values.T, abs=1e-14)
        assert np.diag(values) == pytest.approx(np.ones(4), abs=1e-12)
        assert values.min() >= 0
        assert values.max() <= 1


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_overlap_does_not_depend_on_the_basis_chosen_inside_the_leading_subspace(seed, k):
    rng = np.random.default_rng(seed)
    U, other = random_basis(rng, 12, 6), module("b", 0, "o", random_basis(rng, 12, 6))
    turned = U.copy()
    turned[:, :k] = U[:, :k] @ random_basis(rng, k, k)
    plain, mixed = (align([module("a", 0, "o", basis)], [other], k=k).values for basis in (U, turned))
    assert plain == pytest.approx(mixed, abs=1e-12)


def test_the_input_side_compares_v():
    left = module("a", 0, "o", axes(0, 1), axes(2, 3, dimension=5))
    right = module("b", 0, "o", axes(2, 3), axes(2, 4, dimension=5))
    assert align([left], [right], k=2).values.tolist() == [[0.0]]
    found = align([left], [right], k=2, side="input")
    assert found.values.tolist() == [[0.5]]
    assert found.dimension == 5


def test_layer_invariance_takes_one_family_in_layer_order():
    spectra = {
        name: module(name, layer, family, axes(layer, layer + 1))
        for name, layer, family in (("0.o", 0, "o"), ("0.d", 0, "d"), ("1.o", 1, "o"), ("2.o", 2, "o"))
    }
    found = layer_invariance(spectra, "o", k=2)
    assert found.rows == found.columns == ("0.o", "1.o", "2.o")
    assert found.values.tolist() == [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]]
    assert [member.name for member in family_members(spectra, "d")] == ["0.d"]


def test_module_synergy_pairs_two_families_on_the_layers_both_have():
    spectra = {
        f"{layer}.{family}": module(f"{layer}.{family}", layer, family, axes(axis))
        for layer, family, axis in ((0, "o", 0), (1, "o", 1), (2, "o", 2), (1, "d", 1), (2, "d", 0), (3, "d", 3))
    }
    found = module_synergy(spectra, "o", "d", k=1)
    assert (found.rows, found.columns) == (("1.o", "2.o"), ("1.d", "2.d"))
    assert found.values.tolist() == [[1, 0], [0, 0]]


@st.composite
def mixed_modules(draw):
    """Modules of several shapes, some sharing a side with others, in no particular order."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shapes = draw(
        st.lists(st.tuples(st.sampled_from([6, 9, 14]), st.sampled_from([6, 9])), max_size=9, min_size=1)
    )
    ranks = draw(st.lists(st.integers(2, 6), min_size=len(shapes), max_size=len(shapes)))
    return {
        f"m{i}": module(f"m{i}", i, "o", random_basis(rng, out, rank), random_basis(rng, into, rank))
        for i, ((out, into), rank) in enumerate(zip(shapes, ranks, strict=True))
    }


@given(mixed_modules(), st.sampled_from(SIDES), st.integers(1, 2), st.sampled_from([1, 4, 2048]))
def test_the_full_grid_holds_every_pair_that_shares_the_dimension_and_nothing_else(spectra, side, k, band):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "_BAND", band)
        patch.setattr(alignment, "_STRETCH", band + 3)
        grids = {measure: full_grid(spectra, measure=measure, k=k, side=side) for measure in MEASURES}
    bases = [spectrum.U if side == "output" else spectrum.V for spectrum in spectra.values()]
    for measure, grid in grids.items():
        assert grid.names == tuple(spectra)
        assert grid.values.shape == (len(bases), len(bases))
        assert grid.dimension.tolist() == [len(basis) for basis in bases]
        for i, a in enumerate(bases):
            expected = random_overlap(k, len(a)) if measure == "overlap" else random_cosine(len(a))
            assert grid.reference[i] == expected
            for j, b in enumerate(bases):
                if len(a) != len(b):
                    assert np.isnan(grid.values[i, j])
                    assert np.isnan(grid.ratio[i, j])
                    continue
                dots = [[math.fsum(a[:, p] * b[:, q]) for q in range(k)] for p in range(k)]
                wanted = abs(dots[0][0])
                if measure == "overlap":
                    wanted = math.fsum(dot * dot for row in dots for dot in row) / k
                assert grid.values[i, j] == pytest.approx(wanted, abs=1e-6)
                assert grid.values[i, j] == grid.values[j, i]
                assert grid.ratio[i, j] == pytest.approx(grid.values[i, j] / expected)


@pytest.mark.parametrize(("dimension", "k"), [(14336, 1), (14336, 4), (14336, 16), (151936, 2)])
def test_the_full_grid_is_within_a_millionth_of_align_in_the_dimensions_of_large_models(dimension, k):
    rng = np.random.default_rng(5)
    shared = rng.standard_normal((dimension, k))
    # from nearly the same subspace to one with nothing in common
    bases = [
        np.linalg.qr(shared + noise * rng.standard_normal(shared.shape))[0] for noise in (0, 1e-3, 0.3, 1, 30)
    ]
    right = axes(*range(k), dimension=k)
    spectra = {str(i): module(str(i), i, "up_proj", basis, right) for i, basis in enumerate(bases)}
    for measure in MEASURES:
        exact = align(list(spectra.values()), list(spectra.values()), measure=measure, k=k).values
        grid = full_grid(spectra, measure=measure, k=k)
        assert np.abs(grid.values - exact).max() < 1e-6
        assert exact.min() < 0.1 < 0.9 < exact[0, 1]


def test_the_reference_is_what_random_subspaces_give_on_average():
    assert random_overlap(4, 576) == 4 / 576
    assert random_overlap(9, 4) == 1.0
    # exact in one, two and three dimensions: 1, the mean of |cos| on a circle, and on a sphere
    assert random_cosine(1) == pytest.approx(1.0, rel=1e-12)
    assert random_cosine(2) == pytest.approx(2 / math.pi, rel=1e-12)
    assert random_cosine(3) == pytest.approx(0.5, rel=1e-12)
    assert random_cosine(4096) == pytest.approx(math.sqrt(2 / (math.pi * 4096)), rel=1e-3)
    rng = np.random.default_rng(0)
    modules = [module(str(i), i, "o", random_basis(rng, 20, 4)) for i in range(80)]
    off = ~np.eye(80, dtype=bool)
    for measure in ("overlap", "principal"):
        found = align(modules, modules, measure=measure)
        assert found.values[off].mean() == pytest.approx(found.reference, rel=0.03)


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: align([a], [b], measure="cosine"),
        lambda a, b: align([a], [b], side="both"),
        lambda a, b: align([a], [b], k=0),
        lambda a, b: align([a], [b], k=3),
        lambda a, b: align([a], [module("c", 0, "o", axes(0, 1, dimension=9))]),
        lambda a, b: layer_invariance({"a": a}, "q_proj"),
        lambda a, b: module_synergy({"a": a, "b": b}, "o", "d", k=2),
        lambda a, b: full_grid({"a": a, "b": b}, measure="cosine"),
        lambda a, b: full_grid({"a": a, "b": b}, side="both"),
        lambda a, b: full_grid({"a": a, "b": b}, k=0),
        lambda a, b: full_grid({"a": a, "b": module("c", 0, "o", axes(0))}, k=2),
        lambda a, b: full_grid({}),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_policy_error(call):
    left, right = module("a", 0, "o", axes(0, 1)), module("b", 1, "d", axes(2, 3))
    with pytest.raises(PolicyError) as caught:
        call(left, right)
    assert len(str(caught.value).splitlines()) == 1


def test_modules_of_different_dimensions_are_refused_with_both_dimensions():
    with pytest.raises(PolicyError, match="8, 9"):
        align([module("a", 0, "o", axes(0))], [module("b", 0, "o", axes(0, dimension=9))], k=1)
