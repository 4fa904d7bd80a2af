"""A proof with the base as tables and figures, without Streamlit: the same on the page and in a report."""

import math
from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

import viz
from surgery.evaluation import (
    AGAIN,
    BASE,
    BASELINE,
    EMPTY,
    OUTCOMES,
    RATES,
    Evaluation,
    Gap,
    Ledger,
    Metric,
    Rate,
    outcomes,
)
from surgery.experiments import EDIT


def flow_figure(found: Ledger, variant: str, metric: Metric) -> go.Figure:
    """Which way the right answers of a metric went from the base over the adapter to a variant."""
    return viz.outcome_flow(
        [viz.Stream(code, words, found.counts[code]) for code, words in OUTCOMES.items()],
        ["Base", "Adapter", "Edited" if variant == EDIT else variant],
        title=f"Where right answers come from and go, {metric.title}",
    )


def stream_table(evaluation: Evaluation, variant: str, metric: str) -> pd.DataFrame:
    """A row for each example with its outcome and what base, unedited adapter and variant answer."""
    names = (BASE, BASELINE, variant)
    table = pd.DataFrame(
        {
            "question": [sample.prompt for sample in evaluation.samples],
            "reference": [sample.reference for sample in evaluation.samples],
            **{name: evaluation.scores[name].answers for name in names},
            "outcome": outcomes(*(evaluation.numbers(name, metric) for name in names)),
        }
    )
    if any(evaluation.parts):
        table.insert(0, "task", evaluation.parts)
    return table


def ledger_table(ledgers: Mapping[str, Ledger], of: str = "variant", *, unedited: bool = True) -> pd.DataFrame:
    """A row for each ledger: rates with their intervals, the difference to the base and the forgetting gap.

    unedited: whether the unedited adapter stands above them, with what it forgets itself.
    """
    rows: list[dict[str, str]] = []
    if unedited:
        first = next(iter(ledgers.values())).unedited
        rows.append({of: BASELINE, **dict.fromkeys(RATES.values(), ""), **_gap_cells(first)})
    for name, found in ledgers.items():
        rates = {title: _rate_cell(key, found.rates[key]) for key, title in RATES.items()}
        label = f"{name}: noise floor" if name == AGAIN else name
        rows.append({of: label, **rates, **_gap_cells(found.edited)})
    return pd.DataFrame(rows)


def _rate_cell(name: str, rate: Rate) -> str:
    if math.isnan(rate.value):
        return EMPTY[name].partition(":")[0]
    return f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}] · {rate.count} of {rate.of}"


def _gap_cells(gap: Gap) -> dict[str, str]:
    effect = gap.difference
    return {
        "Δ base": f"{100 * effect.mean:+.1f} [{100 * effect.low:+.1f}, {100 * effect.high:+.1f}]",
        "Forgetting gap": f"{100 * gap.value:.1f} [{100 * gap.low:.1f}, {100 * gap.high:.1f}]",
    }
