"""Summary of an evaluation: means, changes, tests and permutation ranks by variant, as values and as the record that is kept."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from surgery.evaluation.evaluation import BASELINE, Effect, Evaluation
from surgery.evaluation.ledger import Ledger, ledger_record, ledgers_of, parse_ledger
from surgery.evaluation.margin_verdicts import comparisons_of, margin_text
from surgery.evaluation.metric import Metric
from surgery.evaluation.non_inferiority import NonInferiority
from surgery.evaluation.scale_or_shape import Shares, parse_shares, share_text, shares_of, shares_record
from surgery.evaluation.significance import McNemar, PermutationRank


@dataclass(frozen=True)
class CorrectedTest(McNemar):
    """McNemar's test of a variant; `holm` is its p corrected for all variants, None for the unedited adapter's rerun."""

    holm: float | None = None


@dataclass(frozen=True)
class VariantMetrics:
    """Means, changes, tests and ranks of one variant by the name of the metric; what is unknown is NaN.

    The unedited adapter has `means` alone. `tests` are of 0/1 metrics, and `ranks` among random controls those of
    other variants, each among its own. `aggregates` are an lm-eval task's own totals, None where there are none.
    `control_of` names the edits that a random control belongs to, where the evaluation says so. `shares` tell by
    control and metric which share of its effect that control explains, and `shape_controls` what these are called here.
    `margins` tell by metric whether it is not inferior, where a margin was named and it is no random control.
    `ledgers` stand beside the base, by metric; empty without one.
    """

    means: Mapping[str, float]
    changes: Mapping[str, Effect] = field(default_factory=dict)
    tests: Mapping[str, CorrectedTest] = field(default_factory=dict)
    ranks: Mapping[str, PermutationRank] = field(default_factory=dict)
    aggregates: Mapping[str, Any] | None = None
    control_of: tuple[str, ...] = ()
    shares: Shares = field(default_factory=dict)
    shape_controls: Mapping[str, str] = field(default_factory=dict)
    margins: Mapping[str, NonInferiority] = field(default_factory=dict)
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationSummary:
    """An evaluation in numbers, without its examples. `random` are the changes that random reweighting makes.

    `cut` counts the prompts that were longer than the model.
    """

    examples: int
    metrics: tuple[Metric, ...]
    variants: Mapping[str, VariantMetrics]
    random: Mapping[str, Effect] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cut: int = 0


def summarise(evaluation: Evaluation) -> EvaluationSummary:
    """Means by variant and metric, and for all but the unedited adapter changes, exact tests and permutation ranks."""
    random = {metric.name: evaluation.random_effect(metric.name) for metric in evaluation.metrics}
    return EvaluationSummary(
        examples=len(evaluation.samples),
        metrics=evaluation.metrics,
        variants={name: _variant(evaluation, name) for name in evaluation.scores},
        random={name: effect for name, effect in random.items() if effect is not None},
        notes=(*filter(None, [evaluation.caution]), *evaluation.notes),
        cut=sum(sample.lost > 0 for sample in evaluation.samples),
    )


def scale_or_shape(summary: EvaluationSummary) -> tuple[str, ...]:
    """A sentence for each edit and metric with controls that tell scale from shape: what they explain of its change."""
    said = []
    for name, found in summary.variants.items():
        for metric in summary.metrics:
            effects = {
                control: summary.variants[variant].changes[metric.name]
                for control, variant in found.shape_controls.items()
                if variant in summary.variants
            }
            shares = {control: each[metric.name] for control, each in found.shares.items() if metric.name in each}
            edit = found.changes.get(metric.name)
            if edit is not None and shares:
                said.append(f"Scale or shape, {name}, {share_text(metric, effects, shares, edit)}")
    return tuple(said)


def margin_verdicts(summary: EvaluationSummary) -> tuple[str, ...]:
    """A sentence for each variant and metric with a margin: not inferior, inconclusive or inferior, and how near."""
    return tuple(
        f"{name}, {metric.title}: {margin_text(metric, found.margins[metric.name])}"
        for name, found in summary.variants.items()
        for metric in summary.metrics
        if metric.name in found.margins
    )


def _variant(evaluation: Evaluation, name: str) -> VariantMetrics:
    keys = [metric.name for metric in evaluation.metrics]
    means = {key: evaluation.mean(name, key) for key in keys}
    aggregates = evaluation.aggregates.get(name)
    if name == BASELINE:
        return VariantMetrics(means, aggregates=aggregates)
    tests = {
        key: CorrectedTest(**asdict(evaluation.tests(key)[name]), holm=evaluation.adjusted(key).get(name))
        for key in keys
        if name in evaluation.tests(key)
    }
    is_control = name in evaluation.controls
    ranks = {} if is_control else {key: evaluation.permutation_rank(name, key) for key in keys}
    return VariantMetrics(
        means,
        {key: evaluation.effect(name, key) for key in keys},
        tests,
        {key: rank for key, rank in ranks.items() if rank is not None},
        aggregates,
        evaluation.control_of(name),
        shares_of(evaluation, name),
        evaluation.shape_controls.get(name, {}),
        {} if is_control else comparisons_of(evaluation, name),
        ledgers_of(evaluation, name),
    )


def summary_record(summary: EvaluationSummary) -> dict[str, Any]:
    """The summary as one object for JSON, NaN left in it; `parse_summary` reads it."""
    keys = [metric.name for metric in summary.metrics]
    return {
        "examples": summary.examples,
        "baseline": BASELINE,
        "measures": [metric.record() for metric in summary.metrics],
        "variants": {name: _variant_record(found, keys) for name, found in summary.variants.items()},
        "random": {name: asdict(effect) for name, effect in summary.random.items()},
        "notes": list(summary.notes),
        # none is not told, as in records of earlier versions
        **({"cut": summary.cut} if summary.cut else {}),
    }


def _variant_record(found: VariantMetrics, keys: list[str]) -> dict[str, Any]:
    record: dict[str, Any] = {"means": dict(found.means)}
    parts: dict[str, Mapping[str, Any]] = {
        "changes": found.changes,
        "mcnemar": found.tests,
        "place": found.ranks,
    }
    # metric by metric: digests of records that were written so hold the order of their parts
    for key in keys:
        for part, values in parts.items():
            if key in values:
                record.setdefault(part, {})[key] = asdict(values[key])
    if found.aggregates is not None:
        record["aggregates"] = dict(found.aggregates)
    if found.control_of:
        record["control_of"] = list(found.control_of)
    if found.shape_controls:
        record["shape_controls"] = dict(found.shape_controls)
        record["shares"] = shares_record(found.shares)
    if found.margins:
        record["margins"] = {key: asdict(each) for key, each in found.margins.items()}
    if found.ledgers:
        record["ledgers"] = {key: ledger_record(each) for key, each in found.ledgers.items()}
    return record


def parse_summary(record: Mapping[str, Any]) -> EvaluationSummary:
    """The summary of a record, also of one of an earlier version; raises `LookupError`, `TypeError` and so on."""
    return EvaluationSummary(
        examples=int(record["examples"]),
        metrics=tuple(Metric(**metric) for metric in record["measures"]),
        variants={name: _parse_variant(found) for name, found in record["variants"].items()},
        random={name: Effect(**_numbers(effect)) for name, effect in record.get("random", {}).items()},
        notes=tuple(record.get("notes", ())),
        cut=int(record.get("cut", 0)),
    )


def _parse_variant(record: Mapping[str, Any]) -> VariantMetrics:
    return VariantMetrics(
        means=_numbers(record["means"]),
        changes={key: Effect(**_numbers(effect)) for key, effect in record.get("changes", {}).items()},
        tests={key: CorrectedTest(**test) for key, test in record.get("mcnemar", {}).items()},
        ranks={key: PermutationRank(**rank) for key, rank in record.get("place", {}).items()},
        aggregates=record.get("aggregates"),
        control_of=tuple(record.get("control_of", ())),
        shares=parse_shares(record.get("shares", {})),
        shape_controls=dict(record.get("shape_controls", {})),
        margins={key: NonInferiority(**_numbers(each)) for key, each in record.get("margins", {}).items()},
        ledgers={key: parse_ledger(each) for key, each in record.get("ledgers", {}).items()},
    )


def _numbers(record: Mapping[str, float | None]) -> dict[str, float]:
    """JSON has null where a number is not known."""
    return {name: math.nan if value is None else value for name, value in record.items()}
