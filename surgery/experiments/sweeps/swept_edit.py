"""An edit of a sweep: a point of a grid, or a recipe that is redone on every adapter from its own sensitivities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from surgery.adapter import Factors, in_scope
from surgery.data import CalibrationPlan, EvaluationPlan, TaskPlan
from surgery.edits import EditPlan
from surgery.errors import SweepError
from surgery.files import refuse_unknown
from surgery.model import BaseChoice
from surgery.recipes import in_one_step, read_recipe


@dataclass(frozen=True)
class SweptEdit:
    """One edit of a sweep, from the first `budget` rows of the shuffle that `seed` gives.

    Of a recipe: `label` is its name, `calibration` its slice, `chosen` the slices and `chosen_tasks` the tasks of lm-eval
    that it was chosen on, `base` its base and `held_out` the rows that it is proven on.
    """

    plan: EditPlan
    budget: int
    seed: int
    label: str = ""
    calibration: CalibrationPlan | None = None
    chosen: tuple[CalibrationPlan, ...] = ()
    chosen_tasks: tuple[TaskPlan, ...] = ()
    base: BaseChoice | None = None
    held_out: EvaluationPlan | None = None


def recipe_edit(entry: Mapping[str, Any], where: str, examples: int | None) -> SweptEdit:
    """The edit of a recipe file, `recipe: FILE`; raises `SweepError` or `RecipeError` for one that no sweep can redo."""
    refuse_unknown(entry, {"recipe"}, where, SweepError)
    file = entry["recipe"]
    if not isinstance(file, str) or not file:
        raise SweepError(f"{where}.recipe cannot be {file!r}", "name a recipe.yaml")
    recipe = in_one_step(read_recipe(file))
    if recipe.edit.needs_protected:
        raise SweepError(
            f"the recipe {file!r} spares protected slices, which a sweep does not measure",
            "use a recipe without protect and with a policy that spares none",
        )
    budget = min(recipe.calibration.examples, examples or recipe.calibration.examples)
    chosen = tuple(plan for plan in recipe.seen if plan != recipe.calibration)
    return SweptEdit(
        recipe.edit,
        budget,
        recipe.calibration.seed,
        recipe_name(file),
        recipe.calibration,
        chosen,
        recipe.seen_tasks,
        recipe.base,
        recipe.evaluation,
    )


def recipe_name(file: str) -> str:
    """What a recipe is called in a sweep: its file's name without its ending, or its folder's for a recipe.yaml."""
    path = Path(file)
    stem = path.name.removesuffix(path.suffix).removesuffix(".recipe")
    return printable(path.absolute().parent.name or stem if stem == "recipe" else stem)


def printable(name: str) -> str:
    """A file's name for a table: what cannot be printed, such as a line break, as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def refuse_unfit(edits: Sequence[SweptEdit], modules: Mapping[str, Factors]) -> None:
    """Refuse edits that cannot act on an adapter with these modules; raises `PolicyError` or `SweepError`.

    Gains by hand are told by module and component: they need that module with that many components.
    """
    for scope in dict.fromkeys(edit.plan.scope for edit in edits):
        in_scope(modules, scope)
    for edit in edits:
        inside = set(in_scope(modules, edit.plan.scope)) if edit.plan.manual else set()
        for name, gains in edit.plan.manual.items():
            least = max(gains, default=-1) + 1
            if gains and (name not in inside or modules[name].rank < least):
                has = (
                    "has no such module in scope" if name not in inside else f"has rank {modules[name].rank} there"
                )
                raise SweepError(
                    f"{edit.label or 'an edit'} sets the gain of component {least - 1} of {name!r} by hand, and this "
                    f"adapter {has}",
                    "release the gains that were set by hand, or leave this adapter out",
                )


def pass_of(edit: SweptEdit, calibration: CalibrationPlan | None) -> CalibrationPlan:
    """The pass that an edit reads, of one example: over the adapter's own slice where it has one, else the recipe's."""
    own = calibration or edit.calibration
    if own is None:
        raise SweepError("an edit has no rows to be measured on", "name calibration data in the sweep")
    return replace(own, seed=edit.seed, examples=1)
