"""The ledger of right answers against a count by hand, Wilson's interval of scipy and the identities that it obeys."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from surgery.errors import DataError
from surgery.evaluation import (
    BASE,
    BASELINE,
    LOSS,
    OUTCOMES,
    RATES,
    Evaluation,
    Ledger,
    Metric,
    Sample,
    Scores,
    averaged,
    in_words,
    ledger,
    ledger_record,
    ledgers_by_part,
    ledgers_of,
    outcomes,
    paired_effect,
    parse_ledger,
)
from surgery.files import without_nan

ACC = Metric("acc", "accuracy", higher_is_better=True, binary=True)
triples = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)
few = settings(max_examples=20)


def columns(rows) -> list[np.ndarray]:
    return [np.array(column, dtype=float) for column in zip(*rows, strict=True)]


def share(rows, numerator, denominator) -> Fraction | None:
    """By hand, one example after the other."""
    above = below = 0
    for row in rows:
        below += denominator(*row)
        above += denominator(*row) and numerator(*row)
    return Fraction(int(above), int(below)) if below else None


BY_HAND = {
    "recovery": (lambda b, a, e: e == 1, lambda b, a, e: b == 1 and a == 0),
    "retention": (lambda b, a, e: e == 1, lambda b, a, e: b == 0 and a == 1),
    "new_success": (lambda b, a, e: e == 1 and b == a == 0, lambda b, a, e: True),
    "new_damage": (lambda b, a, e: e == 0 and b == a == 1, lambda b, a, e: True),
}


@few
@given(triples)
def test_counts_and_rates_are_those_of_a_count_by_hand_with_wilsons_intervals(rows):
    found = ledger(*columns(rows))
    assert found.counts == {key: sum(f"{b}{a}{e}" == key for b, a, e in rows) for key in OUTCOMES}
    assert found.examples == len(rows)
    for name, (numerator, denominator) in BY_HAND.items():
        expected, rate = share(rows, numerator, denominator), found.rates[name]
        if expected is None:
            assert math.isnan(rate.value)
            assert math.isnan(rate.low)
            assert math.isnan(rate.high)
            assert (rate.count, rate.of) == (0, 0)
            continue
        assert rate.value == pytest.approx(float(expected), rel=1e-15)
        assert Fraction(rate.count, rate.of) == expected
        theirs = binomtest(rate.count, rate.of).proportion_ci(0.95, method="wilson")
        assert (rate.low, rate.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
        assert 0 <= rate.low <= rate.value <= rate.high <= 1


@few
@given(triples)
def test_a_gap_is_the_clipped_loss_against_the_base_with_the_paired_interval_of_the_difference(rows):
    base, adapter, edited = columns(rows)
    found = ledger(base, adapter, edited)
    for gap, variant in ((found.unedited, adapter), (found.edited, edited)):
        effect = paired_effect(base, variant)
        np.testing.assert_array_equal(  # NaN of one example equals NaN
            [gap.difference.mean, gap.difference.standard_error, gap.difference.low, gap.difference.high],
            [effect.mean, effect.standard_error, effect.low, effect.high],
        )
        assert gap.value == pytest.approx(max(0.0, base.mean() - variant.mean()), abs=1e-14)
        if len(rows) > 1:
            assert 0 <= gap.low <= gap.value <= gap.high
    n = found.counts
    moved = n["001"] + n["011"] - n["100"] - n["110"]
    assert found.edited.difference.mean == pytest.approx(moved / len(rows), abs=1e-15)


@few
@given(triples, st.randoms(use_true_random=False))
def test_the_order_of_the_examples_says_nothing(rows, random):
    shuffled = random.sample(rows, len(rows))
    first, second = ledger(*columns(rows)), ledger(*columns(shuffled))
    assert first.counts == second.counts
    assert without_nan(ledger_record(first)["rates"]) == without_nan(ledger_record(second)["rates"])


@few
@given(triples)
def test_an_edit_that_does_nothing_recovers_nothing_and_keeps_everything(rows):
    base, adapter, _ = columns(rows)
    rates = ledger(base, adapter, adapter).rates
    for name, expected in {"recovery": 0, "retention": 1, "new_success": 0, "new_damage": 0}.items():
        assert rates[name].value == expected or not rates[name].of
    assert without_nan(ledger_record(ledger(base, adapter, base))["edited"])["value"] == 0


def test_the_base_that_gets_nothing_right_has_no_recovery_rather_than_none():
    nothing, half = np.zeros(8), np.tile([0.0, 1.0], 4)
    rates = ledger(nothing, half, half).rates
    assert math.isnan(rates["recovery"].value)
    assert rates["retention"].value == 1.0


def by_tasks() -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(5)
    sizes = {"one": 40, "two": 12, "nothing broken": 9}
    rows = {name: [rng.integers(2, size=size).astype(float) for _ in range(3)] for name, size in sizes.items()}
    rows["nothing broken"][1] = np.maximum(*rows["nothing broken"][:2])
    return rows


@pytest.mark.parametrize("how", ["parts of one slice", "ledgers of tasks"])
def test_a_macro_mean_counts_every_task_alike_and_leaves_out_those_without_the_rate(how):
    rows = by_tasks()
    each = {name: ledger(*columns) for name, columns in rows.items()}
    assert not each["nothing broken"].rates["recovery"].of
    if how == "ledgers of tasks":
        found = averaged(each)
    else:
        names = [name for name, columns in rows.items() for _ in columns[0]]
        found = ledger(*map(np.concatenate, zip(*rows.values(), strict=True)), parts=names)
    assert found.counts == {key: sum(one.counts[key] for one in each.values()) for key in OUTCOMES}
    for rate in RATES:
        known = [one.rates[rate] for one in each.values() if one.rates[rate].of]
        assert len(known) == (2 if rate == "recovery" else 3)
        mean = sum(one.value for one in known) / len(known)
        below = math.sqrt(sum((one.value - one.low) ** 2 for one in known)) / len(known)
        above = math.sqrt(sum((one.high - one.value) ** 2 for one in known)) / len(known)
        assert (found.rates[rate].value, found.rates[rate].low, found.rates[rate].high) == pytest.approx(
            (mean, mean - below, mean + above)
        )
    for name in ("unedited", "edited"):
        difference = getattr(found, name).difference
        expected = [getattr(one, name).difference for one in each.values()]
        assert difference.mean == pytest.approx(np.mean([one.mean for one in expected]))
        error = math.sqrt(sum(one.standard_error**2 for one in expected)) / 3
        assert difference.standard_error == pytest.approx(error)


def test_the_gap_of_several_tasks_averages_clipped_gaps_so_that_one_gain_hides_no_loss():
    right, wrong = np.ones(30), np.zeros(30)
    mixed = np.tile([0.0, 1.0], 15)
    tasks = {"lost": ledger(right, right, mixed), "won": ledger(wrong, wrong, mixed)}
    found = averaged(tasks)
    assert found.edited.difference.mean == 0
    assert found.edited.value == 0.25
    assert found.edited.low < 0.25 < found.edited.high


def test_the_interval_of_a_mean_gap_holds_the_truth_where_clipped_noise_alone_would_not():
    """Eight tasks on which nothing is forgotten: the mean gap is above zero in nearly every draw, and zero is held."""
    rng, held, above = np.random.default_rng(0), 0, 0
    for _ in range(30):
        base = (rng.random((8, 40)) < 0.5).astype(float)
        edited = np.where(rng.random((8, 40)) < 0.3, rng.integers(2, size=(8, 40)), base).astype(float)
        gap = averaged({str(n): ledger(b, b, e) for n, (b, e) in enumerate(zip(base, edited, strict=True))}).edited
        held += gap.low == 0
        above += gap.value > 0
    assert above > 27
    assert held >= 25  # at 95 % fewer than 25 of 30 come up three times in a thousand


def test_one_task_alone_is_its_own_mean():
    found = ledger(*by_tasks()["one"])
    assert averaged({"one": found}) == found
    with pytest.raises(DataError, match="no task"):
        averaged({})


def test_scores_that_are_no_right_or_wrong_are_refused():
    with pytest.raises(DataError, match="0 or 1"):
        outcomes(np.array([0.5]), np.array([0.0]), np.array([1.0]))


def evaluation(parts: tuple[str, ...] = ("", "", "", "")) -> Evaluation:
    right = {BASELINE: [1, 0, 1, 0], "edit": [1, 1, 0, 0], BASE: [0, 1, 1, 0]}
    scores = {
        name: Scores({"acc": np.array(row, dtype=float), "loss": np.arange(4.0)}, ("a",) * 4)
        for name, row in right.items()
    }
    return Evaluation(scores, tuple(Sample(str(n), "q", "r", part) for n, part in enumerate(parts)), (ACC, LOSS))


def test_an_evaluation_with_a_base_has_a_ledger_for_each_metric_of_right_answers():
    found = ledgers_of(evaluation(), "edit")
    assert list(found) == ["acc"]
    assert {key: count for key, count in found["acc"].counts.items() if count} == {
        "011": 1,
        "101": 1,
        "110": 1,
        "000": 1,
    }
    assert ledgers_by_part(evaluation(), "edit", "acc") == {}
    assert ledgers_of(evaluation(), BASE) == ledgers_of(evaluation(), BASELINE) == {}
    without = Evaluation({BASELINE: evaluation().scores[BASELINE]}, evaluation().samples, (ACC,))
    assert ledgers_of(without, BASELINE) == {}


def test_a_group_has_a_ledger_for_each_of_its_tasks():
    of = evaluation(("x", "x", "y", "y"))
    found = ledgers_by_part(of, "edit", "acc")
    assert {name: one.examples for name, one in found.items()} == {"x": 2, "y": 2}
    whole = ledgers_of(of, "edit")["acc"]
    assert whole.rates["recovery"].value == found["x"].rates["recovery"].value == 1.0


@few
@given(triples)
def test_a_record_is_read_back_as_it_was(rows):
    found = ledger(*columns(rows))
    back = parse_ledger(json.loads(json.dumps(without_nan(ledger_record(found)))))
    assert isinstance(back, Ledger)
    assert repr(back) == repr(found)  # NaN equals no NaN


def test_the_ledger_is_told_in_words_that_need_no_formula():
    base, adapter, edited = (
        np.array([1, 1, 1, 0, 0, 0.0]),
        np.array([0, 0, 1, 1, 0, 0.0]),
        np.array([1, 0, 0, 1, 1, 0.0]),
    )
    assert in_words(ledger(base, adapter, edited), "hns") == (
        "Of 6 answers the base has 3 right. Training broke 2 of them, and hns gives 1 back. "
        "Of the rest it taught 1, and hns keeps 1. 1 that neither had right are new, and 1 that both had are lost."
    )
    assert "nothing to recover" in in_words(ledger(np.zeros(3), np.ones(3), np.ones(3)))
    assert "nothing to retain" in in_words(ledger(np.ones(3), np.ones(3), np.ones(3)))
