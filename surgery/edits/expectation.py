"""What an edit will do to the loss of rows that did not shape it, foretold without a model.

The edit is computed from seven eighths of the examples and foretold on the other eighth (cross-fitting), with the
curvature of a mean over T answer tokens: g of the mean loss is the mean of the tokens' gradients, which are
independent where the model is right, so the curvature along δ is T·E[(g·δ)²] (the empirical Fisher information).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.edits.edit import Edit
from surgery.edits.fold_edits import FoldEdits, edit_as_fold, fold_edits
from surgery.edits.plan import EditPlan
from surgery.edits.preview import Preview, preview
from surgery.errors import PolicyError
from surgery.sensitivity import FEWEST, Sensitivity, paired_folds
from surgery.spectra import Spectra

_Z = 1.959963984540054
_FEW = 64  # examples, below which the band itself is a guess
_WIDE = 1.5  # the error over folds in errors over examples, from which on folds disagree
_BENT = 0.5  # the curvature in sizes of the linear part, from which on the model of second order is strained


@dataclass(frozen=True)
class Expectation:
    """The change of the loss on held-out rows that is expected of an edit, in nats per answer token.

    `mean` = `linear` + `curvature`; from `low` to `high` is its 95 % band. `first_order` is what the examples that
    shaped the edit promise to first order. `curvature` is NaN where the answers' tokens were not counted, and is then
    not in the mean; all but `first_order` are NaN where the examples are too few. `folds` counts those of one shuffle,
    0 for an edit that no example has shaped. `doubts` say where it may not be trusted, a sentence each.
    """

    mean: float
    linear: float
    curvature: float
    standard_error: float
    low: float
    high: float
    first_order: float
    examples: int
    folds: int
    doubts: tuple[str, ...] = ()


def expected(
    plan: EditPlan, spectra: Spectra, sensitivity: Sensitivity | None, edit: Edit | None = None
) -> Expectation | None:
    """What is expected of a plan's edit; None when its modules were not measured.

    plan: the edit.
    spectra: of all modules, by name.
    sensitivity: gₖ by example and component.
    edit: of the plan, where it is known.

    Raises `PolicyError` as `make_edit` does.
    """
    edit = plan.apply(spectra, sensitivity) if edit is None else edit
    numbers = preview(edit, sensitivity)
    if sensitivity is None or numbers is None:
        return None
    try:
        edits = fold_edits(plan, spectra, sensitivity)
    except PolicyError as error:  # the edit of all examples can be applied, and one without some of them cannot
        return _unknown(numbers.predicted, sensitivity.examples, f"without some examples, {error.problem}")
    return expected_from(edits, sensitivity, numbers)


def expected_beside(
    plan: EditPlan, spectra: Spectra, sensitivity: Sensitivity, edit: Edit | None = None
) -> tuple[Expectation, ...]:
    """What is expected of a plan's edit on every protected slice; their rows are held out where they shape the edit.

    On answers drawn from the model it is the divergence of the edited outputs from the unedited, in nats per token.
    Raises `PolicyError` as `make_edit` does.
    """
    edit = plan.apply(spectra, sensitivity) if edit is None else edit
    edits = fold_edits(plan, spectra, sensitivity) if plan.needs_protected else None
    found = []
    for beside in sensitivity.protected:
        own = None if edits is None else paired_folds(edits.folds, beside.examples)
        judged = edit_as_fold(edit, beside) if edits is None or own is None else replace(edits, folds=own)
        found.append(expected_from(judged, beside, preview(edit, beside)))
    return tuple(found)


def expected_of_edit(edit: Edit, sensitivity: Sensitivity) -> Expectation | None:
    """What is expected of an edit that none of these examples has shaped; None when its modules were not measured."""
    numbers = preview(edit, sensitivity)
    return None if numbers is None else expected_from(edit_as_fold(edit, sensitivity), sensitivity, numbers)


def expected_from(
    edits: FoldEdits | None, sensitivity: Sensitivity, numbers: Preview | None = None
) -> Expectation:
    """What is expected of an edit given once a fold.

    edits: σ′ of every fold; None where the examples are too few.
    sensitivity: gₖ by example and component.
    numbers: of the edit from all examples, whose first-order prediction is told beside.
    """
    first = numbers.predicted if numbers is not None else float("nan")
    n = sensitivity.examples
    if edits is None:
        doubt = f"{n} examples are too few to hold some out: calibrate on {FEWEST} or more, better 128"
        return _unknown(first, n, doubt)
    changes = predictions(edits, sensitivity)
    tokens = sensitivity.answer_tokens
    bends = np.zeros(n) if tokens is None else tokens / 2 * (changes**2).mean(axis=0)
    # answers drawn from the model have no slope but that of the draw
    slopes = np.zeros(n) if sensitivity.label_free else changes.mean(axis=0)
    by_example = slopes + bends
    linear, mean = float(slopes.mean()), float(by_example.mean())
    error = float(by_example.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    curvature = float("nan") if tokens is None else float(bends.mean())
    return Expectation(
        mean,
        linear,
        curvature,
        error,
        mean - _Z * error,
        mean + _Z * error,
        first,
        n,
        edits.folds.count if edits.folds.fitted else 0,
        _doubts(edits, changes, linear, curvature, error),
    )


def _unknown(first_order: float, examples: int, doubt: str) -> Expectation:
    none = float("nan")
    return Expectation(none, none, none, none, none, none, first_order, examples, 0, (doubt,))


def predictions(edits: FoldEdits, sensitivity: Sensitivity) -> Float64[ndarray, "shuffle example"]:
    """gᵢ·δ of every example, with δ = σ′ − σ of the fold that holds it out; NaN throughout where δ meets no number."""
    rows = sensitivity.moments.of_scope(edits.names)
    moved = edits.after - edits.sigma
    shuffles, held = edits.folds.shuffles, rows.held(edits.folds)
    n = rows.examples
    found = np.empty((shuffles, n))
    found[:, rows.order] = np.where(held, moved @ rows.g, 0.0).reshape(shuffles, -1, n).sum(axis=1)
    # what stays adds nothing, even where its measurement is not finite
    return found if not moved[:, ~rows.finite].any() else np.full_like(found, np.nan)


def _doubts(
    edits: FoldEdits,
    changes: Float64[ndarray, "shuffle example"],
    linear: float,
    curvature: float,
    error: float,
) -> tuple[str, ...]:
    found = []
    n, folds = changes.shape[1], edits.folds
    if np.isnan(linear):
        found.append("the edit moves components whose measurement is not a number")
    if np.isnan(curvature) and linear != 0:
        found.append(
            "the curvature is not in it, because this measurement did not count the tokens of its answers: large steps "
            "look better than they are; calibrate again"
        )
    elif linear and curvature > _BENT * abs(linear):
        found.append("the step is so large that the loss bends: measure it, or lower the strength")
    if n < _FEW:
        found.append(f"{n} examples are few: the band itself is uncertain")
    if folds.fitted:
        sizes = folds.held.sum(axis=1)
        means = (np.repeat(changes, folds.count, axis=0) * folds.held).sum(axis=1) / sizes
        over_folds = means.reshape(folds.shuffles, -1).std(axis=1, ddof=1).mean() / np.sqrt(folds.count)
        if over_folds > _WIDE * error:
            found.append("the folds disagree: other examples would give another edit")
    return tuple(found)
