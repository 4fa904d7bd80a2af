"""`surgery search`: the edits that are best in several things at once."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from surgery.adapter import Adapter, open_adapter
from surgery.cli.edit import add_edit_options, edit_plan_from, measured_for
from surgery.cli.options import (
    Command,
    Result,
    add_field_options,
    add_model_options,
    count,
    encoding_from,
    fields_from,
    positive,
)
from surgery.cli.progress import progress_reporter
from surgery.data import CalibrationPlan, TaskPlan, fetch_source
from surgery.errors import DataError
from surgery.experiments import TuningSetup, parse_guard, tuning_plan
from surgery.experiments.search import (
    KNOBS,
    OBJECTIVES,
    OWN,
    PARTS,
    PROTECTED,
    Search,
    SearchLimits,
    SearchPlan,
    SearchSpace,
    Trial,
    read_judges,
    search,
    seen_by_name,
    settings,
    task_rows,
    warning,
)
from surgery.files import is_demo, without_nan, write_whole
from surgery.model import BaseChoice, attach
from surgery.recipes import Recipe, demo_plans, dump_recipe, pinned
from surgery.sensitivity import calibration_slice, measurement_in
from surgery.spectra import decompose

_ROWS = 64


def search_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter, control=progress_reporter())
    spectra = decompose(adapter)
    limits = SearchLimits(options.trials, options.seconds)
    start = edit_plan_from(options)
    file, sensitivity = measured_for(options, adapter, start)
    base, calibration = _measured_on(options, adapter, file)
    plan = _plan(options, start, _tuning(options, calibration))
    for each in plan.slices.values():
        fetch_source(each.data, progress_reporter())
    slices = read_judges(plan, calibration)
    with attach(adapter, spectra, base, control=progress_reporter()) as live:
        encoded = {whose: calibration_slice(live, plan.slices[whose], each) for whose, each in slices.items()}
        own = encoded.get(OWN, next(iter(encoded.values())))
        found = search(
            TuningSetup(live, own, sensitivity),
            plan,
            protected=encoded.get(PROTECTED),
            task=None if plan.task is None else task_rows(live, plan.task, seen_by_name(calibration)),
            limits=limits,
            control=progress_reporter("searching"),
        )
    written: list[str] = []
    if options.recipes:
        measured = "" if sensitivity is None else sensitivity.rows
        recipe = Recipe(
            adapter.source, adapter.digest, base, calibration or plan.tuning, calibration_digest=measured
        )
        written = _write_recipes(found, recipe, options.recipes)
    record = search_result(found) | {"recipes": written}
    return record, search_text(found) + "".join(f"\nwrote {each}" for each in written)


def _measured_on(
    options: argparse.Namespace, adapter: Adapter, file: Path | None
) -> tuple[BaseChoice, CalibrationPlan | None]:
    """The base that edits run on, and the slice that they were measured on where that is known."""
    about = measurement_in(file) if file is not None else None
    base, calibration = (about.base, about.plan) if about is not None else (None, None)
    if is_demo(adapter.source):
        own, rows, _ = demo_plans(adapter.source)
        base, calibration = base or own, calibration or rows
    if options.base:
        base = BaseChoice(options.base, options.revision, options.device, options.dtype)
    if base is None:
        raise DataError(f"{options.adapter!r} is no demo, so it has no default base", "give --base")
    return replace(base, device=options.device, dtype=options.dtype), calibration


def _tuning(options: argparse.Namespace, calibration: CalibrationPlan | None) -> CalibrationPlan:
    """The rows that judge: those named, or those that follow the calibration rows."""
    if options.data:
        return CalibrationPlan(
            options.data, options.rows or _ROWS, encoding=encoding_from(options), **fields_from(options)
        )
    if calibration is None:
        raise DataError("no rows are known that could judge edits", "give --data F.jsonl")
    tuning = tuning_plan(calibration)
    return replace(tuning, examples=min(options.rows or min(_ROWS, tuning.examples), tuning.examples))


def _plan(options: argparse.Namespace, start: Any, tuning: CalibrationPlan) -> SearchPlan:
    knobs: tuple[str, ...] | None = () if KNOBS not in options.vary else None
    if options.only:
        knobs = tuple(name.replace("-", "_") for name in options.only)
    return SearchPlan(
        start,
        tuning,
        tuple(options.objectives),
        SearchSpace(knobs, tuple(part for part in PARTS if part in options.vary)),
        replace(tuning, data=options.protected_data, start=0) if options.protected_data else None,
        options.search_seed,
        not options.no_race,
        _task(options),
    )


def _task(options: argparse.Namespace) -> TaskPlan | None:
    """The task that is written as one line of YAML, so many documents of it as rows where it names no limit."""
    if options.task is None:
        return None
    asked = parse_guard(f"task: {options.task}")
    if not isinstance(asked, TaskPlan):
        raise DataError(
            f"{options.task!r} names no task of lm-eval", "write its name and settings: arc_easy, limit: 64"
        )
    return asked if asked.limit is not None else replace(asked, limit=options.rows or _ROWS)


def _write_recipes(found: Search, recipe: Recipe, folder: str) -> list[str]:
    """A recipe for each trial of the front, which bars the rows that chose it from its proof."""
    place = Path(folder)
    written = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for trial in found.front:
            assert trial.plan is not None
            whole = replace(recipe, edit=trial.plan, chosen=found.plan.choosing)
            file = place / f"{trial.name.replace(' ', '-')}.yaml"
            write_whole(file, dump_recipe(pinned(whole)).encode())
            written.append(str(file))
    except OSError as error:
        raise DataError(f"recipes cannot be written to {folder!r} ({error.strerror})", "name a folder") from error
    return written


def search_result(found: Search) -> dict[str, Any]:
    """A search as plain values."""
    best = found.front
    return {
        "search": found.key,
        "objectives": list(found.plan.objectives),
        "rows": dict(found.rows),
        "front": [trial.number + 1 for trial in best],
        "trials": [_trial_record(found, trial) for trial in found.trials],
        "warning": warning(found.trials),
    }


def _trial_record(found: Search, trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number + 1,
        "outcome": trial.outcome,
        "same_as": None if trial.same_as is None else trial.same_as + 1,
        "rows": trial.rows,
        "changes": {name: without_nan(asdict(effect)) for name, effect in trial.effects.items()},
        "settings": settings(found.plan, trial.plan),
    }


def search_text(found: Search) -> str:
    """The front as a table, the trial that is best in the first objective first."""
    rows = " and ".join(f"{number} {whose} rows" for whose, number in found.rows.items())
    lines = [
        f"{len(found.front)} of {len(found.trials)} trials are on the front; changes against the unedited adapter on {rows}:"
    ]
    titles = [f"{each.title}, {each.unit}" for each in found.plan.asked]
    table = [("trial", *titles, "settings")]
    for trial in found.front:
        told = [each.told(trial.effects[each.name]) for each in found.plan.asked]
        table.append((str(trial.number + 1), *told, _settings_text(settings(found.plan, trial.plan))))
    if not found.front:
        lines.append("no trial is better than the unedited adapter in anything")
    else:
        lines += _columns(table)
    return "\n".join([*lines, warning(found.trials), f"kept as search {found.key}: it goes on with more --trials"])


def _settings_text(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _columns(table: Sequence[tuple[str, ...]]) -> list[str]:
    """The rows of a table with their columns below each other."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    ]


