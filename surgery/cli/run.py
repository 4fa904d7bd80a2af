"""`surgery run`: a recipe redone."""

import argparse
from dataclasses import replace
from typing import Any

from surgery.cli.guards import group_result, joined
from surgery.cli.options import (
    BASE_ARM_HELP,
    SHAPE_HELP,
    Command,
    Result,
    add_margin_option,
    add_pad_option,
    margin_from,
)
from surgery.cli.progress import progress_reporter
from surgery.cli.text import evaluation_text, export_record, export_text
from surgery.errors import RecipeError
from surgery.evaluation import summarise, summary_record
from surgery.experiments import run_recipe
from surgery.export import Smaller
from surgery.files import user_path
from surgery.recipes import read_recipe


def run_command(options: argparse.Namespace) -> Result:
    file = user_path(options.recipe)
    recipe = read_recipe(file)
    asked: dict[str, Any] = {name: True for name in ("scale_or_shape", "base_arm") if getattr(options, name)}
    if margin := margin_from(options):
        asked["margin"] = margin
    if asked and recipe.evaluation is None:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in asked)
        raise RecipeError(
            f"recipe {options.recipe!r} has no evaluation, which {flags} would add to",
            f"add an evaluation section, or leave out {flags}",
        )
    if recipe.evaluation is not None:
        recipe = replace(recipe, evaluation=replace(recipe.evaluation, **asked))
    out = options.out or file.with_name(f"{file.stem}-export")
    form = Smaller(options.pad) if options.smaller or options.pad is not None else None
    report = run_recipe(recipe, out, form=form, control=progress_reporter())
    notes = (*recipe.notes, *report.notes)
    record = export_record(report.edit, recipe.edit.energy, report.sensitivity, report.verification, notes)
    text = export_text(record)
    if report.evaluation is not None:
        summary = summarise(report.evaluation)
        record["evaluation"] = summary_record(summary)
        text += "\n" + evaluation_text(summary)
    return (record, text) if report.group is None else joined((record, text), group_result(report.group))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a recipe.yaml")
    parser.add_argument("--scale-or-shape", action="store_true", help=SHAPE_HELP)
    add_margin_option(parser)
    parser.add_argument("--base-arm", action="store_true", help=BASE_ARM_HELP)
    parser.add_argument(
        "--smaller", action="store_true", help="factors without what the edit zeroed, each module at its own rank"
    )
    add_pad_option(parser)
    parser.add_argument("--out", help="new folder (default: beside the recipe, named after it)")


COMMAND = Command("run", "calibrate, edit, evaluate and export as a recipe says", _options, run_command)
