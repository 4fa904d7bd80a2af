"""Details of a pair against scipy's subspace angles and against angles known by construction."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from surgery.errors import PolicyError
from surgery.spectra import Spectrum, align, pair_detail, principal_angles


def module(name, U, V=None, null=0) -> Spectrum:
    U = np.asarray(U, dtype=np.float64)
    sigma = np.arange(U.shape[1], 0, -1.0)
    sigma[U.shape[1] - null :] = 0.0
    return Spectrum(name, 0, "o", U, sigma, U if V is None else np.asarray(V, dtype=np.float64))


def random_basis(rng, dimension, rank):
    return np.linalg.qr(rng.standard_normal((dimension, rank)))[0]


def tilted(rng, dimension, degrees):
    """Two bases with the given principal angles, turned at random in space and inside their spans."""
    k, radians = len(degrees), np.radians(degrees)
    frame = random_basis(rng, dimension, 2 * k)
    left, away = frame[:, :k], frame[:, k:]
    right = left * np.cos(radians) + away * np.sin(radians)
    return left @ random_basis(rng, k, k), right @ random_basis(rng, k, k)


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from(["output", "input"]))
def test_angles_equal_those_of_scipy(seed, k, side):
    rng = np.random.default_rng(seed)
    left = module("a", random_basis(rng, 12, 6), random_basis(rng, 9, 6))
    right = module("b", random_basis(rng, 12, 5), random_basis(rng, 9, 5))
    found = pair_detail(left, right, k=k, side=side)
    a, b = (left.U, right.U) if side == "output" else (left.V, right.V)
    expected = np.degrees(np.sort(subspace_angles(a[:, :k], b[:, :k])))
    np.testing.assert_allclose(found.angles, expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.cosines, np.cos(np.radians(expected)), rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.similarity, [[abs(u @ v) for v in b.T] for u in a.T], rtol=0, atol=1e-14)
    assert found.similarity.shape == (6, 5)
    assert (found.names, found.side, found.dimension) == (("a", "b"), side, len(a))
    assert found.overlap == pytest.approx(align([left], [right], k=k, side=side).values[0, 0], abs=1e-13)


@pytest.mark.parametrize("tiny", [1e-3, 1e-6, 1e-9])
def test_small_angles_are_not_lost_in_the_cosine(tiny):
    degrees = [tiny, 2 * tiny, 30.0, 60.0, 90.0]
    left, right = tilted(np.random.default_rng(0), 40, degrees)
    cosines, angles = principal_angles(left, right)
    np.testing.assert_allclose(angles, degrees, rtol=1e-13, atol=3e-14)
    np.testing.assert_allclose(cosines, np.cos(np.radians(degrees)), rtol=0, atol=1e-14)


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_angles_do_not_change_with_the_bases_inside_the_spans_the_frame_or_the_order(seed, k):
    rng = np.random.default_rng(seed)
    left, right, frame = random_basis(rng, 10, k), random_basis(rng, 10, k), random_basis(rng, 10, 10)
    _, angles = principal_angles(left, right)
    for a, b in (
        (left @ random_basis(rng, k, k), right @ random_basis(rng, k, k)),
        (frame @ left, frame @ right),
        (right, left),
    ):
        np.testing.assert_allclose(principal_angles(a, b)[1], angles, rtol=0, atol=1e-11)


def test_a_module_against_itself_has_no_angle():
    one = module("a", random_basis(np.random.default_rng(1), 50, 4))
    found = pair_detail(one, one)
    assert found.angles == pytest.approx(np.zeros(4), abs=1e-13)
    assert found.similarity == pytest.approx(np.eye(4), abs=1e-14)
    assert found.inner == pytest.approx(1.0)


def test_shared_coordinates_are_those_that_make_up_the_inner_product():
    left, right = np.zeros((15, 1)), np.zeros((15, 1))
    left[[2, 5, 7], 0] = 0.6, 0.8, 0.0
    right[[2, 5, 7], 0] = -0.48, 0.64, 0.6
    found = pair_detail(module("a", left), module("b", right), k=1)
    assert found.inner == pytest.approx(0.512 - 0.288)
    first, second, *others = found.shared
    assert (first.coordinate, first.left, first.right) == (5, 0.8, 0.64)
    assert first.share == pytest.approx(0.512 / 0.224)
    assert (second.coordinate, second.left, second.right) == (2, 0.6, -0.48)
    assert second.share == pytest.approx(-0.288 / 0.224)
    assert [other.share for other in others] == [0.0] * 8
    assert math.isnan(pair_detail(module("a", left), module("b", np.eye(15)[:, :1]), k=1).shared[0].share)


@given(st.integers(0, 10_000), st.integers(1, 14))
def test_shares_of_all_coordinates_sum_to_one(seed, dimension):
    rng = np.random.default_rng(seed)
    left, right = (module(name, random_basis(rng, dimension, 1)) for name in "ab")
    shared = pair_detail(left, right, k=1).shared
    sizes = [abs(coordinate.left * coordinate.right) for coordinate in shared]
    assert len(shared) == min(10, dimension)
    assert sizes == sorted(sizes, reverse=True)
    if dimension <= 10:
        assert math.fsum(coordinate.share for coordinate in shared) == pytest.approx(1.0, rel=1e-9)


def test_null_components_are_left_out():
    axes = np.eye(6)
    found = pair_detail(module("a", axes[:, :4], null=1), module("b", axes[:, :3], null=1), k=2)
    assert found.similarity.shape == (3, 2)


@pytest.mark.parametrize(
    ("options", "right", "words"),
    [
        ({"side": "both"}, {}, "side 'both'"),
        ({"k": 0}, {}, "k = 0"),
        ({"k": 3}, {"null": 1}, "outside the 2 components"),
        ({"k": 1}, {"null": 3}, "b is a zero update"),
        ({"k": 1}, {"U": np.eye(7)[:, :2]}, r"different output dimensions \(6 and 7\)"),
    ],
)
def test_what_has_no_detail_is_refused(options, right, words):
    other = module("b", **{"U": np.eye(6)[:, :3], **right})
    with pytest.raises(PolicyError, match=words):
        pair_detail(module("a", np.eye(6)[:, :4]), other, **options)
