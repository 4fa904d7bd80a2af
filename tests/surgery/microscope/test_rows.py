"""Which rows a component is looked at on."""

import numpy as np
import pytest

from surgery.errors import DataError
from surgery.microscope import chosen_rows
from tests.helpers.policies import measured

G = np.array([[0.5], [-0.1], [2.0], [0.0], [-3.0], [0.1]])


def test_rows_are_the_harmed_from_the_most_down_and_then_the_helped():
    assert chosen_rows(measured({"m": G}), "m", 0, 8) == (2, 0, 5, 4, 1)
    assert chosen_rows(measured({"m": G}), "m", 0, 1) == (2, 4)


def test_what_cannot_be_looked_at_is_refused():
    with pytest.raises(DataError, match="not measured"):
        chosen_rows(measured({"m": G}), "other", 0)
    with pytest.raises(DataError, match="no component 1"):
        chosen_rows(measured({"m": G}), "m", 1)
    with pytest.raises(DataError, match="ask for 1 to 32"):
        chosen_rows(measured({"m": G}), "m", 0, 33)
    with pytest.raises(DataError, match="no row's loss depends"):
        chosen_rows(measured({"m": np.zeros((4, 1))}), "m", 0)
