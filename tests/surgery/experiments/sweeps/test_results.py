"""Results of a sweep, cell by cell."""

import pytest

from surgery.experiments.sweeps import results
from tests.surgery.experiments.sweeps.conftest import swept_from


def test_p_values_are_corrected_for_the_whole_sweep_not_for_one_pass(place):
    swept = swept_from(place, variants_at_once=1)
    found = results(swept)
    # the budgets that random_index does not read share one variant, so six tests were made
    raw = {each.cell.variant: each for each in found}
    assert len(raw) == 6
    smallest = min(
        run.metrics.summary.variants[name].tests["exact"].p for group, run in swept.runs for name in group.edits
    )
    assert min(each.holm["exact"] for each in found) == pytest.approx(min(1.0, 6 * smallest))
