"""Gains of layer groups: each module by the product of its groups' gains, on top of policy, hand and energy rule."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from surgery.edits import (
    LARGEST_GAIN,
    EditPlan,
    LayerGroups,
    edit_record,
    expected,
    fold_edits,
    groups_text,
    hold,
    parse_edit,
    put,
    thirds_of,
)
from surgery.errors import PolicyError, RecipeError
from surgery.policies import AbsSelect, GradDirection, Identity, Rank, Scale
from tests.helpers.policies import measured, spectrum, with_protected

RNG = np.random.default_rng(21)
FAMILIES = {"o_proj": "self_attn.o_proj", "down_proj": "mlp.down_proj"}
NAMES = [f"model.layers.{layer}.{path}" for layer in range(4) for path in FAMILIES.values()]
SPECTRA = {name: spectrum(name, [4.0, 2.5, 1.0, 0.25, 0.0]) for name in NAMES}
VALUES = {name: RNG.normal(0.05, 0.5, (24, 5)) for name in NAMES}
SENSITIVITY = measured(VALUES)
THIRD = {0: 0, 1: 0, 2: 1, 3: 2}  # of four layers, cut at 4/3 and 8/3

gains = st.floats(0, LARGEST_GAIN)
threes = st.tuples(gains, gains, gains)
some_groups = st.builds(
    LayerGroups,
    st.dictionaries(st.sampled_from(list(FAMILIES)), gains),
    threes,
    st.dictionaries(st.sampled_from(list(FAMILIES)), threes),
)
POLICIES = (GradDirection(), AbsSelect(), Rank(keep=2), Scale(1.7), Identity())


def gain_of(groups, name):
    """The product of a module's gains, spelled out."""
    third = THIRD[int(name.split(".")[2])]
    family = name.rpartition(".")[2]
    return groups.family.get(family, 1.0) * groups.third[third] * groups.both.get(family, (1.0, 1.0, 1.0))[third]


@given(some_groups, st.sampled_from(POLICIES), st.sampled_from(["l1", "l2", "none"]), st.sampled_from([0.0, 0.5]))
def test_a_module_has_its_sigma_after_the_energy_rule_times_the_gains_of_its_groups(groups, policy, energy, floor):
    plan = EditPlan(policy, energy=energy, sigma_min=floor)
    without = plan.apply(SPECTRA, SENSITIVITY)
    found = replace(plan, groups=groups).apply(SPECTRA, SENSITIVITY)
    for name, module in found.modules.items():
        before = without.modules[name].sigma_after
        wanted = [max(gain_of(groups, name) * each, min(floor, each)) for each in before]
        # the gain is a product of three, in whatever order
        np.testing.assert_allclose(module.sigma_after, wanted, rtol=4 * 2.0**-52, atol=0)
        assert module.sigma_after[-1] == 0
        np.testing.assert_array_equal(module.gains[:-1], module.sigma_after[:-1] / module.sigma[:-1])
        assert module.skipped is None or gain_of(groups, name) == 1


@given(st.sampled_from(POLICIES), st.floats(0, 1.5))
def test_gains_of_one_change_no_bit_and_are_not_written(policy, strength):
    plan = EditPlan(policy, strength=strength)
    ones = LayerGroups({"o_proj": 1.0}, (1, 1, 1), {"down_proj": (1, 1, 1)})
    assert ones.plain
    assert ones == LayerGroups()
    told = replace(plan, groups=ones)
    assert edit_record(told) == edit_record(plan)
    assert "groups" not in edit_record(plan)
    for name, module in told.apply(SPECTRA, SENSITIVITY).modules.items():
        np.testing.assert_array_equal(
            module.sigma_after, plan.apply(SPECTRA, SENSITIVITY).modules[name].sigma_after
        )
    # one family's gain moves no bit of another
    other = replace(plan, groups=LayerGroups({"o_proj": 0.5})).apply(SPECTRA, SENSITIVITY)
    for name in NAMES[1::2]:
        np.testing.assert_array_equal(
            other.modules[name].sigma_after, plan.apply(SPECTRA, SENSITIVITY).modules[name].sigma_after
        )


GROUPS = LayerGroups({"o_proj": 0.6}, (1.2, 1.0, 0.3), {"down_proj": (1.0, 0.0, 2.0)})


@pytest.mark.parametrize("policy", [GradDirection(), AbsSelect()])
def test_every_fold_has_the_gains_of_the_edit_of_its_training_examples(policy):
    plan = EditPlan(policy, strength=1.2, sigma_min=0.1, groups=GROUPS)
    edits = fold_edits(plan, SPECTRA, SENSITIVITY)
    for after, train in zip(edits.after, SENSITIVITY.folds.train, strict=True):
        alone = plan.apply(SPECTRA, measured({name: g[train] for name, g in VALUES.items()}))
        wanted = np.concatenate([module.sigma_after for module in alone.modules.values()])
        assert after == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_what_is_expected_is_of_the_edit_with_its_groups():
    plan = EditPlan(Scale(0.7), groups=GROUPS)
    sigma, after = (
        np.concatenate([getattr(m, each) for m in plan.apply(SPECTRA, None).modules.values()])
        for each in ("sigma", "sigma_after")
    )
    change = np.concatenate(list(VALUES.values()), axis=1) @ (after - sigma)
    found = expected(plan, SPECTRA, SENSITIVITY)
    assert found.linear == pytest.approx(change.mean(), rel=1e-9)


