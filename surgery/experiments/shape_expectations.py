"""What is expected on held-out rows of an edit and of its controls of scale and shape, without a model.

Every control is made from the edit of each fold, so the rows that judge it have not shaped it either.
"""

from dataclasses import replace

from surgery.edits import Edit, EditPlan, Expectation, expected_from, fold_edits
from surgery.evaluation import SAME_SUM
from surgery.experiments.control_edits import CONTROLS, EDIT
from surgery.experiments.scale_or_shape import READS_Q, flat_of, input_energies
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra


def shape_expectations(
    plan: EditPlan, spectra: Spectra, sensitivity: Sensitivity, edit: Edit | None = None
) -> dict[str, Expectation]:
    """The expected change of the loss by the edit, under the name `edit`, and by each of its controls.

    plan: the edit.
    spectra: of all modules, by name.
    sensitivity: gₖ by example and component of its modules, and what enters them: without that the controls that read
        it are missing.
    edit: of the plan, where it is known.

    Empty where the examples are too few for folds. The scale at the same nuclear norm is left out: under rule l1 it is
    no edit. Raises `PolicyError` as `make_edit` does.
    """
    folds = fold_edits(plan, spectra, sensitivity)
    if folds is None:
        return {}
    edit = plan.apply(spectra, sensitivity) if edit is None else edit
    energies = input_energies(sensitivity)
    flat = flat_of(edit, spectra, energies)
    found = {EDIT: expected_from(folds, sensitivity)}
    for name, control in CONTROLS.items():
        if name != SAME_SUM and (energies or control not in READS_Q):
            found[name] = expected_from(replace(folds, after=control(flat, folds.after, 0)), sensitivity)
    return found
