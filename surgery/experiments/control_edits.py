"""Controls of an edit: random ones and plain scaling, in its scope, under its rules, as large as it is.

How the random ones are drawn depends on the policy. Of `abs_select` they are its gates on components drawn at
random. Of `grad_direction` they are the paper's control (§3.4, 3), `random_index` at its defaults, which the demos'
proofs have; it need not move as far as the edit, and how far it does is told. Of all others they are the edit's own
gains dealt out to other components (`shuffled_gains`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from surgery.edits import Edit, EditPlan
from surgery.evaluation import AGAIN, BASELINE, is_random_control, random_name
from surgery.experiments.shuffled_gains import shuffled_gains
from surgery.policies import AbsSelect, GradDirection, RandomIndex, knob_values, knobs_of
from surgery.runs import RANDOM_GATES, SHUFFLED_GAINS, ControlGroup
from surgery.spectra import Spectra

EDIT = "edit"
SAME_NORM = "scale, same norm"


@dataclass(frozen=True)
class ControlRules:
    """What random controls share with their edit: scope, energy rule, clamp, strength, and the gates where it has some.

    Without `gates` the edit's gains, which have its strength already, are dealt out anew.
    """

    scope: str = "residual"
    energy: str = "l1"
    sigma_min: float = 0.0
    gates: RandomIndex | None = RandomIndex()
    strength: float = 1.0


def rules_of(plan: EditPlan) -> ControlRules:
    """The rules of the controls of what a plan made."""
    gates: RandomIndex | None = None
    if isinstance(plan.policy, AbsSelect) and not plan.manual:
        shared = {knob.name for knob in knobs_of(RandomIndex)}
        gates = RandomIndex(**{name: value for name, value in knob_values(plan.policy).items() if name in shared})
    elif isinstance(plan.policy, GradDirection):
        gates = RandomIndex()
    return ControlRules(plan.scope, plan.energy, plan.sigma_min, gates, plan.strength)


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


def _drawn(spectra: Spectra, count: int, rules: ControlRules, edit: Edit | None, of: str = "") -> dict[str, Edit]:
    """Random controls of an edit, `of` which name, or of none."""
    return {random_name(seed, of): _random_control(spectra, rules, edit, seed) for seed in range(count)}


def _random_control(spectra: Spectra, rules: ControlRules, edit: Edit | None, seed: int) -> Edit:
    if edit is not None and rules.gates is None:
        return shuffled_gains(edit, energy=rules.energy, sigma_min=rules.sigma_min, seed=seed)
    gates = replace(rules.gates or RandomIndex(), seed=seed)
    plan = EditPlan(gates, rules.scope, rules.energy, rules.sigma_min, strength=rules.strength)
    drawn = plan.apply(spectra, None)
    alone = {} if edit is None else {name: edit.modules[name] for name in edit.skipped}
    return Edit({name: alone.get(name, module) for name, module in drawn.modules.items()})


def is_reserved(name: str) -> bool:
    """Whether a variant of that name would be taken for the unedited adapter, the edit of a proof or a control."""
    return name in (BASELINE, AGAIN, EDIT) or name.startswith(SAME_NORM) or is_random_control(name)


def scale_control(edit: Edit) -> Edit:
    """Every module of `edit` rescaled as a whole to the norm ‖σ′‖₂ that the edit gives it, its shape unchanged.

    It tells reweighting from an update that merely became larger or smaller. Modules that the edit leaves
    alone stay so.
    """
    modules = {}
    for name, module in edit.modules.items():
        before, after = np.linalg.norm(module.sigma), np.linalg.norm(module.sigma_after)
        gain = float(after / before) if before else 1.0
        modules[name] = replace(module, gains=np.full_like(module.sigma, gain), sigma_after=gain * module.sigma)
    return Edit(modules)


def with_controls(
    spectra: Spectra,
    edits: Mapping[str, tuple[Edit | None, ControlRules]],
    *,
    random: int = 16,
    scale: bool = True,
) -> ControlledEdits:
    """Edits and the controls of each, in its scope and under its rules.

    spectra: of all modules, by name.
    edits: σ′ and the rules of the controls, by the name of the edit; None for what is no edit of these spectra,
        which gets random controls alone.
    random: random controls of each edit.
    scale: whether to add to each the rescaling to its Frobenius norm.

    The controls of one edit are called `random 0` and so on; where several edits need controls of their own, the
    name says whose they are. Edits whose gates and rules are the same share theirs: they would be equal.
    """
    owners = _owners(edits)
    several = len(set(owners.values())) > 1
    variants: dict[str, Edit] = {}
    drawn: dict[str, dict[str, Edit]] = {}
    controls: dict[str, ControlGroup] = {}
    for name, (edit, rules) in edits.items():
        scaled = ""
        if edit is not None:
            variants[name] = edit
            scaled = (f"{SAME_NORM} of {name}" if len(edits) > 1 else SAME_NORM) if scale else ""
            variants |= {scaled: scale_control(edit)} if scaled else {}
        owner = owners[name]
        if owner not in drawn:
            drawn[owner] = _drawn(spectra, random, rules, edit, owner if several else "")
            variants |= drawn[owner]
        if random or scaled:
            controls[name] = _group(edit, rules, drawn[owner], scaled)
    return ControlledEdits(variants, controls)


def _owners(edits: Mapping[str, tuple[Edit | None, ControlRules]]) -> dict[str, str]:
    """For each edit the first one that has the same controls, itself where none does."""
    first: dict[object, str] = {}
    owners = {}
    for name, (edit, rules) in edits.items():
        left_alone = None if edit is None else frozenset(edit.skipped)
        owners[name] = first.setdefault((rules, left_alone) if rules.gates else name, name)
    return owners


def _group(edit: Edit | None, rules: ControlRules, drawn: Mapping[str, Edit], scaled: str) -> ControlGroup:
    moved = 0.0 if edit is None else _distance(edit)
    return ControlGroup(
        random=tuple(drawn),
        scope=rules.scope,
        energy=rules.energy,
        sigma_min=rules.sigma_min,
        kind=RANDOM_GATES if rules.gates or edit is None else SHUFFLED_GAINS,
        moved=float(np.mean([_distance(each) / moved for each in drawn.values()])) if moved and drawn else None,
        scaled=scaled,
    )


def _distance(edit: Edit) -> float:
    """‖σ′ − σ‖₂ over all modules."""
    return float(np.sqrt(sum(np.sum((m.sigma_after - m.sigma) ** 2) for m in edit.modules.values())))
