"""A margin is for right answers or for the loss, its verdict is kept with the summary, and told in words that fit."""

import numpy as np
import pytest

from surgery.data import Margins
from surgery.evaluation import (
    AGAIN,
    BASE,
    BASELINE,
    EXACT,
    INCONCLUSIVE,
    INFERIOR,
    LOSS,
    NOT_INFERIOR,
    WORD_ACCURACY,
    Evaluation,
    Metric,
    NonInferiority,
    Sample,
    comparison,
    margin_of,
    margin_text,
    margin_verdicts,
    non_inferiority,
    parse_summary,
    row_scores,
    summarise,
    summary_record,
)
from surgery.files import without_nan


def evaluation(margins: Margins | None, count: int = 200) -> Evaluation:
    """An edit that is as good, one that is worse in both ways, a random control and the rerun."""
    loss, right = np.linspace(0.5, 1.5, count), np.tile([0.0, 1.0], count // 2)
    worse = np.where(np.arange(count) < count // 2, 0.0, right)
    names = (BASELINE, "small", "broken", "random 0", AGAIN, BASE)
    losses, answers = (loss, loss, loss + 0.1, loss, loss, loss), (right, right, worse, right, right, worse)
    scores = {name: row_scores(a, b, [""] * count) for name, a, b in zip(names, losses, answers, strict=True)}
    samples = tuple(Sample(str(n), "", "") for n in range(count))
    return Evaluation(scores, samples, own_controls={"small": ("random 0",)}, margins=margins)


def test_each_metric_has_the_margin_of_its_unit_or_none() -> None:
    margins = Margins(2.0, 0.01)
    kept_out = Metric("drift", "KL", higher_is_better=False, binary=False)
    wrong = Metric("refused", "refusals", higher_is_better=False, binary=True)
    assert [margin_of(m, margins) for m in (EXACT, WORD_ACCURACY, LOSS, kept_out, wrong)] == [
        0.02,
        0.02,
        0.01,
        None,
        None,
    ]
    assert [margin_of(m, Margins(None, 0.01)) for m in (EXACT, LOSS)] == [None, 0.01]
    assert margin_of(LOSS, None) is None


def test_a_summary_keeps_the_verdicts_of_edits_and_of_no_control() -> None:
    found = evaluation(Margins(2.0, 0.01))
    summary = summarise(found)
    verdicts = {
        name: {key: each.verdict for key, each in own.margins.items()} for name, own in summary.variants.items()
    }
    assert verdicts["small"] == {"loss": NOT_INFERIOR, "exact": NOT_INFERIOR}
    assert verdicts["broken"] == {"loss": INFERIOR, "exact": INFERIOR}
    assert verdicts[BASELINE] == verdicts["random 0"] == verdicts[AGAIN] == verdicts[BASE] == {}
    before, after = (found.numbers(name, "exact") for name in (BASELINE, "broken"))
    expected = non_inferiority(before, after, 0.02, binary=True, higher_is_better=True)
    assert comparison(found, "broken", "exact") == expected
    # as texts: rates without examples are no numbers, and NaN equals no NaN
    assert repr(parse_summary(without_nan(summary_record(summary)))) == repr(summary)
    assert [said.partition(":")[0] for said in margin_verdicts(summary)] == [
        f"{name}, {title}" for name in ("small", "broken") for title in ("answer loss", "exact match")
    ]
    assert not margin_verdicts(summarise(evaluation(None)))


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        (
            (-0.001, -0.006, 0.004),
            "not inferior: at most 0.6 points worse (one-sided 95 % bound), within the margin of 1 point",
        ),
        ((0.02, 0.01, 0.03), "not inferior: no worse at all"),
        (
            (-0.04, -0.06, -0.02),
            "inferior: at least 2 points worse (one-sided 95 % bound), beyond the margin of 1 point",
        ),
        ((-0.005, -0.03, 0.02), "inconclusive: from 3 points worse to 2 points better (90 % interval)"),
        ((-0.02, -0.03, -0.005), "inconclusive: from 3 points worse to 0.5 points worse"),
        ((np.nan, np.nan, np.nan), "inconclusive: there is no interval"),
    ],
)
def test_words_say_how_near_the_margin_the_change_is(numbers: tuple[float, float, float], told: str) -> None:
    said = margin_text(EXACT, NonInferiority(0.01, *numbers))
    assert said.startswith(told)
    assert "no difference" not in said
    assert (NonInferiority(0.01, *numbers).verdict == INCONCLUSIVE) == said.startswith("inconclusive")


def test_losses_are_told_in_nats() -> None:
    said = margin_text(LOSS, NonInferiority(0.005, -0.001, -0.002, 0.0))
    assert said.startswith(
        "not inferior: at most 0.002 nats worse (one-sided 95 % bound), within the margin of 0.005 nats"
    )
