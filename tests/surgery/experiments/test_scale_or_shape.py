"""Every control of scale and shape holds what it is named for, against sums worked out component by component."""

import math
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from surgery.edits import Edit, EditPlan, ModuleEdit, gains_of
from surgery.experiments import (
    control_of,
    flat_of,
    head_only,
    input_energies,
    one_scale,
    scalar_e,
    scalar_f,
    scalar_n,
    shape_only,
    shuffled_scales,
    tail_only,
)
from surgery.policies import make_policy
from surgery.sensitivity import Sensitivity
from tests.helpers.input_moments import with_moments
from tests.helpers.policies import measured, spectrum
from tests.helpers.rounding import apart

ALL = (scalar_e, scalar_f, scalar_n, one_scale, shuffled_scales, shape_only, head_only, tail_only)
SCALES = (scalar_e, scalar_f, scalar_n, one_scale, shuffled_scales)


def made(sigmas, afters, qs=None, families=None):
    """An edit, its modules end to end, and q by name; modules are named 0, 1 and so on."""
    names = [str(place) for place in range(len(sigmas))]
    arrays = [
        (np.array(sigma, dtype=float), np.array(after, dtype=float))
        for sigma, after in zip(sigmas, afters, strict=True)
    ]
    edit = Edit(
        {
            name: ModuleEdit(gains_of(sigma, after), sigma, after)
            for name, (sigma, after) in zip(names, arrays, strict=True)
        }
    )
    kinds = families or ["one family"] * len(names)
    spectra = {name: SimpleNamespace(family=kind) for name, kind in zip(names, kinds, strict=True)}
    q = {
        name: np.array(each, dtype=float) for name, each in zip(names, qs or [], strict=False) if each is not None
    }
    return edit, flat_of(edit, spectra, q), q


def afters(edit: Edit) -> list[np.ndarray]:
    return [module.sigma_after for module in edit.modules.values()]


def energy(values, q) -> float:
    """Σσ²q in exact arithmetic."""
    return float(sum(Fraction(v) ** 2 * Fraction(w) for v, w in zip(values.tolist(), q.tolist(), strict=True)))


@st.composite
def edits(draw):
    """Two to four modules of one to five components, moved by gains from 0 to 3; q from 0.01 to 100."""
    ranks = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    value = st.floats(0.05, 20.0)

    def each(numbers):
        return [draw(st.lists(numbers, min_size=rank, max_size=rank)) for rank in ranks]

    sigmas = [sorted(sigma, reverse=True) for sigma in each(value)]
    gains = each(st.one_of(st.just(0.0), st.just(1.0), st.floats(0.1, 3.0)))
    families = draw(st.lists(st.sampled_from("ab"), min_size=len(ranks), max_size=len(ranks)))
    moved = [np.array(sigma) * gain for sigma, gain in zip(sigmas, gains, strict=True)]
    return made(sigmas, moved, each(st.floats(0.01, 100.0)), families)


# a size is a root of a sum of at most 20 squares with two products each, and a gain the ratio of two
NEAR = 4 * apart(20 + 8, dtype=torch.float64)


@given(edits())
def test_each_scale_gives_every_module_the_size_it_is_named_for_and_one_gain(case):
    edit, flat, q = case
    for control, size in (
        (scalar_e, lambda values, name: math.sqrt(energy(values, q[name]))),
        (scalar_f, lambda values, name: math.sqrt(energy(values, np.ones_like(values)))),
        (scalar_n, lambda values, name: math.fsum(values)),
    ):
        for name, module in control_of(edit, control, flat).modules.items():
            own = edit.modules[name]
            assert size(module.sigma_after, name) == pytest.approx(size(own.sigma_after, name), rel=NEAR, abs=0)
            assert np.ptp(module.gains) <= 2 * np.finfo(float).eps * module.gains.max()


