"""A look inside a module on rows of a stored calibration."""

import math
from dataclasses import replace

import numpy as np
import pytest

from surgery.errors import DataError
from surgery.microscope import Subject, chosen_rows, look_inside
from surgery.sensitivity import calibrate
from tests.helpers.models import relative
from tests.helpers.rounding import sensitivities_apart

NAME = "model.layers.1.self_attn.o_proj"


@pytest.fixture
def small(plan):
    return replace(plan, examples=12, batch_size=4)


def test_a_look_tells_what_a_component_reads_and_writes_and_which_tokens_make_it_harmful(loaded, small):
    measured = calibrate(loaded, small)
    rows = chosen_rows(measured, NAME, 1, 3)
    found = look_inside(loaded, small, Subject(measured, NAME, rows))
    np.testing.assert_array_equal(found.g, measured.values[NAME][list(rows)])
    for row, sums in enumerate(found.sums()):
        longest = math.sqrt(found.seen.lengths[row])
        assert relative(sums, found.g[row]) < sensitivities_apart(loaded.model, longest)
        assert len(found.tokens[row]) == len(found.shares(row))
    readings = found.readings(1)
    sizes = [abs(reading.value) for reading in readings]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(np.abs(found.seen.projected[found.seen.first, 1]).max())
    starts = np.cumsum([0, *found.seen.lengths])
    for place, reading in enumerate(readings):
        assert reading.value == found.seen.projected[starts[reading.row] + reading.token, 1]
        below = (found.seen.random[:, place] < abs(reading.value)).mean()
        assert reading.share == below
        assert reading.beyond_random == (below >= 0.95)
    plus, minus = found.writings(1)
    for side, writing in enumerate((plus, minus)):
        text, logit, _ = writing.tokens[0]
        assert logit == found.lens.logits[1, side, 0]
        assert text == loaded.base.tokenizer.convert_ids_to_tokens(int(found.lens.tokens[1, side, 0]))
        assert writing.share == (found.lens.random < logit).mean()


def test_a_module_without_a_lens_says_why(loaded, small):
    measured = calibrate(loaded, small)
    name = "model.layers.1.self_attn.v_proj"
    found = look_inside(loaded, small, Subject(measured, name, (0, 1)))
    assert found.writings(0) is None
    assert "does not write into the residual stream" in found.no_lens
    assert found.readings(0)


def test_rows_that_are_not_the_measurements_are_refused(loaded, small):
    measured = calibrate(loaded, small)
    with pytest.raises(DataError, match="not those of the stored"):
        look_inside(loaded, replace(small, seed=1), Subject(measured, NAME, (0,)))
    for rows in ((), (12,), (-1,)):
        with pytest.raises(DataError, match="not among the 12 measured"):
            look_inside(loaded, small, Subject(measured, NAME, rows))
    with pytest.raises(DataError, match="not measured"):
        look_inside(loaded, small, Subject(measured, "elsewhere", (0,)))
    keys = {
        Subject(measured, name, rows).key for name, rows in ((NAME, (0, 1)), (NAME, (1, 0)), ("other", (0, 1)))
    }
    assert len(keys) == 3
