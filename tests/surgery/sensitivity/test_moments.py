"""Moments of a measurement against plain Python."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.sensitivity import moments_of
from tests.helpers.policies import measured

tables = st.integers(1, 9).flatmap(
    lambda n: st.lists(st.lists(st.floats(-100, 100), min_size=n, max_size=n), min_size=1, max_size=5)
)


@given(tables)
def test_moments_match_plain_python(columns):
    g = np.array(columns).T
    found = moments_of({"m": g})
    for k, values in enumerate(columns):
        n = len(values)
        assert found.mean[k] == pytest.approx(statistics.fmean(values), rel=1e-12, abs=1e-12)
        assert found.magnitude[k] == pytest.approx(statistics.fmean(map(abs, values)), rel=1e-12, abs=1e-300)
        assert found.second_moment[k] == pytest.approx(
            statistics.fmean(v * v for v in values), rel=1e-12, abs=1e-300
        )
        if n > 1:
            assert found.error[k] == pytest.approx(statistics.stdev(values) / math.sqrt(n), rel=1e-9, abs=1e-12)
        else:
            assert math.isnan(found.error[k])
        assert found.g[k].tolist() == values


@given(st.integers(0, 10_000), st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 140))
def test_the_moments_of_a_module_do_not_depend_on_the_others_measured(seed, ranks, n):
    rng = np.random.default_rng(seed)
    values = {f"m.{i}": rng.standard_normal((n, rank)) for i, rank in enumerate(ranks)}
    # another memory layout of the same numbers
    values["m.0"] = np.asfortranarray(values["m.0"])
    together = moments_of(values)
    assert together.g.shape == (sum(ranks), n)
    for name, g in values.items():
        alone, place = moments_of({name: g.copy()}), together.indices[name]
        assert together.g[place].tolist() == g.T.tolist()
        for field in ("mean", "error", "magnitude", "second_moment"):
            assert getattr(together, field)[place].tobytes() == getattr(alone, field).tobytes()


def test_a_sensitivity_computes_its_moments_once():
    sensitivity = measured({"m": [[1.0, 2.0], [3.0, 5.0]]})
    assert sensitivity.moments is sensitivity.moments
    assert sensitivity.moments.mean.tolist() == [2.0, 3.5]
    assert sensitivity.head(1).moments.mean.tolist() == [1.0, 2.0]
