"""How what is expected of an edit grows with the calibration examples that shape it (paper §5.4, Table 4)."""

from math import isfinite

from surgery.edits.expectation import Expectation, expected
from surgery.edits.plan import EditPlan
from surgery.sensitivity import FEWEST, Sensitivity
from surgery.spectra import Spectra


def expected_by_budget(
    plan: EditPlan, spectra: Spectra, sensitivity: Sensitivity
) -> tuple[tuple[int, Expectation], ...]:
    """What is expected of a plan's edit from the first 32, 64, 128, … examples, and from all of them.

    plan: the edit.
    spectra: of all modules, by name.
    sensitivity: gₖ by example and component, of the edit's modules.

    Pairs of a number of examples and the expectation, which is cross-fitted within these examples alone. A number from
    which nothing can be expected is left out. Raises `PolicyError` as `make_edit` does.
    """
    found = []
    for count in budgets(sensitivity.examples):
        each = expected(plan, spectra, sensitivity.head(count))
        if each is not None and isfinite(each.mean):
            found.append((count, each))
    return tuple(found)


def budgets(examples: int) -> tuple[int, ...]:
    """32, doubled as long as there are examples, and all of them; none below the fewest that can be held out of."""
    doubled = (32 << power for power in range(examples.bit_length()))
    return (*(count for count in doubled if count < examples), *((examples,) if examples >= FEWEST else ()))
