"""Slices side by side: every number of a step from the kernel is that of its δ."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.policies import measured


def _joint(seed, broken=False, free=False):
    rng = np.random.default_rng(seed)
    target, beside = rng.standard_normal((8, 6)), rng.standard_normal((5, 6))
    if broken:
        beside[0, 2] = np.nan
    other = replace(measured({"m": beside}), answer_tokens=np.array([2, 4, 3, 3, 3]))
    if free:
        other = replace(other, provenance=replace(other.provenance, sampled=0))
    rows = replace(measured({"m": target}), protected=(other,)).moments.of_scope(["m"])
    return target, beside, rows.joint


@given(st.integers(0, 999), st.booleans())
def test_what_a_step_does_to_a_protected_slice_is_told_by_its_coefficients(seed, free):
    _, beside, joint = _joint(seed, free=free)
    step = np.random.default_rng(seed + 1).standard_normal(13)
    along = beside @ (joint.g @ step)
    ((slope, bend),) = joint.expected(step)
    assert slope == pytest.approx(0.0 if free else along.mean(), rel=1e-9, abs=1e-12)
    assert bend == pytest.approx(3 / 2 * (along**2).mean(), rel=1e-9)


def test_the_eigenvalues_are_those_of_each_slice():
    target, beside, joint = _joint(3)
    for g, found in zip((target, beside), joint.eigenvalues, strict=True):
        values = np.linalg.eigvalsh(g.T @ g / len(g))
        assert found == pytest.approx(values[values > 1e-9].mean(), rel=1e-9)


def test_a_component_without_a_number_in_one_slice_is_out_of_all():
    target, _, joint = _joint(4, broken=True)
    assert not joint.g[2].any()
    assert np.isfinite(joint.kernel).all()
    assert joint.g[[0, 1, 3, 4, 5], :8].any(axis=1).all()
    assert sorted(joint.g[0, :8]) == sorted(target[:, 0])


def test_some_examples_alone_keep_their_slices():
    _, _, joint = _joint(5)
    kept = np.arange(13) % 2 == 0
    some = joint.only(kept)
    assert some.slices == (slice(0, 4), slice(4, 7))
    assert some.kernel == pytest.approx(some.g.T @ some.g)
    assert some.means[:4, 0].tolist() == [0.25] * 4
