"""The steps of a recipe on a live model: calibrate with a store, build variants, prove, export."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.adapter import Adapter, open_adapter
from surgery.calibration import (
    Calibration,
    Row,
    batch_order,
    choose,
    encode,
    left_out_text,
    read_rows,
    shared_keys,
)
from surgery.card import model_card
from surgery.demo import data_file
from surgery.edit import Edit, make_edit
from surgery.errors import DataError, RecipeError
from surgery.evaluate import Evaluation, Variant, evaluate
from surgery.export import CARD_FILE, RECIPE_FILE, Verification, export, new_folder
from surgery.measurements import PART, WHOLE, header, store_folder
from surgery.pace import remember_pace
from surgery.partial import PartFile
from surgery.policy import AbsSelect, Policy, RandomIndex, knob_values, knobs_of
from surgery.recipe import BaseChoice, CalibrationPlan, EvaluationPlan, Recipe, dump_recipe
from surgery.scope import in_scope
from surgery.sensitivity import (
    Progress,
    Sensitivity,
    load_sensitivity,
    measure_sensitivity,
    provenance_of,
    save_sensitivity,
)
from surgery.sources import Found, read_source
from surgery.spectrum import Spectra, decompose

if TYPE_CHECKING:
    from surgery.live import LiveModel

EDIT = "edit"
_RANDOM = "random "


@dataclass(frozen=True)
class RunReport:
    """What a recipe gave: the edit, its evaluation where one was asked for, and the folder."""

    edit: Edit
    sensitivity: Sensitivity
    evaluation: Evaluation | None
    verification: Verification


def attach(adapter: Adapter, spectra: Spectra, choice: BaseChoice) -> "LiveModel":
    """Load the base of `choice` and attach the adapter to it."""
    from surgery.base import load_base
    from surgery.live import LiveModel

    base = load_base(choice.location, revision=choice.revision, device=choice.device, dtype=choice.dtype)
    return LiveModel(base, adapter, spectra)


def calibration_slice(live: "LiveModel", plan: CalibrationPlan) -> Calibration:
    """The encoded examples of a calibration plan."""
    rows, found = planned_rows(plan)
    return encode(rows, live.base.tokenizer, plan.encoding, left_out=found.left_out)


def calibration_rows(plan: CalibrationPlan) -> list[Row]:
    """The rows of a calibration plan."""
    return planned_rows(plan)[0]


def planned_rows(plan: CalibrationPlan, found: Found | None = None) -> tuple[list[Row], Found]:
    """The rows of a calibration plan and what its source gave, which is read unless it is given.

    Raises `DataError` for a source without rows, and for a slice that asks for more than there are.
    """
    found = found or read_source(plan.data, plan.fields)
    try:
        return choose(found.rows, plan.examples, seed=plan.seed, start=plan.start), found
    except DataError as error:
        if not found.left_out:
            raise
        raise DataError(
            f"{error.problem} ({left_out_text(found.left_out)}; {found.problem})", error.remedy
        ) from error


def calibrate(
    live: "LiveModel",
    plan: CalibrationPlan,
    *,
    base: BaseChoice | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    resumed: Progress | None = None,
) -> Sensitivity:
    """Measure every module on the planned slice, or find the same measurement in the store.

    All modules are measured whatever the scope of the edit, because they cost almost nothing once
    the backward pass runs: scope then is a choice that needs no second pass. A measurement that ends
    before its time, in whatever way, goes on from its finished examples when it is asked for again, and
    gives the same bits; `resumed(done, total)` is then called before the first batch. `base` is how `live` was loaded, for the store's list and the pace of later runs.
    """
    rows, found = planned_rows(plan)
    calibration = encode(rows, live.base.tokenizer, plan.encoding, left_out=found.left_out)
    names = list(live.spectra)
    provenance = provenance_of(live, calibration, names)
    base = base or BaseChoice(live.base.location, None, str(live.device), provenance.dtype)
    stored = stored_sensitivity_file(provenance.key, plan.batch_size)
    order = batch_order(calibration.examples)
    lengths = [calibration.examples[i].length for i in order]

    def about_part(done: int) -> dict[str, str]:
        described = header(plan, base, provenance, calibration.left_out)
        return {**described, "examples": str(len(order)), "tokens_left": str(sum(lengths[done:]))}

    part = PartFile(stored.with_suffix(PART), order, {name: live.spectra[name].rank for name in names}, about_part)
    known = _found_again(stored)
    if known is not None:
        part.drop()
        if progress is not None:
            progress(known.examples, known.examples)
        # other rows may have been left out on the way to the same examples
        return replace(known, left_out=calibration.left_out)
    resume = part.read()
    if resume is not None and resumed is not None:
        resumed(resume.done, len(order))
    begun = time.monotonic()
    try:
        sensitivity = measure_sensitivity(
            live,
            calibration,
            names,
            batch_size=plan.batch_size,
            checkpointing=plan.checkpointing,
            progress=progress,
            cancelled=cancelled,
            resume=resume,
            keep=part.keep,
        )
    except BaseException:
        part.flush()
        raise
    seconds, tokens = time.monotonic() - begun, sum(lengths[resume.done if resume else 0 :])
    save_sensitivity(sensitivity, stored, header(plan, base, provenance, calibration.left_out))
    part.drop()
    remember_pace(base, plan, rows, calibration, live.base.tokenizer, tokens, seconds)
    return sensitivity


def _found_again(stored: Path) -> Sensitivity | None:
    """The stored measurement; a damaged one is removed, to be measured again."""
    if not stored.is_file():
        return None
    try:
        return load_sensitivity(stored)
    except DataError:
        stored.unlink(missing_ok=True)
        return None


def stored_sensitivity_file(key: str, batch_size: int) -> Path:
    """Where the measurement of this provenance key is kept.

    The batch size moves the last bits, and a recipe is to give the same bytes, so it is in the name.
    """
    return store_folder() / f"{key}-{batch_size}{WHOLE}"


def random_controls(
    spectra: Spectra,
    count: int,
    *,
    like: Policy | None = None,
    scope: str = "residual",
    energy: str = "l1",
    sigma_min: float = 0.0,
) -> dict[str, Edit]:
    """`count` seeded random_index edits, named `random 0`, `random 1` and so on.

    With `like` an abs_select, the controls take its gates, so that they move as much as it does.
    """
    gates = RandomIndex()
    if isinstance(like, AbsSelect):
        shared = {knob.name for knob in knobs_of(RandomIndex)}
        gates = RandomIndex(**{name: value for name, value in knob_values(like).items() if name in shared})
    return {
        f"{_RANDOM}{seed}": make_edit(
            spectra, replace(gates, seed=seed), scope=scope, energy=energy, sigma_min=sigma_min
        )
        for seed in range(count)
    }


def is_random_control(name: str) -> bool:
    """Whether a variant is named as `random_controls` names its own."""
    return name.startswith(_RANDOM)


def held_out_rows(plan: EvaluationPlan, calibrations: Sequence[CalibrationPlan]) -> list[Row]:
    """The rows of an evaluation plan; raises `DataError` when a calibration slice shares an example."""
    rows = choose(read_rows(data_file(plan.data)), plan.limit, seed=None)
    for calibration in calibrations:
        shared = shared_keys(rows, calibration_rows(calibration))
        if shared:
            raise DataError(
                f"{len(shared)} of {len(rows)} evaluation rows were used for calibration or tuning",
                "evaluate on rows that the edit has not seen",
            )
    return rows


def prove(
    live: "LiveModel",
    plan: EvaluationPlan,
    calibrations: Sequence[CalibrationPlan],
    edits: Mapping[str, Edit],
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Evaluation:
    """Evaluate edits on the planned rows, which may share no example with any calibration slice.

    Raises `DataError` on shared examples.
    """
    rows = held_out_rows(plan, calibrations)
    slice_ = encode(rows, live.base.tokenizer, plan.encoding)
    variants: dict[str, Variant] = {name: edit.sigma_after for name, edit in edits.items()}
    return evaluate(live, slice_, variants, batch_size=plan.batch_size, progress=progress, cancelled=cancelled)


def export_recipe(adapter: Adapter, spectra: Spectra, edit: Edit, recipe: Recipe, out: Path | str) -> Verification:
    """Export with the recipe and a model card beside the weights; byte for byte reproducible."""
    documents = {RECIPE_FILE: dump_recipe(recipe), CARD_FILE: model_card(adapter, recipe, edit)}
    return export(adapter, spectra, edit, out, documents=documents)


def run_recipe(recipe: Recipe, out: Path | str, *, report: Callable[[str, int, int], None]) -> RunReport:
    """Redo a recipe: calibrate, edit, evaluate, export to `out`. `report(step, done, total)`.

    Raises `RecipeError` when the adapter at hand is not the one the recipe was made for.
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
    calibration_rows(recipe.calibration)
    if recipe.evaluation is not None:
        held_out_rows(recipe.evaluation, recipe.seen)
    report("loading the base model", 0, 1)
    with attach(adapter, spectra, recipe.base) as live:
        sensitivity = calibrate(
            live, recipe.calibration, base=recipe.base, progress=lambda d, t: report("calibrating", d, t)
        )
        edit = recipe.edit.apply(spectra, sensitivity)
        evaluation = None
        if recipe.evaluation is not None:
            controls = random_controls(
                spectra,
                recipe.evaluation.random,
                like=recipe.edit.policy,
                scope=recipe.edit.scope,
                energy=recipe.edit.energy,
                sigma_min=recipe.edit.sigma_min,
            )
            evaluation = prove(
                live,
                recipe.evaluation,
                recipe.seen,
                {EDIT: edit, **controls},
                progress=lambda d, t: report("evaluating", d, t),
            )
    verification = export_recipe(adapter, spectra, edit, recipe, out)
    return RunReport(edit, sensitivity, evaluation, verification)
