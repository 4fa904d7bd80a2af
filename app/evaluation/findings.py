"""What an evaluation found, in words and tables: the same on the page and in a report. Needs no Streamlit."""

from dataclasses import dataclass

import pandas as pd

from surgery.evaluation import (
    ACCURACY,
    AGAIN,
    BASE,
    BASELINE,
    EXACT,
    KL_UNEDITED,
    Evaluation,
    EvaluationSummary,
    Metric,
    comparison,
    scale_or_shape,
    summarise,
)
from surgery.experiments import EDIT

LEVEL = 0.05  # of the corrected p from which a change of answers is called one
DRAWN = 2  # metrics that verdicts and figures are about, of those that were measured
NOISE = "within noise"


@dataclass(frozen=True)
class Finding:
    """What an evaluation found of its edit: one sentence, what controls of scale and shape explain, and the context.

    `beyond_noise` tells that anything changed for sure. `context` are the rank among controls and the noise floor.
    """

    sentence: str
    beyond_noise: bool
    explained: tuple[str, ...] = ()
    context: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """A metric's paired change by every variant with 95 % intervals, in the unit that it is drawn in.

    The base is none of them: beside it, no change of an edit could be seen.
    """

    metric: Metric
    variants: tuple[str, ...]
    means: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]

    @property
    def title(self) -> str:
        return f"Change of {self.metric.title}"

    @property
    def unit(self) -> str:
        better = "higher is better" if self.metric.higher_is_better else "lower is better"
        return f"{self.metric.unit}, {better}"


def finding(evaluation: Evaluation, summary: EvaluationSummary | None = None) -> Finding | None:
    """What was found of the edit, None where no variant is called that.

    summary: the evaluation's own, where it has been made already.
    """
    if EDIT not in evaluation.scores:
        return None
    found = verdict(evaluation, EDIT)
    nothing = found == NOISE
    sentence = "The edit changes nothing beyond noise on this slice." if nothing else f"The edit: {found}."
    context = [said for metric in evaluation.metrics[:DRAWN] for said in _context(evaluation, metric)]
    return Finding(sentence, not nothing, scale_or_shape(summary or summarise(evaluation)), tuple(context))


def about(evaluation: Evaluation) -> str:
    """How many examples, what the unedited adapter scores on them, and how to read the intervals."""
    means = ", ".join(
        f"{metric.title} {level(evaluation.mean(BASELINE, metric.name), metric)}"
        for metric in evaluation.metrics[:DRAWN]
    )
    return (
        f"{len(evaluation.samples)} held-out examples. Unedited adapter: {means}. Changes are paired by "
        "example; lines are 95 % bootstrap intervals, and grey means that the interval holds zero: within noise."
    )


def changes(evaluation: Evaluation) -> tuple[Change, ...]:
    """The change of every variant but the base, by each of the first metrics."""
    drawn, names = [], tuple(name for name in evaluation.variants if name != BASE)
    for metric in evaluation.metrics[:DRAWN]:
        effects = [evaluation.effect(name, metric.name) for name in names]
        scale = 100 if metric.binary else 1
        ends = [(scale * each.mean, scale * each.low, scale * each.high) for each in effects]
        means, lows, highs = zip(*ends, strict=True) if ends else ((), (), ())
        drawn.append(Change(metric, names, means, lows, highs))
    return tuple(drawn)


