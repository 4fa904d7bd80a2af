"""Redo a recipe from its file alone: calibrate, edit, evaluate, export."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.adapter import Adapter, in_scope, open_adapter
from surgery.data import EvaluationPlan, Slices, fetch_source, read_slices, rows_digest
from surgery.edits import Edit
from surgery.errors import RecipeError
from surgery.evaluation import Evaluation
from surgery.experiments.control_edits import EDIT, rules_of, with_controls
from surgery.experiments.proof import Proof, prove
from surgery.experiments.steps import check_steps, origin, scope_of, take_steps
from surgery.experiments.tuning import TuningSetup
from surgery.export import Smaller, Verification, export_recipe, new_folder
from surgery.model import Variant, attach, is_offloaded
from surgery.progress import SILENT, Control
from surgery.recipes import Recipe
from surgery.sensitivity import Sensitivity, calibrate, calibration_slice, measure_sensitivity
from surgery.spectra import Spectra, decompose

if TYPE_CHECKING:
    from surgery.model import LiveModel


@dataclass(frozen=True)
class RunReport:
    """Results of a recipe: the edit, its evaluation where it has one, the folder, and what is to be told of the edit."""

    edit: Edit
    sensitivity: Sensitivity
    evaluation: Evaluation | None
    verification: Verification
    notes: tuple[str, ...] = ()


def run_recipe(
    recipe: Recipe, out: Path | str, *, form: Smaller | None = None, control: Control = SILENT
) -> RunReport:
    """Redo a recipe: calibrate, edit, evaluate, export to `out`, in the original's form or a smaller one.

    Of an edit in several steps, the recipe that is exported holds where they led, as gains set by hand.
    Raises `RecipeError` when the adapter or the rows at hand are not those that the recipe was made for.
    """
    new_folder(out)
    adapter = _adapter_of(recipe, control)
    recipe = replace(recipe, adapter=adapter.source, adapter_digest=adapter.digest)
    spectra = decompose(adapter)
    for step in recipe.edits:
        in_scope(spectra, step.scope)
    check_steps(recipe.edits)
    if recipe.edit.needs_protected and not recipe.protected:
        raise RecipeError(
            "the edit is to spare protected slices, and the recipe names none",
            "add a section protected: a list of slices, each as calibration is",
        )
    for plan in recipe.seen:
        fetch_source(plan.data, control)
    if recipe.evaluation is not None:
        fetch_source(recipe.evaluation.data, control)
    slices = _slices_of(recipe)
    # nothing is left to refuse, and minutes are spent from here on
    control.begin("loading the base model")
    control.progress(0, 1)
    with attach(adapter, spectra, recipe.base, control=control) as live:
        control.begin("calibrating")
        sensitivity = calibrate(
            live, recipe.calibration, base=recipe.base, slice_=slices.seen[recipe.calibration], control=control
        )
        protected = []
        for plan in recipe.protected:
            control.begin(f"calibrating what is protected: {plan.data}")
            protected.append(calibrate(live, plan, base=recipe.base, slice_=slices.seen[plan], control=control))
        sensitivity = replace(sensitivity, protected=tuple(protected))
        recipe = replace(
            recipe,
            calibration_digest=sensitivity.rows,
            protected_digests=tuple(beside.rows for beside in protected),
        )
        notes = recipe.edit.notes(spectra)
        if len(recipe.edits) > 1:
            control.begin("taking steps")
            recipe, told = _stepped(live, recipe, sensitivity, slices, control)
            notes = (*notes, *told)
        edit = recipe.edit.apply(spectra, sensitivity)
        evaluation = None
        if recipe.evaluation is not None:
            control.begin("evaluating")
            proof = _proof(recipe, recipe.evaluation, spectra, edit, sensitivity)
            evaluation = prove(live, proof, slices=slices, control=control).evaluation
    verification = export_recipe(adapter, spectra, edit, recipe, out, sensitivity, form)
    return RunReport(edit, sensitivity, evaluation, verification, notes)


def _stepped(
    live: "LiveModel", recipe: Recipe, sensitivity: Sensitivity, slices: Slices, control: Control
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe of where the steps of a recipe lead, and what each of them did on the tuning rows."""
    planned, tuning = recipe.calibration, recipe.tuning
    if tuning is None:
        raise RecipeError("several steps need tuning rows, which decide when to stop", "name a tuning slice")
    calibration = calibration_slice(live, planned, slices.seen[planned])
    names = in_scope(live.spectra, scope_of(recipe.edits, live.spectra))

    def measure(sigma: Variant) -> Sensitivity:
        checkpointing = planned.checkpointing or is_offloaded(live.model)
        return measure_sensitivity(
            live, calibration, names, batch_size=planned.batch_size, checkpointing=checkpointing, sigma=sigma
        )

    setup = TuningSetup(live, calibration_slice(live, tuning, slices.seen[tuning]), sensitivity)
    steps = take_steps(setup, recipe.edits, measure, control=control)
    told = origin(recipe.edits, steps)
    return replace(recipe, edit=steps.end.plan, steps=1, then=(), origin=told), (told, *steps.notes)


def _adapter_of(recipe: Recipe, control: Control) -> Adapter:
    adapter = open_adapter(recipe.adapter, control=control)
    if recipe.adapter_digest and recipe.adapter_digest != adapter.digest:
        raise RecipeError(
            f"the recipe was made for another version of {recipe.adapter!r}",
            "clear adapter.digest in the recipe to use it by name",
        )
    return adapter


def _slices_of(recipe: Recipe) -> Slices:
    slices = read_slices(recipe.seen, recipe.evaluation)
    named = zip(recipe.protected, recipe.protected_digests, strict=False)
    for plan, rows in ((recipe.calibration, recipe.calibration_digest), *named):
        if rows not in ("", rows_digest(slices.seen[plan].rows)):
            raise RecipeError(
                f"the rows of {plan.data!r} are not those that the recipe was made with",
                "restore the file, or clear its digest in the recipe to use it by name",
            )
    return slices


def _proof(recipe: Recipe, plan: EvaluationPlan, spectra: Spectra, edit: Edit, sensitivity: Sensitivity) -> Proof:
    edits = {EDIT: (edit, rules_of(recipe.edit))}
    controlled = with_controls(
        spectra,
        edits,
        random=plan.random,
        scale=plan.scale,
        shape=plan.scale_or_shape,
        measured={EDIT: sensitivity},
    )
    return Proof(
        plan,
        controlled.edits,
        recipe.seen,
        plans={EDIT: recipe.edit},
        recipe=recipe,
        again=plan.again,
        base=recipe.base,
        controls=controlled.controls,
        base_arm=plan.base_arm,
    )
