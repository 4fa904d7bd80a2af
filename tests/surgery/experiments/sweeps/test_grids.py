"""The edits of a sweep's grids, each once, and the helpers that read its lists."""

import pytest

from surgery.errors import SweepError
from surgery.experiments.sweeps import grids
from surgery.policies import Power, Scale


def test_every_combination_is_an_edit_and_those_that_became_equal_are_one():
    grid = {
        "policies": ["power", "scale"],
        "scopes": ["all", "residual"],
        "budgets": [64, 128],
        "strengths": [1, 0.5],
    }
    assert len(grids.swept_edits([grid], None)) == 2**4
    cut = grids.swept_edits([grid], 32)
    assert len(cut) == 2**3
    assert {edit.budget for edit in cut} == {32}
    assert {type(edit.plan.policy) for edit in cut} == {Power, Scale}


@pytest.mark.parametrize(
    "value", [None, [], {}, [{"scopes": ["all"]}], [{"policies": ["power"], "knobs": 1}], ["power"]]
)
def test_what_is_no_list_of_grids_is_refused(value):
    with pytest.raises(SweepError):
        grids.swept_edits(value, None)


def test_lists_and_whole_numbers_are_what_they_say():
    assert grids.list_of({"a": [1, 2]}, "a", "here", int) == [1, 2]
    assert grids.list_of({}, "a", "here", int, [7]) == [7]
    assert grids.whole_number(3, "here", 1) == 3
    for bad in ([], "1", [True], [1.5]):
        with pytest.raises(SweepError, match=r"here\.a"):
            grids.list_of({"a": bad}, "a", "here", int)
    for number in (0, True, 1.0, "1"):
        with pytest.raises(SweepError, match="whole number from 1"):
            grids.whole_number(number, "here", 1)