def _options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser, "rows that judge edits (default: those that follow the calibration rows)")
    parser.add_argument("--rows", type=positive, help=f"how many of them (default {_ROWS})")
    add_field_options(parser)
    parser.add_argument(
        "--objectives",
        nargs="+",
        default=["loss", "kl"],
        metavar="NAME",
        help=f"what to improve: {', '.join(OBJECTIVES)} (default loss kl)",
    )
    parser.add_argument(
        "--protected-data", help="rows of another task, read as the own ones are, for protected and protected-kl"
    )
    parser.add_argument(
        "--task",
        metavar="TASK",
        help="a task of lm-eval for the objective task, with its settings: 'arc_easy, limit: 64'",
    )
    parser.add_argument(
        "--vary",
        nargs="+",
        default=[KNOBS],
        choices=(KNOBS, *PARTS),
        help=f"what of the edit is varied (default {KNOBS})",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="KNOB", help="knobs to vary (default: every one with a range)"
    )
    parser.add_argument(
        "--trials", type=positive, default=20, help="edits to try, earlier ones counted (default 20)"
    )
    parser.add_argument("--seconds", type=float, help="begin no trial after so many seconds")
    parser.add_argument("--search-seed", type=count, default=0, help="seed of the proposals (default 0)")
    parser.add_argument(
        "--no-race", action="store_true", help="measure also what is worse than the unedited adapter in everything"
    )
    parser.add_argument("--recipes", metavar="FOLDER", help="write a recipe for each edit of the front")
    add_edit_options(parser)


COMMAND = Command("search", "edits that are best in several things at once, as a front", _options, search_command)
