"""Effects, corrected tests and places among controls, against plain recomputations."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.cli import evaluation_text
from surgery.errors import DataError
from surgery.evaluation import (
    AGAIN,
    BASELINE,
    EXACT,
    LOSS,
    Evaluation,
    Sample,
    is_random_control,
    row_scores,
    summarise,
)
from tests.helpers.refusals import refusal

NAMES = (BASELINE, "edit", "scale", "random 0", "random 1", "random 2", AGAIN)


def evaluation(losses, exacts, names=NAMES) -> Evaluation:
    samples = tuple(Sample(str(i), "", "") for i in range(len(losses[0])))
    scores = {
        name: row_scores(np.array(loss, dtype=float), np.array(exact, dtype=float), [""] * len(loss))
        for name, loss, exact in zip(names, losses, exacts, strict=True)
    }
    return Evaluation(scores, samples)


@st.composite
def evaluations(draw):
    n = draw(st.integers(2, 12))
    finite = st.floats(-100, 100).map(lambda value: round(value, 3))
    rows = st.lists(finite, min_size=n, max_size=n)
    right = st.lists(st.sampled_from([0, 1]), min_size=n, max_size=n)
    return evaluation([draw(rows) for _ in NAMES], [draw(right) for _ in NAMES])


def mcnemar_p(before: list[float], after: list[float]) -> float:
    """Two-sided sign test of the examples that changed, by counting."""
    gained = sum(a > b for a, b in zip(after, before, strict=True))
    lost = sum(a < b for a, b in zip(after, before, strict=True))
    n, few = gained + lost, min(gained, lost)
    return min(1.0, 2 * sum(comb(n, k) for k in range(few + 1)) / 2**n)


def holm_p(p: dict[str, float]) -> dict[str, float]:
    """Holm's adjusted p by its definition: the largest of (m − j) · p over the tests up to each one."""
    order = sorted(p, key=lambda name: p[name])
    return {
        name: max(min(1.0, (len(order) - j) * p[order[j]]) for j in range(order.index(name) + 1)) for name in order
    }


@given(evaluations())
def test_an_effect_is_the_mean_of_paired_differences(found):
    for name in found.variants:
        for metric in ("loss", "exact"):
            pairs = zip(found.numbers(name, metric), found.numbers(BASELINE, metric), strict=True)
            d = [float(a - b) for a, b in pairs]
            mean = sum(d) / len(d)
            error = (sum((x - mean) ** 2 for x in d) / (len(d) - 1) / len(d)) ** 0.5
            effect = found.effect(name, metric)
            assert effect.mean == pytest.approx(mean, abs=1e-9)
            assert effect.standard_error == pytest.approx(error, abs=1e-9)
            assert min(d) - 1e-9 <= effect.low <= effect.high <= max(d) + 1e-9
            assert effect.certain == (effect.low > 0 or effect.high < 0)
            assert effect is found.effect(name, metric), "resampled once"


@given(evaluations())
def test_tests_are_corrected_for_all_variants_without_the_rerun(found):
    before = found.scores[BASELINE].exact.tolist()
    p = {name: mcnemar_p(before, found.scores[name].exact.tolist()) for name in found.variants}
    assert {name: test.p for name, test in found.tests("exact").items()} == pytest.approx(p)
    expected = holm_p({name: value for name, value in p.items() if name != AGAIN})
    assert found.adjusted("exact") == pytest.approx(expected)
    assert AGAIN not in found.adjusted("exact")


@given(evaluations(), st.sampled_from(["edit", "scale"]))
def test_a_permutation_rank_counts_the_controls_that_do_worse(found, name):
    for metric, sign in (("loss", -1), ("exact", 1)):
        own = found.effect(name, metric).mean
        others = [found.effect(f"random {seed}", metric).mean for seed in range(3)]
        beaten = sum(sign * own > sign * other for other in others)
        rank = found.permutation_rank(name, metric)
        assert (rank.beaten, rank.controls, rank.p) == (beaten, 3, (4 - beaten) / 4)


def test_the_headline_is_the_first_metric():
    found = evaluation([[1, 2], [3, 5]], [[0, 1], [1, 1]], NAMES[:2])
    assert found.effect("edit") == found.effect("edit", "loss")
    assert found.effect("edit").mean == 2.5
    assert found.metrics == (LOSS, EXACT)
    assert "loss, exact" in refusal(DataError, found.metric, "bleu")


def test_scores_that_are_not_right_or_wrong_have_no_exact_test():
    found = evaluation([[1, 2], [3, 5]], [[0, 1], [np.nan, 1]], NAMES[:2])
    assert found.tests("loss") == found.tests("exact") == {}
    assert found.adjusted("exact") == {}


def test_without_random_controls_there_is_no_place():
    found = evaluation([[1, 2], [3, 5]], [[0, 1], [1, 1]], NAMES[:2])
    assert found.permutation_rank("edit", "loss") is None
    assert found.controls == ()
    unknown = evaluation([[1, 2], [3, 5], [1, 1]], [[0, 1], [1, 1], [np.nan, 1]], (BASELINE, "edit", "random 0"))
    assert unknown.permutation_rank("edit", "exact") is None
    assert unknown.permutation_rank("edit", "loss").controls == 1


def test_the_rerun_and_the_rescaling_are_no_random_controls():
    assert [name for name in NAMES if is_random_control(name)] == ["random 0", "random 1", "random 2"]


def test_few_examples_come_with_a_caution_on_the_page_and_in_the_report():
    few, enough = evaluation([[0.5] * 23] * 7, [[1.0] * 23] * 7), evaluation([[0.5] * 24] * 7, [[1.0] * 24] * 7)
    assert few.caution.startswith("The 95 % intervals of 23 examples are too narrow")
    assert few.caution in evaluation_text(summarise(few))
    assert enough.caution == ""
    assert "narrow" not in evaluation_text(summarise(enough))


def test_the_report_tells_p_corrected_for_all_variants():
    right = [[0.0] * 8, [1.0] * 6 + [0.0] * 2, *([[0.0] * 8] * 3)]
    names = (BASELINE, "edit", "random 0", "random 1", "random 2")
    found = summarise(evaluation([[1.0] * 8] * 5, right, names))
    test = found.variants["edit"].tests["exact"]
    assert (test.p, test.holm) == pytest.approx((2 / 2**6, 4 * 2 / 2**6))
    assert "gained 6, lost 0, p 0.125" in evaluation_text(found)


def test_joining_adds_variants_and_says_each_note_once():
    first = evaluation([[1, 2]], [[0, 1]], (BASELINE,))
    second = evaluation([[1, 3]], [[1, 1]], (AGAIN,))
    first = Evaluation(first.scores, first.samples, aggregates={BASELINE: {"acc": 0.5}}, notes=("a", "b"))
    second = Evaluation(second.scores, second.samples, aggregates={AGAIN: {"acc": 1.0}}, notes=("b", "c"))
    joined = first.joined(second)
    assert list(joined.scores) == [BASELINE, AGAIN]
    assert joined.aggregates == {BASELINE: {"acc": 0.5}, AGAIN: {"acc": 1.0}}
    assert joined.notes == ("a", "b", "c")
    assert joined.samples == first.samples
    assert joined.effect(AGAIN).mean == 0.5
