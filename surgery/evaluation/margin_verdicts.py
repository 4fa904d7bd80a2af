"""What the margins of an evaluation say of its variants: which metric each is for, and the finding in words."""

import math

from surgery.data import Margins
from surgery.evaluation.evaluation import AGAIN, BASELINE, Evaluation
from surgery.evaluation.labels import WORD_ACCURACY
from surgery.evaluation.metric import LOSS, Metric
from surgery.evaluation.non_inferiority import INFERIOR, NOT_INFERIOR, NonInferiority, non_inferiority


def margin_of(metric: Metric, margins: Margins | None) -> float | None:
    """The margin of a metric in its own numbers: of shares of right answers and of the loss, where one is named."""
    if margins is None:
        return None
    if (metric.binary and metric.higher_is_better) or metric == WORD_ACCURACY:
        return None if margins.points is None else margins.points / 100
    return margins.nats if metric.name == LOSS.name else None


def comparison(evaluation: Evaluation, variant: str, metric: str) -> NonInferiority | None:
    """Whether a variant is worse by no more than the margin of that metric; None where none was named."""
    about = evaluation.metric(metric)
    margin = margin_of(about, evaluation.margins)
    if margin is None:
        return None
    return non_inferiority(
        evaluation.numbers(BASELINE, metric),
        evaluation.numbers(variant, metric),
        margin,
        binary=about.binary,
        higher_is_better=about.higher_is_better,
        parts=evaluation.parts if about.macro else None,
    )


def comparisons_of(evaluation: Evaluation, variant: str) -> dict[str, NonInferiority]:
    """By metric, all of a variant's; none of the unedited adapter's rerun."""
    found = {metric.name: comparison(evaluation, variant, metric.name) for metric in evaluation.metrics}
    return {key: each for key, each in found.items() if each is not None and variant != AGAIN}


def margin_text(metric: Metric, found: NonInferiority) -> str:
    """What a margin says of one variant and metric, with the bound that it goes by."""
    margin = f"the margin of {_amount(found.margin, metric)}"
    if found.verdict == NOT_INFERIOR:
        most = f"at most {_amount(-found.low, metric)} worse" if found.low < 0 else "no worse at all"
        return f"not inferior: {most} (one-sided 95 % bound), within {margin}."
    if found.verdict == INFERIOR:
        return f"inferior: at least {_amount(-found.high, metric)} worse (one-sided 95 % bound), beyond {margin}."
    if math.isnan(found.low):
        return f"inconclusive: there is no interval to hold beside {margin}."
    better = f"{_amount(abs(found.high), metric)} {'better' if found.high > 0 else 'worse'}"
    return (
        f"inconclusive: from {_amount(-found.low, metric)} worse to {better} (90 % interval), which reaches across "
        f"{margin}; neither is shown."
    )


def _amount(value: float, metric: Metric) -> str:
    told, unit = (f"{value:.3g}", "nats") if metric.name == LOSS.name else (f"{100 * value:.3g}", "points")
    return f"{told} {unit.removesuffix('s') if told == '1' else unit}"
