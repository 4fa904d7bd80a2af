"""`surgery edit`: an edited adapter folder."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from surgery.adapter import Adapter, open_adapter
from surgery.cli.group_options import add_group_options, groups_from
from surgery.cli.options import ADAPTER_HELP, Command, Result, add_policy_options, policy_from
from surgery.cli.progress import progress_reporter, tell
from surgery.cli.text import export_record, export_text
from surgery.edits import EditPlan
from surgery.errors import DataError
from surgery.export import RECIPE_FILE, RECORD_FILE, dump_record, export, record_of
from surgery.files import is_demo, user_path
from surgery.model import BaseChoice
from surgery.recipes import Recipe, demo_plans, dump_recipe, pinned
from surgery.sensitivity import Sensitivity, load_sensitivity, measurement_in, shipped_measurements
from surgery.spectra import decompose


def edit_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter, control=progress_reporter())
    spectra = decompose(adapter)
    plan = edit_plan_from(options)
    file, sensitivity = measured_for(options, adapter, plan)
    edit = plan.apply(spectra, sensitivity)
    recipe, documents = documents_of(options, adapter, plan, sensitivity, file)
    base = base_of(options, adapter, recipe)
    verification = export(adapter, spectra, edit, options.out, documents=documents, base=base)
    notes = [*adapter.changes, *plan.notes(spectra)]
    record = export_record(edit, plan.energy, sensitivity, verification, notes)
    return record, export_text(record)


def documents_of(
    options: argparse.Namespace,
    adapter: Adapter,
    plan: EditPlan,
    sensitivity: Sensitivity | None,
    file: Path | None,
) -> tuple[Recipe | None, dict[str, str]]:
    """The recipe that redoes the edit, where there is one, and the texts that stand beside the weights."""
    recipe = None
    if sensitivity is not None and file is not None:
        recipe = _recipe(adapter, plan, sensitivity, file, list(map(Path, options.protected)))
    documents = {RECORD_FILE: dump_record(record_of(adapter.digest, plan, sensitivity, recipe))}
    if recipe is not None:
        documents[RECIPE_FILE] = dump_recipe(pinned(recipe))
    return recipe, documents


def edit_plan_from(options: argparse.Namespace) -> EditPlan:
    """The edit that options of `add_edit_options` name."""
    return EditPlan(
        policy_from(options),
        options.scope,
        options.energy or "",
        options.sigma_min,
        strength=options.strength,
        protect=options.protect,
        groups=groups_from(options),
    )


def base_of(options: argparse.Namespace, adapter: Adapter, recipe: Recipe | None) -> BaseChoice | None:
    """The base that PEFT's loading is checked on: the one named, measured on, or a demo's; None for the adapter's own."""
    if options.base:
        return BaseChoice(options.base)
    if recipe is not None:
        return recipe.base
    return demo_plans(adapter.source)[0] if is_demo(adapter.source) else None


def measured_for(
    options: argparse.Namespace, adapter: Adapter, plan: EditPlan, *, always: str = ""
) -> tuple[Path | None, Sensitivity | None]:
    """The sensitivities that were named, or that ship with a demo where the policy works from some.

    `always` names what works from them whatever the policy.
    """
    made_by = f"made by: surgery calibrate {shlex.quote(options.adapter)} --base BASE --data ROWS --out FILE"
    file = user_path(options.sensitivities, DataError) if options.sensitivities else None
    if file is None and (always or plan.needs_sensitivity):
        file = _shipped(adapter)
        if file is None:
            what = f"policy {plan.policy.name}" if EditPlan(plan.policy).needs_sensitivity else "energy functional"
            what = always or what
            raise DataError(f"{what} works from a measurement", f"give --sensitivities FILE, {made_by}")
    if file is None:
        return None, None
    protected = [user_path(path, DataError) for path in options.protected]
    own, *beside = map(load_sensitivity, (file, *protected))
    for path, found in zip((file, *protected), (own, *beside), strict=True):
        if found.provenance.adapter != adapter.digest:
            raise DataError(
                f"the sensitivities of {path.name!r} belong to another adapter", f"give its own, {made_by}"
            )
    return file, replace(own, protected=tuple(beside))


def _recipe(
    adapter: Adapter, plan: EditPlan, sensitivity: Sensitivity, file: Path, protected: Sequence[Path]
) -> Recipe | None:
    """The recipe that redoes the edit; None where the sensitivities do not say on which base and rows they were measured."""
    about = measurement_in(file)
    beside = [found.plan if (found := measurement_in(path)) else None for path in protected]
    plans = [known for known in beside if known is not None]
    if about is None or about.plan is None or about.base is None or len(plans) < len(beside):
        return None
    return Recipe(
        adapter.source,
        adapter.digest,
        about.base,
        about.plan,
        plan,
        calibration_digest=sensitivity.rows,
        protected=tuple(plans),
        protected_digests=tuple(each.rows for each in sensitivity.protected),
    )


def _shipped(adapter: Adapter) -> Path | None:
    """What ships measured of a demo adapter, which is told on standard error; None for any other adapter."""
    found = next(iter(shipped_measurements(adapter.digest)), None)
    if found is None:
        return None
    tell(f"without --sensitivities: taking those that ship with the demo, measured on {found.examples} examples")
    return found.file


def add_edit_options(parser: argparse.ArgumentParser) -> None:
    """What says which edit is made, and from which measurements."""
    parser.add_argument("--sensitivities", help="file written by calibrate")
    parser.add_argument(
        "--scope", default="residual", help="residual, attention-inputs, all, or a regular expression"
    )
    parser.add_argument(
        "--protected",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files written by calibrate for slices that the edit is not to hurt",
    )
    parser.add_argument(
        "--protect",
        action="store_true",
        help="take out of the step what hurts the protected slices, whatever the policy",
    )
    add_policy_options(parser)
    add_group_options(parser)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help=ADAPTER_HELP)
    parser.add_argument(
        "--base",
        help="base model that PEFT's loading is checked on (default: the one of the sensitivities or of the demo, "
        "else the one that the adapter names, where the hub's cache has it)",
    )
    parser.add_argument("--out", required=True, help="new folder for the edited adapter")
    add_edit_options(parser)


COMMAND = Command("edit", "apply a policy and write the edited adapter", _options, edit_command)
