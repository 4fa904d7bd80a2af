"""The gains of layer groups slide as knobs do, one for each family and third that the edit is in."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.edits import (
    LARGEST_GAIN,
    EditPlan,
    LayerGroups,
    end_to_end,
    expected,
    grid_of,
    group_knobs,
    group_value,
    is_group_knob,
    knob_table,
    preview,
    with_group,
)
from surgery.errors import PolicyError
from surgery.policies import POLICIES, GradDirection, knobs_of
from tests.helpers.policies import measured, spectrum, with_protected

NAMES = [f"model.layers.{layer}.{path}" for layer in range(3) for path in ("self_attn.o_proj", "mlp.down_proj")]
SPECTRA = {name: spectrum(name, [4.0, 2.5, 1.0, 0.0]) for name in NAMES}
RNG = np.random.default_rng(5)
SENSITIVITY = measured({name: RNG.normal(0.1, 0.5, (24, 4)) for name in NAMES})
KNOBS = ["family: o_proj", "family: down_proj", "third: first", "third: middle", "third: last"]


def test_there_is_a_knob_for_each_family_and_each_third_that_the_edit_is_in():
    assert [knob.name for knob in group_knobs(SPECTRA, NAMES)] == KNOBS
    assert [knob.name for knob in group_knobs(SPECTRA, NAMES[4:5])] == ["family: o_proj", "third: last"]
    for knob in group_knobs(SPECTRA, NAMES):
        assert is_group_knob(knob.name)
        assert grid_of(knob).value(0) == 0
        assert grid_of(knob).value(grid_of(knob).last) == LARGEST_GAIN
    assert not any(is_group_knob(knob.name) for kind in POLICIES.values() for knob in knobs_of(kind))


@pytest.mark.parametrize("knob", KNOBS)
def test_a_knob_turns_its_group_and_no_other(knob):
    plan = EditPlan(groups=LayerGroups({"o_proj": 0.5}, (1.5, 1.0, 1.0), {"o_proj": (1.0, 0.7, 1.0)}))
    turned = with_group(plan, knob, 0.25)
    for each in KNOBS:
        assert group_value(turned, each) == (0.25 if each == knob else group_value(plan, each))
    assert turned.groups.both == plan.groups.both
    assert with_group(turned, knob, group_value(plan, knob)) == plan


@pytest.mark.parametrize("bad", ["third: 4", "third: ", "sixth: o", "eta"])
def test_what_is_no_group_is_refused(bad):
    with pytest.raises(PolicyError, match="no layer group"):
        with_group(EditPlan(), bad, 1.0)


@pytest.mark.parametrize("protect", [False, True])
@pytest.mark.parametrize("knob", KNOBS[1::2])
def test_the_table_of_a_group_holds_the_edits_and_expectations_of_its_values(knob, protect):
    sensitivity = with_protected(SENSITIVITY) if protect else SENSITIVITY
    plan = EditPlan(
        GradDirection(), strength=0.7, sigma_min=0.2, groups=LayerGroups({"o_proj": 0.5}), protect=protect
    )
    table = knob_table(SPECTRA, plan, knob, sensitivity)
    assert table.values.size == 41
    for row in (0, 10, 20, 40):
        turned = with_group(plan, knob, float(table.values[row]))
        edit = turned.apply(SPECTRA, sensitivity)
        assert table.gains[row] == pytest.approx(end_to_end(edit), rel=1e-12)
        assert table.numbers[row].predicted == pytest.approx(
            preview(edit, sensitivity).predicted, rel=1e-9, abs=1e-12
        )
        told, wanted = table.expectations[row], expected(turned, SPECTRA, sensitivity, edit)
        assert told is None or told.mean == pytest.approx(wanted.mean, rel=1e-9, abs=1e-12)
    assert table.expectations[0] is not None


def test_a_group_whose_adapter_was_not_measured_has_a_table_without_expectations():
    table = knob_table(SPECTRA, replace(EditPlan(POLICIES["rank"]()), scope="all"), KNOBS[0], None)
    assert not any(table.expectations)
    assert table.gains[20] == pytest.approx(
        end_to_end(EditPlan(POLICIES["rank"](), scope="all").apply(SPECTRA, None))
    )
