"""Reward against risk: gains and costs by the direction of each metric, and the mean over guards by hand."""

import numpy as np
import pytest

from surgery.evaluation import (
    BASELINE,
    EXACT,
    KL_UNEDITED,
    LOSS,
    Evaluation,
    Sample,
    Scores,
    paired_effect,
    task_outcomes,
)

RNG = np.random.default_rng(5)


def rows(count: int, *metrics) -> Evaluation:
    """Scores of the unedited adapter and two others on rows."""

    def numbers(metric):
        return RNG.integers(0, 2, count).astype(float) if metric.binary else RNG.normal(1.0, 0.2, count)

    scores = {
        name: Scores({metric.name: numbers(metric) for metric in metrics}, ("",) * count)
        for name in (BASELINE, "edit", "other")
    }
    return Evaluation(scores, tuple(Sample(f"{n}", "", "") for n in range(count)), metrics)


def test_gain_and_cost_follow_the_direction_of_the_metric_and_shares_are_told_in_points():
    own = rows(30, LOSS, EXACT)
    loss, exact = task_outcomes(("own", own), [])
    for outcome, metric, sign in ((loss, "loss", -1), (exact, "exact", 100)):
        change = own.effect("edit", metric)
        gain, cost = outcome.gain("edit"), outcome.cost("edit")
        assert gain.mean == sign * change.mean
        assert gain.standard_error == abs(sign) * change.standard_error
        assert [gain.low, gain.high] == sorted([sign * change.low, sign * change.high])
        assert (cost.mean, cost.low, cost.high) == (-gain.mean, -gain.high, -gain.low)
    assert not loss.guard
    assert loss.examples == 30
    assert loss.mean == own.mean(BASELINE, "loss")


def test_every_question_is_told_by_its_headline_by_right_answers_and_by_kl():
    text = rows(25, LOSS, KL_UNEDITED)
    found = task_outcomes(("own", rows(30, LOSS, EXACT)), [("text", text), ("task", rows(24, EXACT))])
    assert [(each.question, each.metric.name, each.guard) for each in found] == [
        ("own", "loss", False),
        ("own", "exact", False),
        ("text", "loss", True),
        ("text", "kl", True),
        ("task", "exact", True),
    ]


def test_the_mean_over_guards_weighs_them_the_same_and_resamples_within_each():
    first, second = rows(40, LOSS, EXACT), rows(10, EXACT)
    *_, macro = task_outcomes(("own", rows(5, EXACT)), [("a", first), ("b", second)])
    assert (macro.question, macro.examples, macro.guard) == ("2 guards", 50, True)
    means = [each.effect("edit", "exact").mean for each in (first, second)]
    assert macro.gain("edit").mean == pytest.approx(100 * np.mean(means))
    numbers = [np.concatenate([each.numbers(n, "exact") for each in (first, second)]) for n in (BASELINE, "edit")]
    expected = paired_effect(*numbers, parts=["a"] * 40 + ["b"] * 10)
    assert macro.changes["edit"] == expected
    assert macro.mean == pytest.approx(np.mean([each.mean(BASELINE, "exact") for each in (first, second)]))