def effects_table(evaluation: Evaluation) -> pd.DataFrame:
    """A row for each variant: means, paired changes, intervals, tests, verdict."""
    tests = {metric.name: evaluation.tests(metric.name) for metric in evaluation.metrics}
    adjusted = {metric.name: evaluation.adjusted(metric.name) for metric in evaluation.metrics}
    several = sum(bool(found) for found in tests.values()) > 1
    rows = []
    for name in evaluation.variants:
        row: dict[str, object] = {"variant": name}
        for metric in evaluation.metrics[:4]:
            effect = evaluation.effect(name, metric.name)
            mean = evaluation.mean(name, metric.name)
            scale, digits = (100, 1) if metric.binary else (1, metric.digits)
            row[metric.title] = level(mean, metric)
            row[f"Δ {metric.title}"] = (
                f"{scale * effect.mean:+.{digits}f} ± {scale * effect.standard_error:.{digits}f}"
            )
            row[f"95 % of Δ {metric.title}"] = (
                f"{scale * effect.low:+.{digits}f} … {scale * effect.high:+.{digits}f}"
            )
            if name in tests[metric.name]:
                test, tail = tests[metric.name][name], f", {metric.title}" if several else ""
                row[f"gained, lost{tail}"] = f"{test.gained}, {test.lost}"
                row[f"p, McNemar{tail}"] = test.p
                row[f"p, Holm{tail}"] = adjusted[metric.name].get(name)
        row["control of"] = ", ".join(evaluation.control_of(name))
        for metric in evaluation.metrics[:4]:
            beside = comparison(evaluation, name, metric.name)
            if beside is not None:
                row[f"non-inferiority, {metric.title}"] = beside.verdict
        row["verdict"] = verdict(evaluation, name)
        rows.append(row)
    return pd.DataFrame(rows)


def tasks_table(evaluation: Evaluation) -> pd.DataFrame:
    """A group's tasks and groups with what every variant scored on them; empty for a single task."""
    ending = f"/{evaluation.metrics[0].name}"
    totals = evaluation.aggregates.get(BASELINE, {})
    names = [key.removesuffix(ending) for key in totals if key.endswith(ending)]
    scores = {
        variant: [own[f"{name}{ending}"] for name in names] for variant, own in evaluation.aggregates.items()
    }
    return pd.DataFrame({"task": names, **scores}) if names else pd.DataFrame()


def verdict(evaluation: Evaluation, name: str) -> str:
    """What a variant does beyond noise: intervals decide for numbers, corrected exact tests for shares."""
    if name == AGAIN:
        return "the noise floor"
    if name == BASE:
        return "without the adapter"
    parts = []
    for metric in evaluation.metrics:
        if metric.name == KL_UNEDITED.name:  # every edit has one: how large it is stands in the table
            continue
        change = evaluation.effect(name, metric.name)
        test = evaluation.adjusted(metric.name).get(name)
        if change.certain if test is None else test <= LEVEL:
            parts.append(_direction(metric, change.mean))
    return ", ".join(dict.fromkeys(parts)) or NOISE


def level(mean: float, metric: Metric) -> str:
    """A mean as it is told: a share in percent, any other number with the digits of its metric."""
    return f"{mean:.1%}" if metric.binary else f"{mean:.{metric.digits}f}"


def _context(evaluation: Evaluation, metric: Metric) -> list[str]:
    """The edit's rank among its random controls and the noise floor, by one metric."""
    said = []
    rank = evaluation.permutation_rank(EDIT, metric.name)
    if rank is not None:
        said.append(
            f"On {metric.title} it does better than {rank.beaten} of its {rank.controls} random controls "
            f"(p = {rank.p:.2f}; with {rank.controls} no p can be below {1 / (1 + rank.controls):.2f})."
        )
    if AGAIN in evaluation.scores:
        size = abs(evaluation.effect(AGAIN, metric.name).mean)
        said.append(
            f"Unedited once more, {metric.title} moves by {100 * size:.2f} points."
            if metric.binary
            else f"Unedited once more, {metric.title} moves by {size:.1e}."
        )
    return said


def _direction(metric: Metric, change: float) -> str:
    if metric.name in (EXACT.name, ACCURACY.name):
        return "more correct" if change > 0 else "fewer correct"
    if metric.name == "loss":
        return "loss lower" if change < 0 else "loss higher"
    return f"{metric.title} {'higher' if change > 0 else 'lower'}"
