"""Controls beside an edit: random ones, and its rescaling."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.adapter import in_scope, open_adapter
from surgery.edits import Edit, EditPlan, LayerGroups, group_gains, make_edit
from surgery.evaluation import (
    HEAD_ONLY,
    ONE_SCALE,
    SAME_ENERGY,
    SAME_NORM,
    SAME_SUM,
    SHAPE_CONTROLS,
    SHAPE_ONLY,
    SHUFFLED_SCALES,
    TAIL_ONLY,
)
from surgery.experiments import (
    EDIT,
    ControlRules,
    control_sets,
    is_reserved,
    random_controls,
    rules_of,
    shape_controls,
    sigma_digest,
    with_controls,
)
from surgery.policies import (
    POLICIES,
    AbsSelect,
    GradDirection,
    RandomIndex,
    Rank,
    Scale,
    make_policy,
)
from surgery.runs import control_notes
from surgery.sensitivity import calibrate, calibration_slice, measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.input_moments import with_moments
from tests.helpers.models import save_adapter, tiny_llama
from tests.helpers.policies import with_protected
from tests.helpers.workplace import workplace


@pytest.fixture(scope="module")
def measured(workplace_files):
    """Spectra of an adapter and its sensitivities."""
    here = workplace(workplace_files, workplace_files / "no home")
    with here.attach() as live:
        found = measure_sensitivity(live, calibration_slice(live, here.calibration), list(live.spectra))
        yield live.spectra, with_protected(found)


def test_random_controls_have_the_gains_of_the_layer_groups_of_their_edit(measured):
    spectra, sensitivity = measured
    groups = LayerGroups(third=(0.5, 1.0, 0.5))
    for policy in (GradDirection(), AbsSelect(), Rank(keep=2)):
        plan = EditPlan(policy, scope="all", energy="l1", groups=groups)
        edit = plan.apply(spectra, sensitivity)
        found = with_controls(
            spectra, {EDIT: (edit, rules_of(plan))}, random=1, scale=False, measured={EDIT: sensitivity}
        ).edits["random 0"]
        for name, gain in group_gains(groups, spectra, spectra).items():
            module, own = found.modules[name], edit.modules[name]
            if rules_of(plan).gates is not None:
                assert module.sigma_after.sum() == pytest.approx(gain * module.sigma.sum(), rel=1e-9)
            else:  # the edit's gains, dealt out anew, move a module as far as it does
                assert distance(Edit({name: module})) == pytest.approx(distance(Edit({name: own})), rel=1e-6)


def test_what_a_policy_left_alone_its_controls_only_scale(measured):
    spectra, sensitivity = measured
    still = next(iter(spectra))
    quiet = {name: np.zeros_like(g) if name == still else g for name, g in sensitivity.values.items()}
    plan = EditPlan(AbsSelect(), scope="all", strength=0.5, groups=LayerGroups(third=(0.6, 0.6, 0.6)))
    edit = plan.apply(spectra, replace(sensitivity, values=quiet))
    controls = with_controls(spectra, {EDIT: (edit, rules_of(plan))}, random=1, scale=False).edits
    assert controls["random 0"].modules[still] is edit.modules[still]
    live = spectra[still].sigma > 1e-9
    assert edit.modules[still].gains[live] == pytest.approx(0.8)


def distance(edit):
    return np.sqrt(sum(((m.sigma_after - m.sigma) ** 2).sum() for m in edit.modules.values()))


def test_random_controls_are_seeded_named_and_all_different(place):
    spectra = decompose(open_adapter(place.adapter))
    controls, again = random_controls(spectra, 4), random_controls(spectra, 4)
    assert list(controls) == ["random 0", "random 1", "random 2", "random 3"]
    drawn = set()
    for name, control in controls.items():
        assert len(control.modules) == 6, "the residual writers of three layers by default"
        for module, edit in control.modules.items():
            np.testing.assert_array_equal(again[name].modules[module].gains, edit.gains)
        drawn.add(np.concatenate([edit.gains for edit in control.modules.values()]).tobytes())
    assert len(drawn) == 4


def test_random_controls_move_as_much_as_the_selection_they_stand_beside(place):
    policy = AbsSelect(core_frac=0.5, noise_frac=0.25, amp=1.5, sup=0.5, mid=0.9)
    assert RandomIndex().amp != policy.amp, "the default gates would not show it"
    plan = EditPlan(policy, scope="all", energy="none")
    with place.attach() as live:
        edit = plan.apply(live.spectra, calibrate(live, place.calibration))
        beside = with_controls(live.spectra, {EDIT: (edit, rules_of(plan))}, random=2)
    assert beside.controls[EDIT].random == ("random 0", "random 1")
    for control in beside.controls[EDIT].random:
        for name, module in beside.edits[control].modules.items():
            np.testing.assert_allclose(np.sort(module.gains), np.sort(edit.modules[name].gains))


def scale_control(edit, spectra):
    """The scale control where nothing is known of the inputs."""
    return shape_controls(edit, spectra, None, shape=False)[SAME_NORM]


@pytest.mark.parametrize("rank", [1, 4])
def test_the_scale_control_has_the_edits_norms_and_the_adapters_shape(tmp_path, rank):
    spectra = decompose(open_adapter(save_adapter(tiny_llama(), tmp_path / "adapter", r=rank)))
    manual = {next(iter(spectra)): dict.fromkeys(range(rank), 0.0)}
    edit = make_edit(spectra, RandomIndex(amp=2.0), scope="residual", energy="none")
    silenced = make_edit(spectra, Scale(1.0), scope="all", energy="none", manual=manual)
    for original in (edit, silenced):
        control = scale_control(original, spectra)
        assert list(control.modules) == list(original.modules)
        for name, module in control.modules.items():
            edited = original.modules[name]
            np.testing.assert_array_equal(module.sigma, edited.sigma)
            assert np.ptp(module.gains) <= 2 * np.finfo(float).eps * module.gains.max()
            expected = sum(value * value for value in edited.sigma_after.tolist()) ** 0.5
            assert sum(value * value for value in module.sigma_after.tolist()) ** 0.5 == pytest.approx(expected)
            if np.array_equal(edited.sigma, edited.sigma_after):
                assert set(module.gains) == {1.0}, "what the edit leaves alone stays so to the bit"
    assert not any(scale_control(silenced, spectra).modules[name].sigma_after.any() for name in manual)


def test_the_edit_comes_first_then_its_rescaling_then_random_controls(place):
    spectra = decompose(open_adapter(place.adapter))
    plan = EditPlan(AbsSelect(amp=1.7, sup=0.4), scope="o_proj", energy="none", sigma_min=0.01)
    edit = make_edit(spectra, RandomIndex(seed=9), scope="o_proj", energy="none")
    beside = with_controls(spectra, {EDIT: (edit, rules_of(plan))}, random=3)
    assert list(beside.edits) == [EDIT, SAME_NORM, "random 0", "random 1", "random 2"]
    assert beside.edits[EDIT] is edit
    assert sigma_digest(beside.edits[SAME_NORM]) == sigma_digest(scale_control(edit, spectra))
    for seed in range(3):
        gates = RandomIndex(amp=1.7, sup=0.4, seed=seed)
        expected = make_edit(spectra, gates, scope="o_proj", energy="none", sigma_min=0.01)
        assert sigma_digest(beside.edits[f"random {seed}"]) == sigma_digest(expected)
    edits = {EDIT: (edit, rules_of(plan))}
    assert list(with_controls(spectra, edits, random=1, scale=False).edits) == [EDIT, "random 0"]
    alone = with_controls(spectra, edits, random=0, scale=False)
    assert (list(alone.edits), dict(alone.controls)) == ([EDIT], {})


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"identity"}))
@pytest.mark.parametrize(("energy", "sigma_min"), [("l1", 0.0), ("l2", 0.0), ("none", 0.0), ("none", 0.05)])
def test_a_control_has_the_scope_the_rule_the_clamp_and_the_size_of_its_edit(measured, policy, energy, sigma_min):
    knobs = {"scale": {"gamma": 0.7}, "rank": {"keep": 2}}.get(policy, {})
    plan = EditPlan(make_policy(policy, knobs), "attention-inputs", energy, sigma_min)
    edit = plan.apply(*measured)
    beside = with_controls(measured[0], {EDIT: (edit, rules_of(plan))}, random=3, scale=False)
    order = {"l1": 1, "l2": 2, "none": None}[energy]
    moved = []
    for name in beside.controls[EDIT].random:
        control = beside.edits[name]
        assert list(control.modules) == list(edit.modules), "the modules in scope and no others"
        for module_name, module in control.modules.items():
            own = edit.modules[module_name]
            assert module.sigma_after.min() >= sigma_min
            if order and not own.skipped:
                assert np.linalg.norm(module.sigma_after, order) == pytest.approx(np.linalg.norm(own.sigma, order))
            if own.skipped:
                np.testing.assert_array_equal(module.sigma_after, own.sigma)
        moved.append(distance(control) / distance(edit) if distance(edit) else 1.0)
    told = beside.controls[EDIT]
    assert (told.scope, told.energy, told.sigma_min) == ("attention-inputs", energy, sigma_min)
    if distance(edit):
        assert told.moved == pytest.approx(np.mean(moved))
    if policy not in ("abs_select", "grad_direction"):
        for name in beside.controls[EDIT].random:
            for own, module in zip(edit.modules.values(), beside.edits[name].modules.values(), strict=True):
                wanted, found = (np.linalg.norm(each.sigma_after - each.sigma) for each in (own, module))
                # one that moves less has met the clamp
                assert found == pytest.approx(wanted, rel=1e-9) or (
                    found < wanted and module.sigma_after.min() == pytest.approx(sigma_min, abs=1e-9)
                )


def test_gates_drawn_at_random_have_the_strength_of_their_edit(measured):
    whole, half = (EditPlan(GradDirection(), energy="l2", strength=strength) for strength in (1.0, 0.5))
    drawn = [
        with_controls(measured[0], {EDIT: (plan.apply(*measured), rules_of(plan))}, random=1).edits["random 0"]
        for plan in (whole, half)
    ]
    assert distance(drawn[1]) == pytest.approx(distance(drawn[0]) / 2, rel=1e-9)


def test_edits_of_several_scopes_get_controls_each_whose_names_say_whose_they_are(measured):
    plans = {
        "a": EditPlan(GradDirection(), "residual", "l1"),
        "b": EditPlan(GradDirection(eta_suppress=0.3), "attention-inputs", "none"),
        "c": EditPlan(GradDirection(), "residual", "l1", manual={"model.layers.0.self_attn.o_proj": {0: 0.5}}),
        "d": EditPlan(Rank(keep=2), "residual", "l1"),
    }
    edits = {name: (plan.apply(*measured), rules_of(plan)) for name, plan in plans.items()}
    beside = with_controls(measured[0], edits, random=2)
    own = {name: group.random for name, group in beside.controls.items()}
    assert own == {
        "a": ("random 0 of a", "random 1 of a"),
        "b": ("random 0 of b", "random 1 of b"),
        "c": ("random 0 of a", "random 1 of a"),
        "d": ("random 0 of d", "random 1 of d"),
    }
    assert [name for name in beside.edits if name.startswith("scale")] == [f"{SAME_NORM} of {n}" for n in "abcd"]
    for name, plan in plans.items():
        for control in own[name]:
            assert list(beside.edits[control].modules) == in_scope(measured[0], plan.scope)
    assert len(beside.edits) == 4 + 4 + 3 * 2
    assert control_sets(rules for _, rules in edits.values()) == 3
    assert not any(map(is_reserved, plans))
    assert all(map(is_reserved, set(beside.edits) - set(plans)))


def test_edits_with_the_same_controls_share_them_under_their_plain_names(measured):
    plans = {name: EditPlan(RandomIndex(seed=seed), "all") for name, seed in (("a", 3), ("b", 4))}
    rules = ControlRules("all", "none")
    edits = {name: (plan.apply(measured[0], None), rules) for name, plan in plans.items()}
    beside = with_controls(measured[0], edits, random=2, scale=False)
    assert list(beside.edits) == ["a", "random 0", "random 1", "b"]
    assert {group.random for group in beside.controls.values()} == {("random 0", "random 1")}


def test_what_is_no_edit_of_these_spectra_gets_random_gates_in_the_scope_given(measured):
    beside = with_controls(measured[0], {"other": (None, ControlRules("q_proj", "l2"))}, random=1)
    assert list(beside.edits) == ["random 0"]
    expected = make_edit(measured[0], RandomIndex(), scope="q_proj", energy="l2")
    assert sigma_digest(beside.edits["random 0"]) == sigma_digest(expected)
    assert (beside.controls["other"].moved, beside.controls["other"].scaled) == (None, "")


def test_where_the_inputs_were_measured_the_scale_control_has_the_edits_functional_energy(measured):
    spectra, known = measured[0], with_moments(measured[1])
    plan = EditPlan(GradDirection(), "all", "none")
    edit = plan.apply(spectra, known)
    beside = with_controls(spectra, {EDIT: (edit, rules_of(plan))}, random=0, measured={EDIT: known})
    assert list(beside.edits) == [EDIT, SAME_ENERGY]
    group = beside.controls[EDIT]
    assert (group.scaled, dict(group.shape), group.unmatched) == (SAME_ENERGY, {SAME_ENERGY: SAME_ENERGY}, 0)
    assert not control_notes(beside.controls)
    for name, module in beside.edits[SAME_ENERGY].modules.items():
        q = known.inputs.q(name)
        energy = sum(v * v * w for v, w in zip(module.sigma_after.tolist(), q.tolist(), strict=True))
        wanted = sum(v * v * w for v, w in zip(edit.modules[name].sigma_after.tolist(), q.tolist(), strict=True))
        assert energy == pytest.approx(wanted, rel=1e-12)
    # and without them the Frobenius norm, which is told
    earlier = with_controls(
        spectra, {EDIT: (edit, rules_of(plan))}, random=0, measured={EDIT: replace(known, inputs=None)}
    )
    assert list(earlier.edits) == [EDIT, SAME_NORM]
    (note,) = control_notes(earlier.controls)
    assert "Frobenius norm" in note
    assert "calibrate again" in note


@pytest.mark.parametrize("energy", ["l1", "none"])
def test_scale_or_shape_adds_every_control_that_is_not_the_adapter_itself(measured, energy):
    spectra, known = measured[0], with_moments(measured[1])
    plan = EditPlan(GradDirection(), "all", energy)
    edit = plan.apply(spectra, known)
    beside = with_controls(spectra, {EDIT: (edit, rules_of(plan))}, random=1, shape=True, measured={EDIT: known})
    expected = [control for control in SHAPE_CONTROLS if (control, energy) != (SAME_SUM, "l1")]
    assert list(beside.edits) == [EDIT, *expected, "random 0"]
    assert list(beside.controls[EDIT].shape) == expected
    assert len({sigma_digest(each) for each in beside.edits.values()}) == len(beside.edits)
    assert all(map(is_reserved, expected))
    # without moments only those that need none
    bare = with_controls(spectra, {EDIT: (edit, rules_of(plan))}, random=0, shape=True)
    assert not {SAME_ENERGY, ONE_SCALE, SHUFFLED_SCALES, SHAPE_ONLY} & set(bare.edits)
    assert {SAME_NORM, HEAD_ONLY, TAIL_ONLY} < set(bare.edits)


def test_modules_whose_inputs_are_unknown_are_counted_and_told(measured):
    spectra, known = measured[0], with_moments(measured[1])
    for sums in (known.inputs.prompt, known.inputs.answer):
        del sums[next(iter(spectra))]
    plan = EditPlan(GradDirection(), "all", "none")
    edits = {EDIT: (plan.apply(spectra, known), rules_of(plan))}
    beside = with_controls(spectra, edits, random=0, measured={EDIT: known})
    assert beside.controls[EDIT].unmatched == 1
    (note,) = control_notes(beside.controls)
    assert note.startswith("1 of the modules of 'edit' stay unedited")


def test_random_controls_of_a_functional_edit_hold_its_functional_energy(measured):
    spectra, known = measured[0], with_moments(measured[1])
    for policy in (GradDirection(), make_policy("natural_gradient")):
        plan = EditPlan(policy, "all", "functional")
        edits = {EDIT: (plan.apply(spectra, known), rules_of(plan))}
        beside = with_controls(spectra, edits, random=2, scale=False, measured={EDIT: known})
        for control in beside.controls[EDIT].random:
            for name, module in beside.edits[control].modules.items():
                q = known.inputs.q(name)
                assert (module.sigma_after**2 * q).sum() == pytest.approx((module.sigma**2 * q).sum(), rel=1e-9)
