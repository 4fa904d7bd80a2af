"""Controls of an edit: random gates and plain scaling, in its scope and under its rules."""

from dataclasses import replace

import numpy as np

from surgery.edits import Edit, EditPlan, make_edit
from surgery.evaluation import random_name
from surgery.policies import AbsSelect, Policy, RandomIndex, knob_values, knobs_of
from surgery.spectra import Spectra

EDIT = "edit"
SAME_NORM = "scale, same norm"


def random_controls(
    spectra: Spectra,
    count: int,
    *,
    like: Policy | None = None,
    scope: str = "residual",
    energy: str = "l1",
    sigma_min: float = 0.0,
) -> dict[str, Edit]:
    """Random controls: `count` seeded random_index edits, named `random 0`, `random 1` and so on.

    spectra: of all modules, by name.
    count: how many; their seeds count from 0.
    like: a policy; of an abs_select the controls take its gates, so that they move as much as it does.
    scope: a named scope or a regular expression over module names.
    energy: `l1` holds Σσ of each module, `l2` Σσ², `none` neither.
    sigma_min: least σ′ of an edited component.
    """
    gates = RandomIndex()
    if isinstance(like, AbsSelect):
        shared = {knob.name for knob in knobs_of(RandomIndex)}
        gates = RandomIndex(**{name: value for name, value in knob_values(like).items() if name in shared})
    return {
        random_name(seed): make_edit(
            spectra, replace(gates, seed=seed), scope=scope, energy=energy, sigma_min=sigma_min
        )
        for seed in range(count)
    }


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
    spectra: Spectra, plan: EditPlan, edit: Edit, *, random: int = 16, scale: bool = True
) -> dict[str, Edit]:
    """The edit under `EDIT` and its controls, in its scope and under its rules.

    spectra: of all modules, by name.
    plan: what the edit was made by.
    edit: σ′ of its modules.
    random: random_index controls to add.
    scale: whether to add the rescaling to the edit's Frobenius norm.
    """
    variants = {EDIT: edit}
    if scale:
        variants[SAME_NORM] = scale_control(edit)
    return variants | random_controls(
        spectra, random, like=plan.policy, scope=plan.scope, energy=plan.energy, sigma_min=plan.sigma_min
    )