@given(edits())
def test_one_scale_has_the_functional_energy_of_the_whole_edit_and_one_gain_for_all_that_moves(case):
    edit, flat, q = case
    control = control_of(edit, one_scale, flat)
    wanted, found = (
        sum(energy(module.sigma_after, q[name]) for name, module in each.modules.items())
        for each in (edit, control)
    )
    assert found == pytest.approx(wanted, rel=2 * NEAR)
    gains = [
        control.modules[name].gains
        for name, own in edit.modules.items()
        if not np.array_equal(own.sigma, own.sigma_after)
    ]
    if gains:
        together = np.concatenate(gains)
        assert np.ptp(together) <= 2 * np.finfo(float).eps * together.max()


@given(edits(), st.integers(0, 20))
def test_shuffled_scales_are_those_of_the_family_times_one_factor_and_the_total_stays(case, seed):
    edit, flat, q = case
    control = control_of(edit, shuffled_scales, flat, seed=seed)
    scaled = control_of(edit, scalar_e, flat)
    wanted, found = (
        sum(energy(module.sigma_after, q[name]) for name, module in each.modules.items())
        for each in (edit, control)
    )
    assert found == pytest.approx(wanted, rel=4 * NEAR)
    moved = [n for n, own in edit.modules.items() if not np.array_equal(own.sigma, own.sigma_after)]
    families = dict(zip(flat.names, flat.families, strict=True))
    factors = []
    for family in "ab":
        names = [name for name in moved if families[name] == family]
        before, after = (sorted(each.modules[name].gains[0] for name in names) for each in (scaled, control))
        factors += [b / a for a, b in zip(before, after, strict=True) if a]
    if factors:
        assert factors == pytest.approx([factors[0]] * len(factors), rel=8 * NEAR)


@given(edits())
def test_the_shape_alone_has_the_edits_ratios_at_the_old_functional_energy(case):
    edit, flat, q = case
    for name, module in control_of(edit, shape_only, flat).modules.items():
        own = edit.modules[name]
        if not own.sigma_after.any():
            assert "zeroed" in module.skipped
            np.testing.assert_array_equal(module.sigma_after, own.sigma)
            continue
        assert energy(module.sigma_after, q[name]) == pytest.approx(energy(own.sigma, q[name]), rel=2 * NEAR)
        ratios = module.sigma_after[own.sigma_after > 0] / own.sigma_after[own.sigma_after > 0]
        assert np.ptp(ratios) <= 2 * np.finfo(float).eps * ratios.max()
        assert not module.sigma_after[own.sigma_after == 0].any()


@given(edits())
def test_head_and_tail_add_up_to_the_edit(case):
    edit, flat, _ = case
    head, tail = (control_of(edit, control, flat) for control in (head_only, tail_only))
    for name, own in edit.modules.items():
        low, high = head.modules[name].sigma_after, tail.modules[name].sigma_after
        assert (low <= own.sigma).all()
        assert (high >= own.sigma).all()
        for k, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            assert Fraction(a) + Fraction(b) - Fraction(own.sigma[k]) == Fraction(own.sigma_after[k])


@given(edits())
def test_an_edit_that_moves_nothing_is_its_own_control_to_the_bit(case):
    edit, flat, _ = case
    same = Edit({n: ModuleEdit(np.ones_like(m.sigma), m.sigma, m.sigma.copy()) for n, m in edit.modules.items()})
    for control in ALL:
        for name, module in control_of(same, control, flat).modules.items():
            np.testing.assert_array_equal(module.sigma_after, same.modules[name].sigma)


@given(edits(), st.floats(0.1, 5.0))
def test_a_plain_scale_of_everything_is_all_scale_and_no_shape(case, gamma):
    edit, flat, _ = case
    assume(abs(gamma - 1) > 1e-6)
    scaled = Edit(
        {n: ModuleEdit(np.full_like(m.sigma, gamma), m.sigma, gamma * m.sigma) for n, m in edit.modules.items()}
    )
    for control in SCALES:
        for name, module in control_of(scaled, control, flat).modules.items():
            np.testing.assert_allclose(module.sigma_after, scaled.modules[name].sigma_after, rtol=4 * NEAR)
    for name, module in control_of(scaled, shape_only, flat).modules.items():
        np.testing.assert_allclose(module.sigma_after, scaled.modules[name].sigma, rtol=4 * NEAR)


