"""Redo a recipe from its file alone: calibrate, edit, evaluate, export."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from surgery.adapter import Adapter, open_adapter
from surgery.card import model_card
from surgery.edit import Edit
from surgery.errors import RecipeError
from surgery.evaluation import Evaluation
from surgery.export import CARD_FILE, RECIPE_FILE, Verification, export, new_folder
from surgery.measure import attach, calibrate, calibration_rows, refuse_changed_rows, rows_digest
from surgery.pinning import pinned
from surgery.proof import EDIT, held_out_rows, prove, with_controls
from surgery.recipe import Recipe, dump_recipe
from surgery.scope import in_scope
from surgery.sensitivity import Sensitivity
from surgery.spectrum import Spectra, decompose


@dataclass(frozen=True)
class RunReport:
    """What a recipe gave: the edit, its evaluation where one was asked for, and the folder."""

    edit: Edit
    sensitivity: Sensitivity
    evaluation: Evaluation | None
    verification: Verification


def export_recipe(adapter: Adapter, spectra: Spectra, edit: Edit, recipe: Recipe, out: Path | str) -> Verification:
    """Export with the recipe and a model card beside the weights; byte for byte reproducible.

    Raises `DataError` where the rows that were measured are no longer what the recipe's source gives.
    """
    if recipe.calibration_digest:
        refuse_changed_rows(recipe.calibration, recipe.calibration_digest)
    documents = {RECIPE_FILE: dump_recipe(pinned(recipe)), CARD_FILE: model_card(adapter, recipe, edit)}
    return export(adapter, spectra, edit, out, documents=documents)


def run_recipe(recipe: Recipe, out: Path | str, *, report: Callable[[str, int, int], None]) -> RunReport:
    """Redo a recipe: calibrate, edit, evaluate, export to `out`. `report(step, done, total)`.

    Raises `RecipeError` when the adapter or the rows at hand are not those that the recipe was made for.
    """
    new_folder(out)  # refused now, before minutes are spent
    adapter = open_adapter(recipe.adapter)
    if recipe.adapter_digest and recipe.adapter_digest != adapter.digest:
        raise RecipeError(
            f"the recipe was made for another version of {recipe.adapter!r}",
            "clear adapter.digest in the recipe to use it by name",
        )
    recipe = replace(recipe, adapter_digest=adapter.digest)
    spectra = decompose(adapter)
    in_scope(spectra, recipe.edit.scope)
    if recipe.calibration_digest not in ("", rows_digest(calibration_rows(recipe.calibration))):
        raise RecipeError(
            f"the rows of {recipe.calibration.data!r} are not those that the recipe was made with",
            "restore the file, or clear calibration.digest in the recipe to use it by name",
        )
    if recipe.evaluation is not None:
        held_out_rows(recipe.evaluation, recipe.seen)
    report("loading the base model", 0, 1)
    with attach(adapter, spectra, recipe.base) as live:
        sensitivity = calibrate(
            live, recipe.calibration, base=recipe.base, progress=lambda d, t: report("calibrating", d, t)
        )
        recipe = replace(recipe, calibration_digest=sensitivity.rows)
        edit = recipe.edit.apply(spectra, sensitivity)
        evaluation = None
        if recipe.evaluation is not None:
            variants = with_controls(
                spectra, recipe.edit, edit, random=recipe.evaluation.random, scale=recipe.evaluation.scale
            )
            evaluation = prove(
                live,
                recipe.evaluation,
                recipe.seen,
                variants,
                base=recipe.base,
                plans={EDIT: recipe.edit},
                recipe=recipe,
                again=recipe.evaluation.again,
                progress=lambda d, t: report("evaluating", d, t),
            ).evaluation
    verification = export_recipe(adapter, spectra, edit, recipe, out)
    return RunReport(edit, sensitivity, evaluation, verification)
