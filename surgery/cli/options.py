"""What commands share: options turned into plans, policies and progress."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from surgery.adapter import open_adapter
from surgery.cli.text import evaluation_text, progress_reporter
from surgery.data import Encoding, Slices
from surgery.edits import Edit
from surgery.errors import DataError, RecipeError
from surgery.evaluation import BASELINE, Evaluation, summarise, summary_record
from surgery.files import is_demo, user_path
from surgery.model import BaseChoice
from surgery.policies import Policy, make_policy
from surgery.recipes import Recipe, demo_plans, read_recipe
from surgery.runs import Run
from surgery.sensitivity import calibrate

if TYPE_CHECKING:
    from surgery.model import LiveModel

Result = tuple[dict[str, Any], str]
KNOB_PREFIX = "knob_"


def edits_of(
    live: "LiveModel", recipes: Mapping[str, Recipe], base: BaseChoice, slices: Slices
) -> dict[str, Edit]:
    """The edits of recipes, calibrated where that was not done before."""
    edits = {}
    for name, recipe in recipes.items():
        plan, control = recipe.calibration, progress_reporter(f"calibrating {name}")
        measured = calibrate(live, plan, base=base, slice_=slices.seen[plan], control=control)
        edits[name] = recipe.edit.apply(live.spectra, measured)
    return edits


def kept_run(evaluation: Evaluation, run: Run, of: str = "") -> Result:
    summary = summarise(evaluation)
    text = f"{evaluation_text(summary, of)}\nkept as run {run.plan.key}"
    return {"run": run.plan.key, "question": dict(run.plan.question), **summary_record(summary)}, text


def policy_from(options: argparse.Namespace) -> Policy:
    knobs = {k.removeprefix(KNOB_PREFIX): v for k, v in vars(options).items() if k.startswith(KNOB_PREFIX)}
    return make_policy(options.policy, knobs)


def base_from(options: argparse.Namespace) -> BaseChoice:
    location = options.base
    if not location:
        if not is_demo(options.adapter):
            raise RecipeError(f"{options.adapter!r} is no demo, so it has no default base", "give --base")
        location = demo_plans(options.adapter)[0].location
    return BaseChoice(location, options.revision, options.device, options.dtype)


def data_from(options: argparse.Namespace, slice_name: str) -> str:
    if options.data:
        return str(options.data)
    if not is_demo(options.adapter):
        raise DataError(f"{options.adapter!r} is no demo, so it has no default rows", "give --data F.jsonl")
    _, calibration, evaluation = demo_plans(options.adapter)
    return calibration.data if slice_name == "calibration" else evaluation.data


def encoding_from(options: argparse.Namespace) -> Encoding:
    return Encoding(options.template, options.separator, options.eos, options.max_length)


def variants_from(sources: Sequence[str], adapter_digest: str) -> tuple[dict[str, Recipe], dict[str, str]]:
    """Recipes and folders among the variants named, by a short name each."""
    recipes: dict[str, Recipe] = {}
    folders: dict[str, str] = {}
    for source in sources:
        path = user_path(source)
        name = path.name if path.name not in {BASELINE, *recipes, *folders} else str(path)
        if path.is_file():
            recipes[name] = read_recipe(path)
            made_for = recipes[name].adapter_digest
            if made_for and made_for != adapter_digest:
                raise DataError(f"recipe {source!r} was made for another adapter", "evaluate it with its own")
        else:
            open_adapter(source)  # refused now, before minutes are spent on the others
            folders[name] = source
    return recipes, folders
