"""Subspace alignment on bases whose principal angles are known by construction."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from surgery.errors import PolicyError
from surgery.spectra import (
    MEASURES,
    SIDES,
    Spectrum,
    align,
    alignment,
    between_adapters,
    family_members,
    layer_invariance,
    module_synergy,
    overlap_table,
)


def module(name, layer, family, U, V=None, null=0) -> Spectrum:
    """σ = rank … 1, the last `null` of them 0."""
    U = np.asarray(U, dtype=np.float64)
    V = U if V is None else np.asarray(V, dtype=np.float64)
    sigma = np.arange(U.shape[1], 0, -1.0)
    sigma[U.shape[1] - null :] = 0.0
    return Spectrum(name, layer, family, U, sigma, V)


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


@given(st.permutations([("2.o", 2), ("head.o", None), ("10.o", 10), ("0.o", 0)]))
def test_a_family_stands_in_layer_order_however_it_is_given_and_what_has_no_layer_comes_last(given_order):
    spectra = {
        f"{name}{family}": module(f"{name}{family}", layer, family, axes(0, 1))
        for name, layer in given_order
        for family in ("x", "y")
    }
    names = ("0.ox", "2.ox", "10.ox", "head.ox")
    assert layer_invariance(spectra, "x", k=1).rows == names
    synergy = module_synergy(spectra, "x", "y", k=1)
    assert (synergy.rows, synergy.columns) == (names, tuple(name.replace("x", "y") for name in names))
    both = between_adapters(spectra, dict(reversed(spectra.items())), "x", k=1)
    assert both.rows == both.columns == names


def test_modules_without_k_directions_have_no_value():
    modules = [module("a", 0, "o", axes(0, 1)), module("b", 1, "o", axes(0, 1), null=1)]
    modules.append(module("zero", 2, "o", axes(0, 1), null=2))
    nan = math.nan
    for measure in MEASURES:
        one = align(modules, modules, measure=measure, k=1).values
        np.testing.assert_array_equal(one, [[1, 1, nan], [1, 1, nan], [nan, nan, nan]])
    np.testing.assert_array_equal(align(modules, modules, k=2).values, [[1, nan, nan], [nan] * 3, [nan] * 3])
    assert align(modules, modules[:1], measure="principal", k=2).values.tolist()[:2] == [[1.0], [1.0]]


def test_two_adapters_are_compared_layer_by_layer():
    ours = {f"{i}.o": module(f"{i}.o", i, "o", axes(i, i + 1)) for i in range(3)}
    theirs = {f"{i}.o": module(f"{i}.o", i, "o", axes(i + 1, i, 7), axes(0, 1, 2)) for i in range(2)}
    theirs["0.d"] = module("0.d", 0, "d", axes(0, dimension=9))
    found = between_adapters(ours, theirs, "o", k=2)
    assert (found.rows, found.columns) == (("0.o", "1.o", "2.o"), ("0.o", "1.o"))
    assert found.values.tolist() == [[1, 0.5], [0.5, 1], [0, 0.5]]
    assert between_adapters(theirs, ours, "o", k=2).values.tolist() == [[1, 0.5, 0], [0.5, 1, 0.5]]
    assert between_adapters(ours, theirs, "o", measure="principal").values[2].tolist() == [0, 1]
    same = between_adapters(ours, ours, "o", k=2, side="input")
    assert same.values.tolist() == layer_invariance(ours, "o", k=2, side="input").values.tolist()
    other = {"0.o": module("0.o", 0, "o", axes(0, 1, dimension=9))}
    with pytest.raises(PolicyError, match=r"8 output dimensions .* and 9 in the other .* same base"):
        between_adapters(ours, other, "o", k=1)
    with pytest.raises(PolicyError, match="no modules of family 'd'"):
        between_adapters(ours, theirs, "d", k=1)
    with pytest.raises(PolicyError, match="the other adapter has no d"):
        between_adapters(theirs, ours, "d", k=1)


@st.composite
def mixed_modules(draw):
    """Modules of several shapes, ranks and numbers of null components, some sharing a side, in no order."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shapes = draw(
        st.lists(st.tuples(st.sampled_from([6, 9, 14]), st.sampled_from([6, 9])), max_size=9, min_size=1)
    )
    ranks = draw(st.lists(st.integers(1, 6), min_size=len(shapes), max_size=len(shapes)))
    nulls = draw(st.lists(st.integers(0, 6), min_size=len(shapes), max_size=len(shapes)))
    return [
        # names repeat, as those of two adapters do
        module(f"m{i % 4}", i, "o", random_basis(rng, out, rank), random_basis(rng, into, rank), min(null, rank))
        for i, ((out, into), rank, null) in enumerate(zip(shapes, ranks, nulls, strict=True))
    ]


