"""Controls of an edit: random ones, and those that tell scale from shape, in its scope and under its rules.

How the random ones are drawn depends on the policy. Of `abs_select` they are its gates on components drawn at
random. Of `grad_direction` they are the paper's control (§3.4, 3), `random_index` at its defaults, which the demos'
proofs have; it need not move as far as the edit, and how far it does is told. Of all others they are the edit's own
gains dealt out to other components (`shuffled_gains`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from surgery.edits import Edit, EditPlan, LayerGroups, group_gains
from surgery.evaluation import (
    AGAIN,
    BASE,
    BASELINE,
    HEAD_ONLY,
    ONE_SCALE,
    SAME_ENERGY,
    SAME_NORM,
    SAME_SUM,
    SHAPE_ONLY,
    SHUFFLED_SCALES,
    TAIL_ONLY,
    is_random_control,
    is_shape_control,
    random_name,
)
from surgery.experiments.scale_or_shape import (
    NO_MOMENTS,
    READS_Q,
    SILENT,
    Control,
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
from surgery.experiments.shuffled_gains import shuffled_gains
from surgery.policies import AbsSelect, GradDirection, RandomIndex, knob_values, knobs_of
from surgery.runs import RANDOM_GATES, SHUFFLED_GAINS, ControlGroup
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra, null_components

EDIT = "edit"
_NEAR = 1e-12  # of ‖σ‖₂, below which a scale is rounding
CONTROLS: Mapping[str, Control] = {
    SAME_ENERGY: scalar_e,
    SAME_NORM: scalar_f,
    SAME_SUM: scalar_n,
    ONE_SCALE: one_scale,
    SHUFFLED_SCALES: shuffled_scales,
    SHAPE_ONLY: shape_only,
    HEAD_ONLY: head_only,
    TAIL_ONLY: tail_only,
}


@dataclass(frozen=True)
class ControlRules:
    """What random controls share with their edit: scope, rules, strength, gains of layer groups, and gates where it has some.

    Without `gates` the edit's gains, which have its strength and those of its groups already, are dealt out anew.
    """

    scope: str = "residual"
    energy: str = "l1"
    sigma_min: float = 0.0
    gates: RandomIndex | None = RandomIndex()
    strength: float = 1.0
    groups: LayerGroups = LayerGroups()


def rules_of(plan: EditPlan) -> ControlRules:
    """The rules of the controls of what a plan made."""
    gates: RandomIndex | None = None
    if isinstance(plan.policy, AbsSelect) and not plan.manual:
        shared = {knob.name for knob in knobs_of(RandomIndex)}
        gates = RandomIndex(**{name: value for name, value in knob_values(plan.policy).items() if name in shared})
    elif isinstance(plan.policy, GradDirection):
        gates = RandomIndex()
    return ControlRules(plan.scope, plan.energy, plan.sigma_min, gates, plan.strength, plan.groups)


def control_sets(rules: Iterable[ControlRules]) -> int:
    """How many sets of random controls edits of these rules have: gates are shared, gains are an edit's own."""
    rules = list(rules)
    return len({each for each in rules if each.gates}) + sum(each.gates is None for each in rules)


@dataclass(frozen=True)
class ControlledEdits:
    """Edits and controls in the order of a run's variants, and by the name of each edit which are its own."""

    edits: Mapping[str, Edit]
    controls: Mapping[str, ControlGroup]


def random_controls(
    spectra: Spectra, count: int, *, scope: str = "residual", energy: str = "l1", sigma_min: float = 0.0
) -> dict[str, Edit]:
    """Random controls of no edit: `count` seeded random_index edits, named `random 0`, `random 1` and so on.

    spectra: of all modules, by name.
    count: how many; their seeds count from 0.
    scope: a named scope or a regular expression over module names.
    energy: `l1` holds Σσ of each module, `l2` Σσ², `none` neither.
    sigma_min: least σ′ of an edited component.
    """
    return _drawn(spectra, count, ControlRules(scope, energy, sigma_min), None)


def _drawn(
    spectra: Spectra,
    count: int,
    rules: ControlRules,
    edit: Edit | None,
    of: str = "",
    measured: Sensitivity | None = None,
) -> dict[str, Edit]:
    """Random controls of an edit, `of` which name, or of none."""
    return {random_name(seed, of): _random_control(spectra, rules, edit, seed, measured) for seed in range(count)}


def _random_control(
    spectra: Spectra, rules: ControlRules, edit: Edit | None, seed: int, measured: Sensitivity | None
) -> Edit:
    if edit is not None and rules.gates is None:
        scaled = [name for name, gain in group_gains(rules.groups, spectra, edit.modules).items() if gain != 1]
        return shuffled_gains(
            edit,
            energy=rules.energy,
            sigma_min=rules.sigma_min,
            seed=seed,
            q=input_energies(measured),
            scaled=scaled,
        )
    gates = replace(rules.gates or RandomIndex(), seed=seed)
    plan = EditPlan(
        gates, rules.scope, rules.energy, rules.sigma_min, strength=rules.strength, groups=rules.groups
    )
    drawn = plan.apply(spectra, measured)
    if edit is None:
        return drawn
    alone = _left_alone(spectra, edit, rules)
    return Edit({name: edit.modules[name] if name in alone else module for name, module in drawn.modules.items()})


def _left_alone(spectra: Spectra, edit: Edit, rules: ControlRules) -> frozenset[str]:
    """The modules whose components the policy left as they were, though a layer group may have scaled them as a whole."""
    found = set(edit.skipped)
    for name, gain in group_gains(rules.groups, spectra, edit.modules).items():
        module = edit.modules[name]
        wanted = 1 + rules.strength * (gain - 1)
        live = module.gains[~null_components(module.sigma)]
        if gain != 1 and (abs(live - wanted) <= _NEAR).all():
            found.add(name)
    return frozenset(found)


