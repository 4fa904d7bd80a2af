"""Helping, neutral and hurting energy on measurements whose means and errors are known by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from surgery.errors import PolicyError
from surgery.sensitivity import KINDS, Standing, by_luck, dichotomy, ranked, standings
from tests.helpers.policies import measured, spectrum


def rows(*columns):
    """Four examples of each component: mean m and standard error e, exactly."""
    return np.stack([m + e * math.sqrt(3) * np.array([1, -1, 1, -1]) for m, e in columns], axis=1)


# ḡ and its error: hurts, neutral, helps, hurts less
G = rows((0.4, 0.1), (-0.1, 0.1), (-0.5, 0.2), (0.3, 0.1))
SPECTRA = {name: spectrum(name, sigma) for name, sigma in (("0.o", [4.0, 3, 2, 1]), ("1.o", [5.0, 4, 3, 0]))}
MEASURED = measured({"0.o": G, "1.o": -2 * G})


def test_standings_are_the_sign_where_it_is_certain():
    mean = np.array([0.3, 0.2, -0.21, -0.2, 0.0, 1.0, math.nan, 1.0])
    error = np.array([0.1, 0.1, 0.1, 0.1, 0.0, math.nan, 0.1, math.inf])
    found = standings(mean, error)
    assert found.dtype == np.int8
    assert found.tolist() == [1, 0, -1, 0, 0, 0, 0, 0]
    assert standings(mean, error, z=4).tolist() == [0] * 8
    assert standings(mean[:4], error[:4], z=0).tolist() == [1, 1, -1, -1]
    assert (Standing.HELPS, Standing.NEUTRAL, Standing.HURTS) == (-1, 0, 1)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 2)), min_size=1, max_size=30), st.floats(0, 5))
def test_turning_the_sign_of_g_turns_the_standings(pairs, z):
    mean, error = np.array(pairs).T
    np.testing.assert_array_equal(standings(-mean, error, z), -standings(mean, error, z))


def test_energy_and_counts_by_hand():
    found = dichotomy(SPECTRA, MEASURED)
    assert found.names == ("0.o", "1.o")
    # helps, neutral, hurts; the null component of the second counts nowhere
    np.testing.assert_allclose(found.shares, [[4 / 30, 9 / 30, 17 / 30], [25 / 50, 16 / 50, 9 / 50]], rtol=1e-14)
    assert found.counts.tolist() == [[1, 1, 2], [1, 1, 1]]
    assert found.unknown.tolist() == [False, False]
    assert found.named == 5
    assert found.by_luck == pytest.approx(7 * 2 * stats.t.sf(2, df=3))


@given(st.integers(0, 10_000), st.floats(0, 4))
def test_shares_sum_to_one_and_do_not_change_with_the_order_of_examples_or_modules(seed, z):
    rng = np.random.default_rng(seed)
    sigma = {f"{i}.o": np.sort(rng.exponential(size=5))[::-1] for i in range(4)}
    values = {name: rng.normal(0.2, 1, (12, 5)) for name in sigma}
    spectra = {name: spectrum(name, s) for name, s in sigma.items()}
    found = dichotomy(spectra, measured(values), z)
    assert found.shares.sum(axis=1) == pytest.approx(np.ones(4))
    assert found.counts.sum(axis=1).tolist() == [5] * 4
    order = rng.permutation(12)
    shuffled = measured({name: values[name][order] for name in reversed(values)})
    backwards = dichotomy(dict(reversed(spectra.items())), shuffled, z)
    np.testing.assert_array_equal(backwards.shares[::-1], found.shares)
    turned = dichotomy(spectra, measured({name: -g for name, g in values.items()}), z)
    np.testing.assert_allclose(turned.shares, found.shares[:, ::-1], rtol=0, atol=1e-15)
    kinds = [ranked(spectra, measured(values), kind, 99, z) for kind in ("helpful", "wasteful", "harmful")]
    assert [len(kind) for kind in kinds] == found.counts.sum(axis=0).tolist()


def test_modules_without_an_answer_are_flagged_and_never_called_wasteful():
    g = G.copy()
    g[0, 1] = math.inf
    spectra = {
        name: spectrum(name, s) for name, s in (("zero", [0.0] * 4), ("silent", [1.0] * 4), ("inf", [1.0] * 4))
    }
    sensitivity = measured({"zero": G, "silent": 0 * G, "inf": g})
    found = dichotomy(spectra, sensitivity)
    assert found.unknown.all()
    assert not found.shares.any()
    assert not found.counts.any()
    assert found.by_luck == 0
    assert [ranked(spectra, sensitivity, kind) for kind in KINDS] == [[], [], []]


def test_a_single_example_names_nothing():
    found = dichotomy(SPECTRA, MEASURED.head(1))
    assert found.shares[:, Standing.NEUTRAL + 1].tolist() == [1.0, 1.0]
    assert found.by_luck == 0
    assert [ranked(SPECTRA, MEASURED.head(1), kind) for kind in KINDS] == [[], [], []]


def test_modules_that_were_not_measured_are_left_out():
    found = dichotomy(SPECTRA, measured({"1.o": G}))
    assert found.names == ("1.o",)
    with pytest.raises(PolicyError, match="calibrate"):
        dichotomy(SPECTRA, measured({"2.o": G}))
    with pytest.raises(PolicyError, match=r"has 4 components and sensitivities for 3"):
        dichotomy(SPECTRA, measured({"1.o": G[:, :3]}))


def test_components_are_ranked_by_what_silencing_would_change_or_by_energy():
    harmful = ranked(SPECTRA, MEASURED, "harmful")
    # −ḡσ: 0.o loses 1.6 with its first and 0.3 with its last, 1.o 3.0 with its third
    assert [(c.name, c.component) for c in harmful] == [("1.o", 2), ("0.o", 0), ("0.o", 3)]
    assert [c.if_zeroed for c in harmful] == pytest.approx([-3.0, -1.6, -0.3])
    assert [c.if_zeroed_error for c in harmful] == pytest.approx([1.2, 0.4, 0.1])
    assert [(c.name, c.component) for c in ranked(SPECTRA, MEASURED, "wasteful")] == [("1.o", 1), ("0.o", 1)]
    helpful = ranked(SPECTRA, MEASURED, "helpful", limit=1)
    assert [(c.name, c.component, c.if_zeroed) for c in helpful] == [("1.o", 0, pytest.approx(4.0))]
    first = harmful[1]
    assert (first.layer, first.family, first.sigma, first.degenerate) == (0, "o", 4.0, False)
    assert (first.mean, first.error, first.energy_share) == pytest.approx((0.4, 0.1, 16 / 30))
    assert ranked(SPECTRA, MEASURED, "harmful", limit=0) == []


def test_degenerate_singular_values_are_flagged():
    spectra = {"0.o": spectrum("0.o", [4.0, 4.0, 2.0, 1.0])}
    found = {c.component: c.degenerate for kind in KINDS for c in ranked(spectra, measured({"0.o": G}), kind)}
    assert found == {0: True, 1: True, 2: False, 3: False}


def test_energy_shares_of_extreme_singular_values_stay_finite():
    for scale in (1e-200, 1e200):
        spectra = {"0.o": spectrum("0.o", scale * SPECTRA["0.o"].sigma)}
        found = dichotomy(spectra, measured({"0.o": G}))
        np.testing.assert_allclose(found.shares, [[4 / 30, 9 / 30, 17 / 30]], rtol=1e-14)


@pytest.mark.parametrize(("examples", "z"), [(4, 2.0), (16, 2.0), (128, 1.0)])
def test_as_many_true_zeros_are_named_by_luck_as_expected(examples, z):
    g = np.random.default_rng(0).normal(size=(examples, 4000))
    spectra = {f"{i}.o": spectrum(f"{i}.o", [4.0, 3, 2, 1]) for i in range(1000)}
    named = dichotomy(
        spectra, measured({name: g[:, 4 * i : 4 * i + 4] for i, name in enumerate(spectra)}), z
    ).named
    expected = by_luck(4000, examples, z)
    assert named == pytest.approx(expected, abs=4 * math.sqrt(expected))
    assert by_luck(1000, 100_000) == pytest.approx(1000 * 2 * stats.norm.sf(2), rel=1e-3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ranked(SPECTRA, MEASURED, "useless"),
        lambda: dichotomy(SPECTRA, MEASURED, z=-1.0),
        lambda: ranked(SPECTRA, MEASURED, "harmful", z=math.nan),
    ],
)
def test_unknown_kinds_and_impossible_z_are_refused(call):
    with pytest.raises(PolicyError):
        call()
