"""An edit in several steps: measured again at the σ′ that a step reached, and stepped again from there.

Sensitivities are a tangent: they tell the truth at the σ where they were measured. The rows that sensitivities come
from do not say when to stop, because every step lowers their loss a little further; the tuning slice does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.adapter import in_scope, scope_for
from surgery.edits import Edit, EditPlan
from surgery.errors import PolicyError
from surgery.evaluation import Effect, paired_effect
from surgery.experiments.tuning import TuningSetup
from surgery.model import Variant, VariantEngine
from surgery.policies import Identity, knob_values
from surgery.progress import SILENT, Control
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra, Spectrum

MOST_STEPS = 16
# measures the calibration slice at σ′ by module
Measure = Callable[[Variant], Sensitivity]


@dataclass(frozen=True)
class Step:
    """Where a step ends: the edit that leads there from the adapter's own σ, and what that does on the tuning rows.

    `plan` makes the edit, bit for bit: gains by hand under energy rule none. `change` is of the mean loss since the
    step before, `total` since the unedited adapter, both paired by row, in nats per answer token.
    """

    plan: EditPlan
    edit: Edit
    change: Effect
    total: Effect


@dataclass(frozen=True)
class Steps:
    """The steps that were taken, and the one that the tuning rows refused, where one was."""

    taken: tuple[Step, ...]
    start: Step
    refused: Step | None = None

    @property
    def end(self) -> Step:
        """Where the steps lead: the adapter's own σ where none was taken."""
        return self.taken[-1] if self.taken else self.start

    @property
    def notes(self) -> tuple[str, ...]:
        """What every step did on the tuning rows, a sentence each."""
        told = [f"step {number} {_told(step)}" for number, step in enumerate(self.taken, 1)]
        if self.refused is not None:
            told.append(f"step {len(self.taken) + 1} {_told(self.refused)}: it was not taken")
        return tuple(told)


def take_steps(
    setup: TuningSetup, plans: Sequence[EditPlan], measure: Measure, *, control: Control = SILENT
) -> Steps:
    """Up to as many steps as there are plans, each from sensitivities measured where the one before ended.

    setup: the live model, the tuning slice that decides when to stop, and the sensitivities at the adapter's own σ.
    plans: of the steps in their order, from 1 to `MOST_STEPS`, strength and energy rule included; the rule holds a
        step's own start. The same one several times repeats it.
    measure: gives the sensitivities of the calibration slice at σ′ by module.
    control: hears of tuning rows, over all steps.

    The steps end before the first one after which the mean loss of the tuning rows is not lower than before it.
    Raises `PolicyError` for a plan that has no second step, and `Cancelled`.
    """
    check_steps(plans)
    rows, spectra, sensitivity = len(setup.slice_.examples), setup.live.spectra, setup.sensitivity
    total = rows * (1 + len(plans))
    scope = scope_of(plans, spectra)
    control.progress(0, total)
    unedited = tuning_losses(setup, None, control.part(0, total))
    start = _step(spectra, scope, {}, (unedited, unedited, unedited))
    taken: list[Step] = []
    before, at = unedited, start
    for number, plan in enumerate(plans, 1):
        if number > 1:
            sensitivity = measure(at.edit.sigma_after)
        after = {**at.edit.sigma_after, **plan.apply(moved_to(spectra, at.edit), sensitivity).sigma_after}
        edit = by_hand(spectra, after, scope).apply(spectra, None)
        losses = tuning_losses(setup, edit.sigma_after, control.part(number * rows, total))
        at = _step(spectra, scope, after, (unedited, before, losses))
        if not at.change.mean < 0:
            return Steps(tuple(taken), start, at)
        taken.append(at)
        before = losses
    return Steps(tuple(taken), start)


def scope_of(plans: Sequence[EditPlan], spectra: Spectra) -> str:
    """The scope of all modules that any step edits; raises `PolicyError` for one without modules."""
    scopes = list(dict.fromkeys(plan.scope for plan in plans))
    if len(scopes) == 1:
        return scopes[0]
    return scope_for(spectra, {name for scope in scopes for name in in_scope(spectra, scope)})


