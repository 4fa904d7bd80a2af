"""What theory says of an edit without a model: first-order change of the loss, counts, nuclear norm."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import Edit, ModuleEdit, make_edit, preview, summary
from surgery.policies import GradDirection, RandomIndex
from tests.helpers.policies import measured, spectrum


def test_preview_numbers_match_a_table_computed_by_hand():
    modules = {
        "a": ModuleEdit(np.array([1.5, 1.0, 0.0]), np.array([2.0, 1.0, 1.0]), np.array([3.0, 1.0, 0.0])),
        "b": ModuleEdit(np.ones(1), np.array([0.0]), np.array([0.0]), "zero"),
    }
    sensitivity = measured({"a": [[0.1, 9.0, 0.3], [0.2, 9.0, -0.1]], "b": [[5.0], [5.0]]})
    found = preview(Edit(modules), sensitivity)
    # example 1: 0.1·1 − 0.3·1; example 2: 0.2·1 + 0.1·1
    assert found.predicted == pytest.approx((-0.2 + 0.3) / 2)
    assert found.standard_error == pytest.approx(statistics.stdev([-0.2, 0.3]) / math.sqrt(2))
    assert (found.raised, found.lowered, found.zeroed) == (1, 1, 1)
    assert found.nuclear_norm_ratio == pytest.approx(1.0)
    assert found.nuclear_norm_moved == pytest.approx(0.25)
    plain = summary(Edit(modules))
    assert math.isnan(plain.predicted)
    assert math.isnan(plain.standard_error)
    assert (plain.raised, plain.lowered, plain.nuclear_norm_moved) == (1, 1, found.nuclear_norm_moved)


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_the_prediction_is_the_sum_of_gradient_times_change_over_all_modules(seed, n):
    rng = np.random.default_rng(seed)
    spectra = {name: spectrum(name, np.sort(rng.random(5) + 0.1)[::-1]) for name in ("x.o_proj", "y.o_proj")}
    g = {name: rng.standard_normal((n, 5)) for name in spectra}
    edit = make_edit(spectra, GradDirection(), sensitivity=measured(g))
    per_example = [
        math.fsum(
            g[name][i, k] * (edit.modules[name].sigma_after[k] - spectra[name].sigma[k])
            for name in spectra
            for k in range(5)
        )
        for i in range(n)
    ]
    found = preview(edit, measured(g))
    assert found.predicted == pytest.approx(statistics.fmean(per_example), rel=1e-9, abs=1e-12)
    assert found.standard_error == pytest.approx(statistics.stdev(per_example) / math.sqrt(n), rel=1e-9)


@given(st.integers(0, 10_000))
def test_stepping_against_the_gradient_predicts_a_lower_loss(seed):
    rng = np.random.default_rng(seed)
    spectra = {"o_proj": spectrum("o_proj", np.sort(rng.random(6) + 0.1)[::-1])}
    sensitivity = measured({"o_proj": rng.standard_normal((4, 6))})
    edit = make_edit(spectra, GradDirection(), sensitivity=sensitivity, energy="none")
    assert preview(edit, sensitivity).predicted < 0


def test_what_stays_adds_nothing_to_the_prediction_even_where_it_was_not_measured_well():
    spectra = {name: spectrum(name, [2.0, 1.0]) for name in ("a.o_proj", "b.o_proj", "c.q_proj")}
    g = {"a.o_proj": [[1.0, -1.0]] * 2, "b.o_proj": [[math.nan, 1.0]] * 2, "c.q_proj": [[math.inf, 0.0]] * 2}
    edit = make_edit(spectra, GradDirection(), sensitivity=measured(g))
    assert list(edit.skipped) == ["b.o_proj"]
    alone = make_edit(spectra, GradDirection(), sensitivity=measured(g), scope="a.o_proj")
    assert preview(edit, measured(g)).predicted == pytest.approx(preview(alone, measured(g)).predicted, rel=1e-15)
    moved = make_edit(spectra, RandomIndex(amp=2.0), sensitivity=measured(g))
    assert math.isnan(preview(moved, measured(g)).predicted)


def test_there_is_no_preview_without_measurements_and_no_error_from_one_example():
    names = ("model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj")
    edit = make_edit({name: spectrum(name, [4.0, 3.0, 2.0, 1.0]) for name in names}, RandomIndex())
    assert preview(edit, None) is None
    assert preview(edit, measured({"model.layers.0.mlp.up_proj": np.ones((2, 4))})) is None
    one = preview(edit, measured({name: np.ones((1, 4)) for name in edit.modules}))
    assert math.isfinite(one.predicted)
    assert math.isnan(one.standard_error)