@given(edits())
def test_a_stack_of_folds_is_computed_row_by_row(case):
    edit, flat, _ = case
    one = np.concatenate(afters(edit))
    stack = np.stack([one, flat.sigma, 0.5 * one + 0.5 * flat.sigma])
    for control in ALL:
        together = control(flat, stack, 3)
        for row, after in zip(together, stack, strict=True):
            np.testing.assert_array_equal(row, control(flat, after, 3))


def test_the_controls_of_a_module_by_hand():
    # Σσ²q = 16 + 9·4 = 52 before, 4 + 36·4 = 148 after; norms 5 and √40; sums 7 and 8
    edit, flat, _ = made([[4, 3]], [[2, 6]], [[1, 4]])
    expected = {
        scalar_e: [4 * math.sqrt(148 / 52), 3 * math.sqrt(148 / 52)],
        scalar_f: [4 * math.sqrt(40) / 5, 3 * math.sqrt(40) / 5],
        scalar_n: [4 * 8 / 7, 3 * 8 / 7],
        one_scale: [4 * math.sqrt(148 / 52), 3 * math.sqrt(148 / 52)],
        shuffled_scales: [4 * math.sqrt(148 / 52), 3 * math.sqrt(148 / 52)],
        shape_only: [2 * math.sqrt(52 / 148), 6 * math.sqrt(52 / 148)],
        head_only: [2, 3],
        tail_only: [4, 6],
    }
    for control, values in expected.items():
        np.testing.assert_allclose(afters(control_of(edit, control, flat))[0], values, rtol=1e-15)


def test_shuffled_scales_stay_inside_their_family_and_follow_the_seed():
    count = 6
    sigmas, moved = [[1.0]] * count, [[1.1], [1.2], [1.3], [5.0], [6.0], [7.0]]
    edit, flat, _ = made(sigmas, moved, [[1.0]] * count, ["a"] * 3 + ["b"] * 3)
    seen = set()
    for seed in range(30):
        found = np.concatenate(afters(control_of(edit, shuffled_scales, flat, seed=seed)))
        again = np.concatenate(afters(control_of(edit, shuffled_scales, flat, seed=seed)))
        np.testing.assert_array_equal(found, again)
        assert found[:3].max() < 2
        assert found[3:].min() > 4
        seen.add(tuple(found.round(9)))
    assert len(seen) > 15


def test_modules_without_moments_are_left_unedited_by_the_controls_that_read_them_and_it_is_told():
    edit, flat, _ = made([[4, 3], [2, 1]], [[2, 6], [1, 1]], [[1, 4], None])
    for control in ALL:
        module = control_of(edit, control, flat).modules["1"]
        if control in (scalar_f, scalar_n, head_only, tail_only):
            assert module.skipped is None
            assert not np.array_equal(module.sigma_after, [2, 1]) or control is tail_only
        else:
            assert "not measured" in module.skipped
            np.testing.assert_array_equal(module.sigma_after, [2, 1])
    # and the others have what they would have alone
    alone, alone_flat, _ = made([[4, 3]], [[2, 6]], [[1, 4]])
    for control in ALL:
        np.testing.assert_array_equal(
            afters(control_of(edit, control, flat))[0], afters(control_of(alone, control, alone_flat))[0]
        )


def test_a_module_through_which_no_energy_passes_is_left_unedited_and_it_is_told():
    edit, flat, _ = made([[4, 3], [2, 0]], [[2, 6], [1, 0]], [[1, 4], [0, 5]])
    for control in (scalar_e, one_scale, shuffled_scales, shape_only):
        module = control_of(edit, control, flat).modules["1"]
        assert "no energy passes" in module.skipped
        np.testing.assert_array_equal(module.sigma_after, [2, 0])


