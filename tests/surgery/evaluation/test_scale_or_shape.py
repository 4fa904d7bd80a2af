"""The share of an edit's effect that a control explains: the ratio, Fieller's interval, and where neither is told."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from surgery.evaluation import (
    BASELINE,
    LOSS,
    SAME_ENERGY,
    SAME_NORM,
    SHAPE_CONTROLS,
    SHAPE_ONLY,
    Evaluation,
    Sample,
    explained_share,
    is_shape_control,
    parse_summary,
    row_scores,
    scale_or_shape,
    shares_of,
    summarise,
    summary_record,
)


def changes(count: int, seed: int, whole: float = -0.03, share: float = 0.5, noise: float = 0.02):
    """Changes by an edit and by a control that has a share of each, and noise of its own."""
    rng = np.random.default_rng(seed)
    edit = rng.normal(whole, 0.05, count)
    return edit, share * edit + rng.normal(0, noise, count)


@pytest.mark.parametrize("seed", range(5))
def test_the_ends_of_the_interval_are_the_ratios_that_the_data_just_refuse(seed):
    edit, control = changes(80, seed)
    found = explained_share(edit, control)
    assert found.share == pytest.approx(math.fsum(control) / math.fsum(edit), rel=1e-12)
    assert found.low < found.share < found.high
    for ratio in (found.low, found.high):
        left = control - ratio * edit
        statistic = left.mean() / (left.std(ddof=1) / math.sqrt(left.size))
        assert abs(statistic) == pytest.approx(student.ppf(0.975, 79), rel=1e-9)


def test_the_interval_holds_the_true_share_as_often_as_it_says():
    held = 0
    for seed in range(1000):
        found = explained_share(*changes(60, seed))
        held += found.low <= 0.5 <= found.high
    # of 1000 at 95 %, five standard deviations of a binomial count
    assert abs(held - 950) <= 5 * math.sqrt(1000 * 0.95 * 0.05)


@given(st.floats(-3, 3).filter(lambda x: abs(x) > 1e-3), st.integers(0, 20))
def test_a_control_that_does_a_fixed_part_of_the_edit_has_that_share_exactly(part, seed):
    edit, _ = changes(200, seed)
    found = explained_share(edit, part * edit)
    # the ends are roots of a parabola that touches 0: half the digits are left
    assert (found.share, found.low, found.high) == pytest.approx((part, part, part), rel=1e-6, abs=1e-6)


def test_of_an_edit_within_noise_no_share_is_told():
    edit, control = changes(60, 1, whole=0.0)
    found = explained_share(edit - edit.mean(), control)
    assert math.isnan(found.share)
    assert "within noise" in found.why
    assert "few" in explained_share(edit[:1], control[:1]).why


def test_shares_of_macro_means_weigh_the_parts_alike():
    edit, control = changes(90, 3)
    parts = ["a"] * 60 + ["b"] * 30
    found = explained_share(edit, control, parts=parts)
    means = [np.mean([each[:60].mean(), each[60:].mean()]) for each in (control, edit)]
    assert found.share == pytest.approx(means[0] / means[1], rel=1e-12)
    assert found.low < found.share < found.high


def evaluated(edit, control, shape) -> Evaluation:
    n = edit.size
    before, none = np.full(n, 1.0), np.full(n, np.nan)
    scores = {BASELINE: before, "edit": before + edit, "other": before + control, "its shape": before + shape}
    return Evaluation(
        {name: row_scores(loss, none, ("",) * n) for name, loss in scores.items()},
        tuple(Sample(str(i), "", "") for i in range(n)),
        (LOSS,),
        shape_controls={"edit": {SAME_ENERGY: "other", SHAPE_ONLY: "its shape"}},
    )


def test_an_evaluation_tells_the_shares_of_each_edit_and_a_record_keeps_them():
    edit, control = changes(80, 4, share=0.1)
    found = evaluated(edit, control, 0.9 * edit)
    assert shares_of(found, "other") == {}
    shares = shares_of(found, "edit")
    assert list(shares) == [SAME_ENERGY, SHAPE_ONLY]
    assert shares[SAME_ENERGY]["loss"] == explained_share((1 + edit) - 1, (1 + control) - 1)
    summary = summarise(found)
    assert parse_summary(summary_record(summary)) == summary
    (said,) = scale_or_shape(summary)
    share, alone = shares[SAME_ENERGY]["loss"], found.effect("its shape", "loss")
    assert said == (
        f"Scale or shape, edit, answer loss: a plain scale at the same functional energy explains "
        f"{100 * share.share:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}] of the edit's {edit.mean():+.4f}; "
        f"its shape alone, at the old energy, makes {alone.mean:+.4f} ± {alone.standard_error:.4f}, 90 % [90, 90] of it."
    )


def test_where_no_share_is_told_the_sentence_says_why_and_what_the_shape_does():
    edit, control = changes(80, 4, whole=0.0)
    edit -= edit.mean()
    summary = summarise(evaluated(edit, control, np.full(80, -0.01)))
    (said,) = scale_or_shape(summary)
    assert "is not told, because the edit's own change is within noise" in said
    assert "its shape alone, at the old energy, makes -0.0100 ± 0.0000." in said
    assert "nan" not in said
    assert all(math.isnan(v) for v in parse_summary(summary_record(summary)).variants["edit"].shares[SAME_ENERGY]["loss"].__dict__.values() if isinstance(v, float))  # fmt: skip


def test_evaluations_without_such_controls_say_nothing_and_keep_the_record_of_earlier_versions():
    edit, control = changes(30, 4)
    from dataclasses import replace

    summary = summarise(replace(evaluated(edit, control, edit), shape_controls={}))
    assert scale_or_shape(summary) == ()
    assert "shares" not in summary_record(summary)["variants"]["edit"]


def test_names_of_these_controls_are_reserved_with_and_without_whose_they_are():
    assert all(is_shape_control(name) and is_shape_control(f"{name} of mine") for name in SHAPE_CONTROLS)
    assert not any(map(is_shape_control, ("edit", "shape only-ish", "scale", f"my {SAME_NORM}")))
