"""The plans of a demo lead to its own slices."""

import pytest

from surgery.data import read_slices
from surgery.files import DEMO_BASE, demo_names
from surgery.recipes import demo_plans


@pytest.mark.parametrize("name", demo_names())
def test_the_slices_of_a_demo_share_no_row(name):
    base, calibration, evaluation = demo_plans(f"demo:{name}")
    assert base.location == DEMO_BASE
    assert (calibration.data, evaluation.data) == (f"demo:{name}/calibration", f"demo:{name}/test")
    found = read_slices([calibration], evaluation)
    assert len(found.seen[calibration].rows) == calibration.examples
    assert found.held_out
