"""Pin what a recipe takes from the hub to the commit that was in use: a name alone may stand for other files later."""

from dataclasses import replace
from typing import TypeVar

from surgery.adapter import pinned_source
from surgery.data import CalibrationPlan, EvaluationPlan, TaskPlan, is_hub, parse_hub
from surgery.errors import DataError
from surgery.hub import Repository, commit_in_cache
from surgery.model import pinned_base
from surgery.recipes.recipe import Recipe

_Plan = TypeVar("_Plan", CalibrationPlan, EvaluationPlan)


def pinned(recipe: Recipe) -> Recipe:
    """The recipe with commits for the revisions of its adapter, its base and its data that are on the hub.

    They are those of the hub client's cache, which the files were read from; what was never fetched
    here stays as it is.
    """
    evaluation, tuning = recipe.evaluation, recipe.tuning
    return replace(
        recipe,
        adapter=pinned_source(recipe.adapter),
        base=pinned_base(recipe.base),
        calibration=pinned_rows(recipe.calibration),
        evaluation=None if evaluation is None else pinned_rows(evaluation),
        tuning=None if tuning is None else pinned_rows(tuning),
        protected=tuple(map(pinned_rows, recipe.protected)),
        chosen=tuple(each if isinstance(each, TaskPlan) else pinned_rows(each) for each in recipe.chosen),
        guards=tuple(
            pinned_rows(guard) if isinstance(guard, EvaluationPlan) else guard for guard in recipe.guards
        ),
    )


def pinned_rows(plan: _Plan) -> _Plan:
    """A plan of rows with the commit that their dataset's revision stood for when it was fetched last; others stay."""
    if not is_hub(plan.data):
        return plan
    try:
        source = parse_hub(plan.data)
    except DataError:
        return plan
    commit = None if source.is_folder else commit_in_cache(Repository(source.name, source.revision, "dataset"))
    return replace(plan, data=str(replace(source, revision=commit))) if commit else plan
