"""Redo a recipe from its file alone: calibrate, edit, evaluate, export."""

from dataclasses import dataclass, replace
from pathlib import Path

from surgery.adapter import Adapter, in_scope, open_adapter
from surgery.data import EvaluationPlan, Slices, fetch_source, read_slices, rows_digest
from surgery.edits import Edit
from surgery.errors import RecipeError
from surgery.evaluation import Evaluation
from surgery.experiments.control_edits import EDIT, rules_of, with_controls
from surgery.experiments.proof import Proof, prove
from surgery.export import Verification, export_recipe, new_folder
from surgery.model import attach
from surgery.progress import SILENT, Control
from surgery.recipes import Recipe
from surgery.sensitivity import Sensitivity, calibrate
from surgery.spectra import Spectra, decompose


@dataclass(frozen=True)
class RunReport:
    """Results of a recipe: the edit, its evaluation where it has one, the folder, and what is to be told of the edit."""

    edit: Edit
    sensitivity: Sensitivity
    evaluation: Evaluation | None
    verification: Verification
    notes: tuple[str, ...] = ()


def run_recipe(recipe: Recipe, out: Path | str, *, control: Control = SILENT) -> RunReport:
    """Redo a recipe: calibrate, edit, evaluate, export to `out`.

    Raises `RecipeError` when the adapter or the rows at hand are not those that the recipe was made for.
    """
    new_folder(out)
    adapter = _adapter_of(recipe, control)
    recipe = replace(recipe, adapter=adapter.source, adapter_digest=adapter.digest)
    spectra = decompose(adapter)
    in_scope(spectra, recipe.edit.scope)
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
        recipe = replace(recipe, calibration_digest=sensitivity.rows)
        edit = recipe.edit.apply(spectra, sensitivity)
        evaluation = None
        if recipe.evaluation is not None:
            control.begin("evaluating")
            proof = _proof(recipe, recipe.evaluation, spectra, edit, sensitivity)
            evaluation = prove(live, proof, slices=slices, control=control).evaluation
    verification = export_recipe(adapter, spectra, edit, recipe, out, sensitivity)
    return RunReport(edit, sensitivity, evaluation, verification, recipe.edit.notes(spectra))


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
    if recipe.calibration_digest not in ("", rows_digest(slices.seen[recipe.calibration].rows)):
        raise RecipeError(
            f"the rows of {recipe.calibration.data!r} are not those that the recipe was made with",
            "restore the file, or clear calibration.digest in the recipe to use it by name",
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
    )