@given(mixed_modules(), st.sampled_from(SIDES), st.sampled_from([1, 4, 2**22]))
def test_the_table_holds_every_pair_at_every_k_and_nothing_else(modules, side, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "_COSINES", 40 * size)
        patch.setattr(alignment, "_STRETCH", size + 3)
        table = overlap_table(modules, side=side)
    bases = [spectrum.U if side == "output" else spectrum.V for spectrum in modules]
    live = [int(np.count_nonzero(spectrum.sigma)) for spectrum in modules]
    assert table.names == tuple(spectrum.name for spectrum in modules)
    assert table.side == side
    assert table.dimension.tolist() == [len(basis) for basis in bases]
    assert table.leading.tolist() == live
    assert table.squares.shape == (max(basis.shape[1] for basis in bases), len(bases), len(bases))
    assert table.squares.dtype == np.float32
    for k in range(1, table.largest_k + 1):
        overlap, principal = (table.values(measure, k) for measure in ("overlap", "principal"))
        np.testing.assert_array_equal(overlap, overlap.T)
        for i, a in enumerate(bases):
            for j, b in enumerate(bases):
                if len(a) != len(b) or min(live[i], live[j]) < k:
                    assert np.isnan(overlap[i, j])
                else:
                    dots = [math.fsum(a[:, p] * b[:, q]) for q in range(k) for p in range(k)]
                    assert overlap[i, j] == pytest.approx(math.fsum(dot * dot for dot in dots) / k, abs=1e-6)
                if len(a) != len(b) or min(live[i], live[j]) < 1:
                    assert np.isnan(principal[i, j])
                else:
                    assert principal[i, j] == pytest.approx(abs(math.fsum(a[:, 0] * b[:, 0])), abs=1e-6)


@given(st.integers(0, 10_000), st.permutations(range(5)))
def test_the_table_of_modules_in_another_order_is_the_table_in_that_order(seed, order):
    rng = np.random.default_rng(seed)
    modules = [module(f"m{i}", i, "o", random_basis(rng, 8 + i % 2, 1 + i)) for i in range(5)]
    table, other = overlap_table(modules), overlap_table([modules[i] for i in order])
    np.testing.assert_allclose(other.squares, table.squares[:, order][:, :, order], rtol=0, atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_the_table_at_k_does_not_depend_on_the_basis_inside_the_leading_k(seed, k):
    rng = np.random.default_rng(seed)
    modules = [module(f"m{i}", i, "o", random_basis(rng, 9, 5)) for i in range(3)]
    U = modules[0].U.copy()
    U[:, :k] = U[:, :k] @ random_basis(rng, k, k)
    turned = overlap_table([module("m0", 0, "o", U), *modules[1:]])
    assert turned.values("overlap", k) == pytest.approx(overlap_table(modules).values("overlap", k), abs=1e-6)


def test_a_view_of_the_table_picks_rows_and_columns():
    table = overlap_table([module(str(i), i, "o", axes(*pair)) for i, pair in enumerate(((0, 1), (1, 0), (2, 0)))])
    assert table.values("overlap", 2).tolist() == [[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]]
    assert table.values("overlap", 2, rows=[2], columns=[0, 2]).tolist() == [[0.5, 1]]
    assert table.values("overlap", 1, columns=(1,)).tolist() == [[0], [1], [0]]
    assert table.values("principal", 2, rows=np.array([1, 1])).tolist() == [[0, 1, 0], [0, 1, 0]]
    assert table.values("overlap", 2, rows=[]).shape == (0, 3)
    assert table.values("overlap", 2).dtype == np.float64
    for measure, k in (("overlap", 0), ("overlap", 3), ("cosine", 1)):
        with pytest.raises(PolicyError):
            table.values(measure, k)


@pytest.mark.parametrize(("dimension", "rank"), [(14336, 16), (151936, 2)])
def test_the_table_is_within_a_millionth_of_align_in_the_dimensions_of_large_models(dimension, rank):
    rng = np.random.default_rng(5)
    shared = rng.standard_normal((dimension, rank))
    # from nearly the same subspace to one with nothing in common
    bases = [
        np.linalg.qr(shared + noise * rng.standard_normal(shared.shape))[0] for noise in (0, 1e-3, 0.3, 1, 30)
    ]
    right = axes(*range(rank), dimension=rank)
    modules = [module(str(i), i, "up_proj", basis, right) for i, basis in enumerate(bases)]
    table = overlap_table(modules)
    for k in (1, 2, 4, 16)[: 4 if rank == 16 else 2]:
        for measure in MEASURES:
            exact = align(modules, modules, measure=measure, k=k).values
            assert np.abs(table.values(measure, k) - exact).max() < 1e-6
            assert exact.min() < 0.1 < 0.9 < exact[0, 1]


def test_the_reference_of_an_alignment_is_what_random_subspaces_give_on_average():
    rng = np.random.default_rng(0)
    modules = [module(str(i), i, "o", random_basis(rng, 20, 4)) for i in range(80)]
    off = ~np.eye(80, dtype=bool)
    for measure in MEASURES:
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
        lambda a, b: overlap_table([a, b], side="both"),
        lambda a, b: overlap_table([]),
        lambda a, b: between_adapters({"a": a}, {"b": b}, "o"),
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