def test_a_step_that_spares_a_protected_slice_does_so_with_its_groups():
    beside = with_protected(SENSITIVITY)
    plan = EditPlan(GradDirection(), energy="none", groups=GROUPS, protect=True)
    edit = plan.apply(SPECTRA, beside)
    for slice_ in beside.protected:
        if not slice_.label_free:
            means = {name: g.mean(axis=0) for name, g in slice_.values.items()}
            harm = [float(means[name] @ (m.sigma_after - m.sigma)) for name, m in edit.modules.items()]
            # a sum of that many products, of which the projection brought the whole to zero
            assert math.fsum(harm) <= 1e-9 * sum(map(abs, harm))
    assert np.isfinite(expected(plan, SPECTRA, beside).mean)


@given(some_groups)
def test_a_plan_with_groups_is_written_and_read_again(groups):
    plan = EditPlan(groups=groups)
    assert parse_edit(edit_record(plan)) == plan
    assert hash(parse_edit(edit_record(plan)).groups) == hash(groups)
    assert (groups_text(groups) == "") == groups.plain


@given(
    st.floats(0.05, 2), st.floats(0, 3), st.sampled_from([GradDirection(), Rank(keep=2)]),
    st.sampled_from(["l1", "none"]), st.sampled_from([1.0, 0.6]),
)  # fmt: skip
def test_a_component_set_by_hand_ends_there_under_the_gain_of_its_groups(gain, wanted, policy, energy, strength):
    plan = EditPlan(policy, energy=energy, strength=strength, groups=LayerGroups(third=(gain, 1, 1)))
    name = NAMES[0]
    sigma = SPECTRA[name].sigma
    try:
        pulled = put(SPECTRA, plan, SENSITIVITY, name, {1: wanted})
    except PolicyError:  # the rule leaves no room, or the strength no gain so small
        assume(False)
    after = pulled.apply(SPECTRA, SENSITIVITY).modules[name].sigma_after
    assert after[1] == pytest.approx(wanted * sigma[1], rel=1e-9, abs=1e-9)
    kept = hold(SPECTRA, plan, SENSITIVITY, name, range(4)).apply(SPECTRA, SENSITIVITY).modules[name]
    assert kept.sigma_after == pytest.approx(plan.apply(SPECTRA, SENSITIVITY).modules[name].sigma_after, rel=1e-9)


def test_under_a_gain_of_zero_nothing_is_raised_by_hand():
    plan = EditPlan(Identity(), groups=LayerGroups({"o_proj": 0.0}))
    with pytest.raises(PolicyError, match="is 0"):
        put(SPECTRA, plan, None, NAMES[0], {0: 1.0})


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (8, [3, 3, 2]), (30, [10] * 3)]
)
def test_thirds_are_of_the_adapters_layers_in_their_order(count, sizes):
    layers = [5 * layer + 2 for layer in range(count)]  # of an adapter on every fifth layer
    spectra = {f"m{n}": replace(spectrum(f"m{n}", [1.0]), layer=n) for n in layers}
    spectra["head"] = replace(spectrum("head", [1.0]), layer=None)
    found = thirds_of(spectra)
    assert found["head"] is None
    assert [list(found.values()).count(third) for third in range(3)] == sizes
    assert [found[f"m{n}"] for n in layers] == sorted(found[f"m{n}"] for n in layers)
    assert LayerGroups({"q": 0.5}, (0.1, 0.1, 0.1), {"q": (0.1, 0.1, 0.1)}).gain("q", None) == 0.5


@pytest.mark.parametrize("bad", [-0.1, 2.1, math.nan, math.inf])
def test_a_gain_out_of_range_is_refused(bad):
    for groups in ({"family": {"q": bad}}, {"third": (1, bad, 1)}, {"both": {"q": (bad, 1, 1)}}):
        with pytest.raises(PolicyError, match="cannot be"):
            LayerGroups(**groups)


@pytest.mark.parametrize(
    "record",
    [
        {"families": {}},
        {"third": [1, 1]},
        {"third": 0.5},
        {"family": [1]},
        {"family": {"q": "x"}},
        {"both": {"q": 1}},
    ],
)
def test_what_is_no_record_of_groups_is_refused_by_its_place(record):
    with pytest.raises(RecipeError, match=r"edit\.groups"):
        parse_edit({**edit_record(EditPlan()), "groups": record})


def test_a_family_that_the_adapter_does_not_have_is_refused():
    with pytest.raises(PolicyError, match="no family 'q_prj'"):
        EditPlan(groups=LayerGroups({"q_prj": 0.5})).apply(SPECTRA, SENSITIVITY)