@pytest.mark.parametrize("control", ALL)
def test_null_components_keep_their_values_and_count_for_nothing(control):
    edit, flat, _ = made([[4, 3, 1e-17], [2, 1, 0]], [[2, 6, 1e-17], [1, 3, 0]], [[1, 4, 1e30], [1, 1, 1e30]])
    bare, bare_flat, _ = made([[4, 3], [2, 1]], [[2, 6], [1, 3]], [[1, 4], [1, 1]])
    found, expected = afters(control_of(edit, control, flat)), afters(control_of(bare, control, bare_flat))
    for module, without, null in zip(found, expected, (1e-17, 0.0), strict=True):
        np.testing.assert_allclose(module[:2], without, rtol=1e-15)
        assert module[2] == null


@pytest.mark.parametrize("control", [scalar_e, scalar_n, one_scale, shape_only])
def test_very_large_values_do_not_overflow(control):
    edit, flat, _ = made([[4e200, 3e200]], [[2e200, 6e200]], [[1, 4]])
    small, small_flat, _ = made([[4, 3]], [[2, 6]], [[1, 4]])
    np.testing.assert_allclose(
        afters(control_of(edit, control, flat))[0],
        1e200 * afters(control_of(small, control, small_flat))[0],
        rtol=1e-14,
    )


SPECTRA = {
    f"model.layers.{layer}.{part}": spectrum(f"model.layers.{layer}.{part}", [4.0, 3.0, 2.0, 1.0])
    for layer in range(2)
    for part in ("self_attn.o_proj", "mlp.down_proj")
}


def a_measurement() -> Sensitivity:
    rng = np.random.default_rng(5)
    return measured({name: rng.normal(0.3, 1, (12, 4)) for name in SPECTRA})


@pytest.mark.parametrize("policy", ["grad_direction", "abs_select", "natural_gradient", "smooth_abs"])
def test_the_nuclear_scale_of_an_edit_under_rule_l1_is_no_edit(policy):
    edit = EditPlan(make_policy(policy), "all", "l1").apply(SPECTRA, a_measurement())
    assert not any(edit.skipped)
    for module in control_of(edit, scalar_n, flat_of(edit, SPECTRA, {})).modules.values():
        np.testing.assert_allclose(module.sigma_after, module.sigma, rtol=NEAR)


@pytest.mark.parametrize("policy", ["grad_direction", "natural_gradient"])
def test_the_shape_of_an_edit_without_a_rule_is_the_edit_under_rule_functional(policy):
    full = with_moments(a_measurement())
    free, held = (
        EditPlan(make_policy(policy), "all", rule).apply(SPECTRA, full) for rule in ("none", "functional")
    )
    alone = control_of(free, shape_only, flat_of(free, SPECTRA, input_energies(full)))
    for name, module in alone.modules.items():
        np.testing.assert_allclose(module.sigma_after, held.modules[name].sigma_after, rtol=2 * NEAR)


def test_energies_of_inputs_are_those_of_the_measurement_and_unusable_ones_are_unknown():
    assert input_energies(None) == input_energies(replace(a_measurement(), inputs=None)) == {}
    full = with_moments(a_measurement())
    found = input_energies(full)
    assert list(found) == list(SPECTRA)
    for name, q in found.items():
        sums = full.inputs.prompt[name] + full.inputs.answer[name]
        np.testing.assert_allclose(q, np.diagonal(sums) / 5, rtol=1e-15)
    wrong = dict(zip(SPECTRA, (np.nan, -1.0, 0.0), strict=False))
    for name, value in wrong.items():
        full.inputs.prompt[name][:] = full.inputs.answer[name][:] = value
    assert set(input_energies(full)) == set(SPECTRA) - set(wrong)
