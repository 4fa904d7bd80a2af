"""Means of parts that count the same: against the formulas, and the interval against many draws."""

import numpy as np
import pytest

from surgery.errors import DataError
from surgery.evaluation import paired_effect, parts

PARTS = ["a"] * 40 + ["b"] * 10 + ["c"] * 5


def test_mean_and_error_are_those_of_the_parts_whatever_their_size():
    numbers = np.random.default_rng(0).normal(size=55)
    split = [numbers[:40], numbers[40:50], numbers[50:]]
    assert parts.macro_mean(numbers, PARTS) == pytest.approx(np.mean([own.mean() for own in split]), rel=1e-12)
    errors = [own.std(ddof=1) / own.size**0.5 for own in split]
    assert parts.macro_error(numbers, PARTS) == pytest.approx(np.linalg.norm(errors) / 3, rel=1e-12)
    assert parts.macro_mean(numbers, ["one"] * 55) == pytest.approx(numbers.mean(), rel=1e-12)
    with pytest.raises(DataError, match="3 names of parts for 55"):
        parts.macro_mean(numbers, ["a"] * 3)


def test_the_interval_is_as_wide_as_the_error_says():
    rng = np.random.default_rng(1)
    before = np.zeros(3000)
    after = rng.normal(0.1, 1.0, size=3000)
    named = ["a"] * 2500 + ["b"] * 500
    effect = paired_effect(before, after, parts=named)
    assert effect.mean == pytest.approx(parts.macro_mean(after, named))
    # a normal interval is ± 1.96 errors; 5000 resamples know its ends within a few per cent
    assert (effect.high - effect.low) / 2 == pytest.approx(1.96 * effect.standard_error, rel=0.06)
    assert effect.standard_error > paired_effect(before, after).standard_error


def test_a_part_of_one_example_has_no_spread_to_tell():
    effect = paired_effect(np.zeros(3), np.array([1.0, 0.0, 1.0]), parts=["a", "a", "b"])
    assert effect.mean == 0.75
    assert np.isnan([effect.standard_error, effect.low, effect.high]).all()
    assert not effect.certain