def is_reserved(name: str) -> bool:
    """Whether a variant of that name would be taken for the unedited adapter, the base, the edit or a control."""
    return name in (BASELINE, BASE, AGAIN, EDIT) or is_shape_control(name) or is_random_control(name)


def shape_controls(
    edit: Edit, spectra: Spectra, measured: Sensitivity | None, *, shape: bool = True, seed: int = 0
) -> dict[str, Edit]:
    """The controls of an edit that tell scale from shape, by their names (see `scale_or_shape`).

    edit: σ′ of its modules.
    spectra: of all modules, by name.
    measured: how much of the inputs each direction carries; without it those that read that are not made.
    shape: whether to make all of them; else the scale control alone, at the same functional energy where that is
        known and at the same Frobenius norm where it is not.
    seed: of the shuffled scales.

    The scale at the same nuclear norm is left out where it would be the unedited adapter, as under rule l1.
    """
    flat = flat_of(edit, spectra, input_energies(measured))
    known = bool(np.isfinite(flat.q).any())
    wanted = tuple(CONTROLS) if shape else (SAME_ENERGY if known else SAME_NORM,)
    made = {
        name: control_of(edit, CONTROLS[name], flat, seed=seed)
        for name in wanted
        if known or CONTROLS[name] not in READS_Q
    }
    if SAME_SUM in made and _distance(made[SAME_SUM]) <= _NEAR * np.linalg.norm(flat.sigma):
        del made[SAME_SUM]
    return made


def with_controls(
    spectra: Spectra,
    edits: Mapping[str, tuple[Edit | None, ControlRules]],
    *,
    random: int = 16,
    scale: bool = True,
    shape: bool = False,
    measured: Mapping[str, Sensitivity | None] = MappingProxyType({}),
) -> ControlledEdits:
    """Edits and the controls of each, in its scope and under its rules.

    spectra: of all modules, by name.
    edits: σ′ and the rules of the controls, by the name of the edit; None for what is no edit of these spectra,
        which gets random controls alone.
    random: random controls of each edit.
    scale: whether to add to each the rescaling to its functional energy, or to its Frobenius norm where no second
        moments of inputs were measured.
    shape: whether to add all controls that tell scale from shape, that one among them.
    measured: what each edit was made from, by its name: its second moments of inputs.

    The controls of one edit are called `random 0` and so on; where several edits need controls of their own, the
    name says whose they are. Edits whose gates and rules are the same share theirs: they would be equal.
    """
    owners = _owners(spectra, edits, measured)
    several = len(set(owners.values())) > 1
    variants: dict[str, Edit] = {}
    drawn: dict[str, dict[str, Edit]] = {}
    controls: dict[str, ControlGroup] = {}
    for name, (edit, rules) in edits.items():
        own: dict[str, Edit] = {}
        known = measured.get(name)
        if edit is not None:
            variants[name] = edit
            own = shape_controls(edit, spectra, known, shape=shape) if scale or shape else {}
        named = {control: f"{control} of {name}" if len(edits) > 1 else control for control in own}
        variants |= {named[control]: each for control, each in own.items()}
        owner = owners[name]
        if owner not in drawn:
            drawn[owner] = _drawn(spectra, random, rules, edit, owner if several else "", known)
            variants |= drawn[owner]
        if random or own:
            group = _group(edit, rules, drawn[owner])
            controls[name] = replace(group, shape=named, scaled=_scaled(named), unmatched=_unmatched(own))
    return ControlledEdits(variants, controls)


def _scaled(named: Mapping[str, str]) -> str:
    """The name of the scale control: at the same functional energy, or at the same Frobenius norm without one."""
    return named.get(SAME_ENERGY) or named.get(SAME_NORM, "")


def _unmatched(own: Mapping[str, Edit]) -> int:
    """Modules that the edit changes and its scale control leaves unedited, because no energy could be matched."""
    if SAME_ENERGY not in own:
        return 0
    return sum(reason in (NO_MOMENTS, SILENT) for reason in own[SAME_ENERGY].skipped.values())


def _owners(
    spectra: Spectra,
    edits: Mapping[str, tuple[Edit | None, ControlRules]],
    measured: Mapping[str, Sensitivity | None],
) -> dict[str, str]:
    """For each edit the first one that has the same controls, itself where none does."""
    first: dict[object, str] = {}
    owners = {}
    for name, (edit, rules) in edits.items():
        left_alone = None if edit is None else _left_alone(spectra, edit, rules)
        known = measured.get(name) if rules.energy == "functional" else None
        moments = known.provenance.key if known is not None else ""
        owners[name] = first.setdefault((rules, left_alone, moments) if rules.gates else name, name)
    return owners


def _group(edit: Edit | None, rules: ControlRules, drawn: Mapping[str, Edit]) -> ControlGroup:
    moved = 0.0 if edit is None else _distance(edit)
    return ControlGroup(
        random=tuple(drawn),
        scope=rules.scope,
        energy=rules.energy,
        sigma_min=rules.sigma_min,
        kind=RANDOM_GATES if rules.gates or edit is None else SHUFFLED_GAINS,
        moved=float(np.mean([_distance(each) / moved for each in drawn.values()])) if moved and drawn else None,
    )


def _distance(edit: Edit) -> float:
    """‖σ′ − σ‖₂ over all modules."""
    return float(np.sqrt(sum(np.sum((m.sigma_after - m.sigma) ** 2) for m in edit.modules.values())))
