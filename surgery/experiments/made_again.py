"""An edit that a run proved, made again from what this machine keeps: a run names σ′ by digest, not by value."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from surgery.edits import Edit, EditPlan, parse_edit
from surgery.errors import DataError, SurgeryError
from surgery.experiments.control_edits import EDIT
from surgery.experiments.proof import sigma_digest
from surgery.recipes import Recipe, parse_recipe
from surgery.runs import Run
from surgery.sensitivity import (
    Measurement,
    Sensitivity,
    load_sensitivity,
    shipped_measurements,
    stored_measurements,
)
from surgery.spectra import Spectra


@dataclass(frozen=True)
class EditMadeAgain:
    """An edit of a run, and the measurement that it was made from, None where it needs none.

    `exact` tells that its σ′ has the digest that the run names. Else its recipe, its rows and its base are the same,
    and σ′ may differ as much as a measurement does from one machine to another.
    """

    edit: Edit
    sensitivity: Sensitivity | None
    exact: bool


def made_again(run: Run, name: str, spectra: Spectra) -> EditMadeAgain:
    """The edit that was proven as the variant `name` of a run.

    spectra: of all modules of the run's adapter, by name.

    Raises `DataError` where the run does not say how that variant was made, or this machine does not keep what it was
    made from.
    """
    record = run.plan.edits.get(name)
    if record is None:
        raise DataError(f"the run does not say how {name!r} was made", "prove a recipe, which says so")
    plan, recipe = parse_edit(record), _recipe(run) if name == EDIT else None
    alike: EditMadeAgain | None = None
    for sensitivity in _candidates(plan, recipe, run.plan.adapter_digest):
        with suppress(SurgeryError):  # measured in another scope, or without what this plan reads
            edit = plan.apply(spectra, sensitivity)
            if sigma_digest(edit) == run.plan.variants.get(name):
                return EditMadeAgain(edit, sensitivity, exact=True)
            if alike is None and (sensitivity is None or recipe is not None):
                alike = EditMadeAgain(edit, sensitivity, exact=False)
    if alike is None:
        raise DataError(
            f"what {name!r} was made from is not kept on this machine",
            "calibrate on the rows and the base that its recipe names",
        )
    return alike


def _candidates(plan: EditPlan, recipe: Recipe | None, adapter: str) -> Iterator[Sensitivity | None]:
    """What the edit may have been made from: of a recipe its own rows alone, else each measurement of the adapter."""
    if not plan.needs_sensitivity:
        yield None
        return
    kept = [each for each in (*stored_measurements(adapter), *shipped_measurements(adapter)) if each.finished]
    protected = _protected(recipe, kept) if recipe is not None and plan.needs_protected else ()
    if protected is None:
        return
    for measurement in kept:
        if recipe is None or measurement.is_of(recipe.base, recipe.calibration):
            with suppress(SurgeryError):  # deleted or changed since it was listed
                found = load_sensitivity(measurement.file)
                if recipe is None or recipe.calibration_digest in ("", found.rows):
                    yield replace(found, protected=protected)


def _protected(recipe: Recipe, kept: Sequence[Measurement]) -> tuple[Sensitivity, ...] | None:
    """The newest measurement of each slice that the recipe protects, in its order; None where one is not kept."""
    newest = [next((each for each in kept if each.is_of(recipe.base, plan)), None) for plan in recipe.protected]
    found = tuple(load_sensitivity(each.file) for each in newest if each is not None)
    return found if len(found) == len(newest) else None


def _recipe(run: Run) -> Recipe | None:
    """The recipe that lies beside a run; None where there is none that can be read."""
    with suppress(SurgeryError):
        return parse_recipe(run.recipe) if run.recipe is not None else None
    return None
