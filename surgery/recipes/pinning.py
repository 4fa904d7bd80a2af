"""Pin what a recipe takes from the hub to the commit that was in use: a name alone may stand for other files later."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from surgery.data import CalibrationPlan, EvaluationPlan, is_hub, parse_hub
from surgery.errors import DataError
from surgery.model import BaseChoice, is_hub_id
from surgery.recipes.recipe import Recipe

_Plan = TypeVar("_Plan", CalibrationPlan, EvaluationPlan)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def pinned(recipe: Recipe) -> Recipe:
    """The recipe with commits for the revisions of its base and its hub data.

    They are those of the hub client's cache, which the files were read from; what was never fetched
    here stays as it is.
    """
    evaluation, tuning = recipe.evaluation, recipe.tuning
    return replace(
        recipe,
        base=_base(recipe.base),
        calibration=_data(recipe.calibration),
        evaluation=None if evaluation is None else _data(evaluation),
        tuning=None if tuning is None else _data(tuning),
    )


def _base(choice: BaseChoice) -> BaseChoice:
    if not is_hub_id(choice.location) or Path(choice.location).exists():
        return choice
    return replace(choice, revision=_commit(choice.location, "model", choice.revision) or choice.revision)


def _data(plan: _Plan) -> _Plan:
    if not is_hub(plan.data):
        return plan
    try:
        source = parse_hub(plan.data)
    except DataError:
        return plan
    commit = None if source.is_folder else _commit(source.name, "dataset", source.revision)
    return replace(plan, data=str(replace(source, revision=commit))) if commit else plan


def _commit(name: str, kind: str, revision: str | None) -> str | None:
    if revision and _COMMIT.fullmatch(revision):
        return revision
    try:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name
    except ImportError:
        return None
    storage = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)
    try:
        commit = (storage / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None
