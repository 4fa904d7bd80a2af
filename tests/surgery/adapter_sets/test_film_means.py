"""Means of films whose modules are known axes, and what random subspaces give against drawn ones."""

from functools import cache

import numpy as np
import pytest

from surgery.adapter_sets import FILM_MEASURES, Film, film_means, film_values, make_film
from surgery.errors import PolicyError
from surgery.spectra import Spectrum, chance_level, random_match_angles


def module(name, layer, family, axes, *, sigma=(2.0, 1.0), out=10, into=6) -> Spectrum:
    U, V = np.eye(out)[:, list(axes)], np.eye(into)[:, : len(axes)]
    return Spectrum(name, layer, family, U, np.array(sigma[: len(axes)]), V)


@cache
def film() -> Film:
    """o in layers 0 and 1, down in layer 1 and head in none; o of layer 1 is missing at the first step."""
    told = {
        "o.0": [module("o.0", 0, "o", (0, 1)), module("o.0", 0, "o", (0, 2))],
        "o.1": [None, module("o.1", 1, "o", (0, 1), sigma=(6.0, 8.0)[::-1])],
        "down.1": [module("down.1", 1, "down", (0, 1)), module("down.1", 1, "down", (2, 3))],
        "head": [module("head", None, "head", (0, 1)), module("head", None, "head", (0, 1))],
    }
    return make_film((1, 2), list(told.items()))


def values(measure, by, **choice):
    found = film_means(film(), measure, by, **choice)
    return dict(zip(found.groups, found.values.T.tolist(), strict=True))


def test_every_module_weighs_the_same_and_what_has_no_value_is_left_out():
    nan = pytest.approx(np.nan, nan_ok=True)
    assert values("last", "family", k=2) == {
        ("o", None): [0.5, 1.0],
        ("down", None): [0.0, 1.0],
        ("head", None): [1.0, 1.0],
    }
    assert values("last", "layer", k=1) == {(None, 0): [1.0, 1.0], (None, 1): [0.0, 1.0], (None, None): [1.0, 1.0]}
    assert values("before", "cell", k=2) == {
        ("o", 0): [nan, 0.5],
        ("o", 1): [nan, nan],
        ("down", 1): [nan, 0.0],
        ("head", None): [nan, 1.0],
    }
    norms = values("norm", "family")
    assert norms["o", None] == pytest.approx([5**0.5, (5**0.5 + 10) / 2])
    found = film_means(film(), "norm", "family")
    assert found.counts.tolist() == [[1, 1, 1], [2, 1, 1]]
    assert np.isnan(found.chance).all()


def test_the_angle_is_that_of_the_component_with_its_match():
    assert values("angle", "cell", k=1)["o", 0] == [0.0, 0.0]
    assert values("angle", "cell", k=2)["down", 1] == pytest.approx([90.0, 0.0])
    assert values("angle", "cell", k=2, side="input")["head", None] == [0.0, 0.0]
    assert np.isnan(values("angle", "cell", k=3)["o", 0]).all()


def test_a_component_that_shares_its_sigma_has_no_angle_of_its_own():
    even = [module("o", 0, "o", (0, 1), sigma=(1.0, 1.0))] * 2
    found = make_film((1, 2), [("o", even)]).modules["o"]
    assert np.isnan(film_values(found, "angle", k=1)).all()
    assert film_values(found, "last", k=2) == pytest.approx(1.0)


def test_one_module_is_read_against_its_own_chance_level_and_a_mean_of_many_against_a_lower_one():
    found = film_means(film(), "last", "cell", k=2)
    assert found.random[0].tolist() == [2 / 10, pytest.approx(np.nan, nan_ok=True), 2 / 10, 2 / 10]
    assert found.chance[0, 0] == chance_level(10, 2, "overlap", level=0.01)
    assert film_means(film(), "last", "cell", k=2, side="input").random[0, 0] == 2 / 6
    by_family = film_means(film(), "last", "family", k=2)
    assert by_family.chance[0, 0] == found.chance[0, 0]
    assert film_means(film(), "before", "family", k=1).inside[1].tolist() == [1 / 2, 1 / 2, 1 / 2]
    # two modules at the last step
    assert by_family.random[1, 0] < by_family.chance[1, 0] < found.chance[1, 0]


def test_angles_have_a_random_median_and_a_level_below_it():
    found = film_means(film(), "angle", "cell", k=1)
    left, right = random_match_angles((10, 6), 2)
    assert (found.random[0, 0], found.chance[0, 0]) == (np.median(left), np.quantile(left, 0.01))
    assert film_means(film(), "angle", "cell", k=1, side="input").random[0, 0] == np.median(right)
    several = film_means(film(), "angle", "layer", k=1)
    assert found.chance[1, 1] < several.chance[1, 1] < several.random[1, 1]


@pytest.mark.parametrize("measure", FILM_MEASURES)
@pytest.mark.parametrize("by", ["family", "layer", "cell"])
def test_every_measure_has_a_value_for_each_group_and_step(measure, by):
    found = film_means(film(), measure, by, k=1)
    assert found.values.shape == found.counts.shape == found.random.shape == found.chance.shape
    assert np.array_equal(np.isfinite(found.values), found.counts > 0)
    assert np.array_equal(np.isfinite(found.random), (found.counts > 0) & (measure in FILM_MEASURES[:3]))


@pytest.mark.parametrize("wrong", [{"measure": "speed"}, {"by": "rank"}, {"side": "left"}, {"k": 0}], ids=str)
def test_what_is_not_known_is_refused(wrong):
    asked = {"measure": "last", "by": "family", **wrong}
    with pytest.raises(PolicyError):
        film_means(film(), asked.pop("measure"), asked.pop("by"), **asked)
