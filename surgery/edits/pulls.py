"""Which examples an edit is expected to help and to hurt: the pull gᵢ·δ of each, before anything is measured.

δ = σ′ − σ after clamp and energy rule. Where g shapes the edit, every example pulls it towards itself, so its pull on
the edit of all of them looks too good; here it is of the edits of the folds that hold the example out, as in
`expectation`. The pulls are of first order: the curvature that `expectation` adds is known of a mean over examples and
not of a single one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from surgery.edits.edit import Edit, ModuleEdit, checked_sensitivity, gains_of
from surgery.edits.expectation import predictions
from surgery.edits.fold_edits import edit_as_fold, fold_edits
from surgery.edits.plan import EditPlan
from surgery.errors import PolicyError
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra


@dataclass(frozen=True, eq=False)
class Pulls:
    """The change of every example's loss by an edit that its own g foretells, in nats per answer token.

    `held` is gᵢ·δ of the edits that the example has not shaped, the mean over shuffles; `own` is gᵢ·δ of the edit
    itself, which is what a measurement of it on the same example is to be compared with. Where g has no part in the
    edit, `fitted` is false and both are the same; `held` is NaN where no edit can be made without some examples.
    `sigma_after` is σ′ of the edit, by module.
    """

    held: Float64[ndarray, " example"]
    own: Float64[ndarray, " example"]
    fitted: bool
    sigma_after: Mapping[str, Float64[ndarray, " rank"]]

    @property
    def told(self) -> Float64[ndarray, " example"]:
        """What the examples are ranked by: held out where that is known."""
        return self.held if np.isfinite(self.held).all() else self.own

    @property
    def order(self) -> Int64[ndarray, " example"]:
        """The examples from the most helped to the most hurt."""
        return np.argsort(self.told, kind="stable")

    def ends(self, count: int) -> tuple[list[int], list[int]]:
        """At most so many examples that are helped, the most helped first, and as many that are hurt."""
        order = self.order.tolist()
        helped = [row for row in order if self.told[row] < 0]
        hurt = [row for row in reversed(order) if self.told[row] > 0]
        return helped[:count], hurt[:count]

    @property
    def helped(self) -> float:
        """The share of examples whose loss is expected to fall."""
        return float((self.told < 0).mean())

    @property
    def hurt(self) -> float:
        return float((self.told > 0).mean())

    @property
    def cancelled(self) -> float:
        """Which share of all pulls others undo: 0 where all go one way, 1 where nothing is left; NaN where none pulls."""
        total = float(np.abs(self.told).sum())
        return 1 - abs(float(self.told.sum())) / total if total > 0 else float("nan")


def pulls(plan: EditPlan, spectra: Spectra, sensitivity: Sensitivity | None, edit: Edit | None = None) -> Pulls:
    """Whom the edit of a plan is expected to help and to hurt.

    plan: the edit.
    spectra: of all modules, by name.
    sensitivity: gₖ by example and component.
    edit: of the plan, where it is known.

    Raises `PolicyError` as `make_edit` does, and where the modules were not measured, a component that moves has a
    measurement that is not a number, or the answers were drawn.
    """
    edit = plan.apply(spectra, sensitivity) if edit is None else edit
    measured, own = _own(sensitivity, spectra, edit)
    if not plan.policy.needs_gradient and not plan.protect:
        return Pulls(own, own, False, edit.sigma_after)
    try:
        folds = fold_edits(plan, spectra, measured)
    except PolicyError:  # the edit of all examples can be applied, and one without some of them cannot
        folds = None
    held = np.full_like(own, np.nan) if folds is None else predictions(folds, measured).mean(axis=0)
    return Pulls(held, own, True, edit.sigma_after)


def component_pulls(
    spectra: Spectra, sensitivity: Sensitivity | None, module: str, component: int, *, gain: float = 0.0
) -> Pulls:
    """Whom one component's change helps and hurts: gᵢₖ(α − 1)σₖ, at gain α, 0 by default; all others stay.

    spectra: of its module, by name.
    sensitivity: gₖ by example and component.
    module: its module.
    component: its number.
    gain: α.

    Raises `PolicyError` for a component that does not exist, a gain below 0, and as `pulls` does.
    """
    one = spectra.get(module)
    if one is None or not 0 <= component < one.rank or not (np.isfinite(gain) and gain >= 0):
        raise PolicyError(
            f"component {component!r} of {module!r} cannot be given gain {gain!r}",
            "name a module of this adapter, one of its components and a gain from 0 up",
        )
    after = one.sigma.copy()
    after[component] *= gain
    edit = Edit({module: ModuleEdit(gains_of(one.sigma, after), one.sigma, after)})
    _, own = _own(sensitivity, spectra, edit)
    return Pulls(own, own, False, edit.sigma_after)


def _own(
    sensitivity: Sensitivity | None, spectra: Spectra, edit: Edit
) -> tuple[Sensitivity, Float64[ndarray, " example"]]:
    """The measurement, checked, and gᵢ·δ of the edit itself."""
    measured = checked_sensitivity(sensitivity, spectra, list(edit.modules), needs_q=False)
    if measured.label_free:
        raise PolicyError(
            "answers drawn from the model itself do not say whom an edit helps",
            "measure the answers of the rows instead",
        )
    (own,) = predictions(edit_as_fold(edit, measured), measured)
    if not np.isfinite(own).all():
        raise PolicyError(
            "the edit moves components whose measurement is not a number",
            "leave them at gain 1, or calibrate again",
        )
    return measured, own
