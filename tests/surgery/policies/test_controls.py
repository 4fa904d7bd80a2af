"""The edits that others are compared with: random gates, rescaling, identity."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.policies import AbsSelect, Identity, RandomIndex, Scale
from tests.helpers.policies import evidence, fractions, gains_of, signed, stacked, tied

# ---- random_index ----


@given(tied, fractions, fractions, st.integers(0, 30), st.integers(0, 2**31 - 1), st.text(max_size=20))
def test_random_index_has_the_same_gains_as_abs_select_in_another_order(
    values, core, noise, min_core_k, seed, name
):
    gates = {"core_frac": core, "noise_frac": noise, "min_core_k": min_core_k, "amp": 1.5, "sup": 0.5, "mid": 1.0}
    select = gains_of(AbsSelect(**gates), evidence(values))
    random = gains_of(RandomIndex(**gates, seed=seed), evidence(values, name=name))
    assert sorted(select.tolist()) == sorted(random.tolist())


def test_random_index_depends_on_seed_and_module_name_and_on_nothing_else():
    def draw(seed, name, values, sigma=None):
        return tuple(gains_of(RandomIndex(seed=seed), evidence(values, name=name, sigma=sigma)))

    ones = [1.0] * 16
    assert draw(3, "a", ones) == draw(3, "a", np.arange(16.0), np.linspace(9, 1, 16))
    by_seed = {draw(seed, "a", ones) for seed in range(40)}
    by_name = {draw(0, f"layers.{i}.o_proj", ones) for i in range(40)}
    assert len(by_seed) > 35
    assert len(by_name) > 35
    # seed and name stay apart: neither "1" + "2a" nor "12" + "a" may meet the other
    assert draw(1, "2a", ones) != draw(12, "a", ones)


def test_random_index_touches_every_component_about_equally_often():
    raised = np.zeros(10)
    for seed in range(1000):
        raised += gains_of(RandomIndex(seed=seed), evidence([1.0] * 10)) == 1.25
    # 200 of 1000 each, five standard deviations either way
    assert (abs(raised - 200) < 5 * math.sqrt(1000 * 0.2 * 0.8)).all()


@pytest.mark.parametrize(
    ("seed", "name", "drawn"),
    [
        (0, "m", [1, 2, 3, 2, 2]),
        (3, "model.layers.7.mlp.down_proj", [3, 2, 2, 2, 3, 3, 2, 2, 2, 2, 1, 2, 1, 2, 2, 1]),
        (2**31 - 1, "a.o_proj", [1, 1, 3, 3, 2, 2, 2, 2]),
    ],
)
def test_the_draws_of_exported_recipes_never_change(seed, name, drawn):
    # drawn by the first release; a recipe that names a seed is to give the same bytes for ever
    policy = RandomIndex(seed=seed, amp=3.0, sup=1.0, mid=2.0)
    module = evidence([1.0] * len(drawn), name=name)
    assert gains_of(policy, module).tolist() == drawn
    others = [evidence([1.0] * len(drawn), name=f"other.{i}") for i in range(3)]
    assert policy.gains(stacked(*others, module))[3].tolist() == drawn


# ---- identity, scale ----


@given(signed)
def test_identity_and_scale_give_one_gain_to_all(g):
    assert gains_of(Identity(), evidence(g=g)).tolist() == [1.0] * len(g)
    assert gains_of(Scale(gamma=0.7), evidence(g=g)).tolist() == [0.7] * len(g)