def check_steps(plans: Sequence[EditPlan]) -> None:
    """Raises `PolicyError` for a number of steps out of range, and for a plan that cannot be a step among others."""
    if not 1 <= len(plans) <= MOST_STEPS:
        raise PolicyError(f"{len(plans)} steps were asked for", f"use 1 to {MOST_STEPS}")
    for plan in plans if len(plans) > 1 else ():
        _check_step(plan)


def _check_step(plan: EditPlan) -> None:
    if not plan.policy.needs_gradient:
        raise PolicyError(
            f"policy {plan.policy.name} reads no sensitivities, so measuring again changes nothing",
            "take 1 step, or choose a policy that reads them",
        )
    if plan.needs_protected:
        raise PolicyError(
            "what protected slices say is measured at the adapter's own σ alone",
            "take 1 step, or an edit without protected slices",
        )
    if not plan.groups.plain:
        raise PolicyError(
            "gains of layer groups would be applied again at every step",
            "take 1 step, or leave the gains of layer groups at 1",
        )
    if any(plan.manual.values()):
        raise PolicyError(
            "gains set by hand are relative to the adapter's own σ, and would be applied again at every step",
            "take 1 step, or remove the gains set by hand",
        )


def moved_to(spectra: Spectra, edit: Edit) -> Spectra:
    """The spectra with the σ′ of an edit for σ: where the next step starts."""
    moved = dict(spectra)
    for name, module in edit.modules.items():
        one = spectra[name]
        sigma = module.sigma_after
        moved[name] = Spectrum(one.name, one.layer, one.family, one.U, sigma, one.V, one.precision)
    return moved


def by_hand(spectra: Spectra, after: Mapping[str, Float64[ndarray, " rank"]], scope: str) -> EditPlan:
    """The plan that leads from the adapter's own σ to σ′, without sensitivities: every changed gain set by hand.

    Its edit has σ′ up to one rounding of float64, and is the same whenever the plan is applied.
    """
    manual = {}
    for name, sigma_after in after.items():
        sigma = spectra[name].sigma
        changed = np.flatnonzero((sigma_after != sigma) & (sigma > 0))
        if changed.size:
            manual[name] = {int(k): float(sigma_after[k] / sigma[k]) for k in changed}
    return EditPlan(Identity(), scope, "none", manual=manual)


def origin(plans: Sequence[EditPlan], steps: Steps) -> str:
    """How an edit by hand came about, for its recipe and card: the same step several times, or one after the other."""
    taken = f"{len(steps.taken)} of {len(plans)} steps"
    if all(plan == plans[0] for plan in plans):
        return f"{taken} of {_described(plans[0])}"
    scopes = {plan.scope for plan in plans}
    return f"{taken}: " + ", then ".join(
        _described(plan) + (f" in {plan.scope}" if len(scopes) > 1 else "") for plan in plans
    )


def _described(plan: EditPlan) -> str:
    knobs = ", ".join(f"{name} {value:g}" for name, value in knob_values(plan.policy).items())
    rules = f"energy {plan.energy}, sigma_min {plan.sigma_min:g}, strength {plan.strength:g}"
    return f"{plan.policy.name} ({knobs or 'no knobs'}; {rules})"


def _step(
    spectra: Spectra,
    scope: str,
    after: Mapping[str, Float64[ndarray, " rank"]],
    losses: tuple[Float64[ndarray, " example"], ...],
) -> Step:
    """The step that ends at σ′; losses are those of the unedited adapter, before the step and after it."""
    unedited, before, now = losses
    plan = by_hand(spectra, after, scope)
    return Step(plan, plan.apply(spectra, None), paired_effect(before, now), paired_effect(unedited, now))


def tuning_losses(setup: TuningSetup, sigma: Variant | None, control: Control) -> Float64[ndarray, " example"]:
    """Loss of every tuning row at σ′ by module, in nats per answer token."""
    engine = VariantEngine(setup.live, {"step": sigma}, rows=setup.batch_size)
    return engine.answer_losses(setup.slice_.examples, control=control)["step"]


def _told(step: Step) -> str:
    change, total = step.change, step.total
    certain = "" if change.certain else ", within noise"
    return (
        f"changes the tuning loss by {change.mean:+.4f} ± {change.standard_error:.4f}{certain} "
        f"({total.mean:+.4f} ± {total.standard_error:.4f} in all)"
    )
