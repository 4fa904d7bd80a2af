"""The ledger of right answers as text for a terminal."""

import math
from collections.abc import Mapping

from surgery.evaluation import (
    AGAIN,
    EMPTY,
    OUTCOMES,
    RATES,
    EvaluationSummary,
    Gap,
    Ledger,
    Rate,
    is_random_control,
)


def ledger_lines(summary: EvaluationSummary) -> list[str]:
    """The ledger of each edit and adapter by metric, and of none of their controls; nothing without the base."""
    found = {name: each.ledgers for name, each in summary.variants.items() if _is_edit(name, summary)}
    lines = []
    for metric in summary.metrics:
        ledgers = {name: each[metric.name] for name, each in found.items() if metric.name in each}
        if ledgers:
            lines += [
                f"ledger of {metric.title}, right for base, adapter, edited: 95 % intervals, of rates Wilson's, of "
                "differences the paired bootstrap; of a group the mean over its tasks",
                *_gap_lines({"unedited": next(iter(ledgers.values())).unedited}),
            ]
        for name, each in ledgers.items():
            lines += [*_gap_lines({name: each.edited}), *_rate_lines(each), _count_line(each)]
    return lines


def _is_edit(name: str, summary: EvaluationSummary) -> bool:
    shape = {variant for each in summary.variants.values() for variant in each.shape_controls.values()}
    return name != AGAIN and name not in shape and not is_random_control(name)


def _gap_lines(gaps: Mapping[str, Gap]) -> list[str]:
    return [
        f"  {name:<28} against the base {100 * gap.difference.mean:+.1f} points "
        f"[{100 * gap.difference.low:+.1f}, {100 * gap.difference.high:+.1f}], forgetting gap {100 * gap.value:.1f} "
        f"[{100 * gap.low:.1f}, {100 * gap.high:.1f}]"
        for name, gap in gaps.items()
    ]


def _rate_lines(found: Ledger) -> list[str]:
    return [f"    {title:<12} {rate_text(name, found.rates[name])}" for name, title in RATES.items()]


def rate_text(name: str, rate: Rate) -> str:
    """A rate with its interval and the examples behind it, or why it is no number."""
    if math.isnan(rate.value):
        return EMPTY[name]
    return f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}], {rate.count} of {rate.of}"


def _count_line(found: Ledger) -> str:
    said = (f"{code} {words}: {found.counts[code]}" for code, words in OUTCOMES.items() if found.counts[code])
    return f"    {', '.join(said)}"
