"""The ledger of a proof that has the base: what training broke and taught, what the edit makes of it, and which answers."""

import math
from collections.abc import Mapping

import pandas as pd
import streamlit as st

import viz
from app.evaluation.samples import searched
from app.frame import plain
from app.state.runs import evaluation_of
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
    in_words,
    ledgers_by_part,
    outcomes,
)
from surgery.experiments import EDIT
from surgery.runs import Run

_HELP = {
    "Recovery": "Of the answers that training broke, the share that is right again. NA: it broke none.",
    "Retention": "Of the answers that training taught, the share that is still right. NA: it taught none.",
    "New success": "Share of all examples that are right now and were wrong before, in the base and in the adapter.",
    "New damage": "Share of all examples that are wrong now and were right before, in the base and in the adapter.",
    "Δ base": "Right answers against the base, in points, with the paired bootstrap interval.",
    "Forgetting gap": "What is lost against the base, never below zero: noise alone makes it larger than zero, so read it "
    "beside the difference.",
}


def show_ledger(run: Run) -> None:
    """Sentences, the table, the flow of one variant and the answers of a stream; nothing for a run without the base."""
    summary = run.metrics.summary if run.metrics else None
    if summary is None or not any(each.ledgers for each in summary.variants.values()):
        return
    st.subheader("Against the base", anchor=False)
    names = [name for name, each in summary.variants.items() if each.ledgers]
    metrics = [
        metric for metric in summary.metrics if any(metric.name in summary.variants[n].ledgers for n in names)
    ]
    key = run.plan.key
    cells = st.columns(2)
    first = names.index(EDIT) if EDIT in names else 0
    variant = cells[0].selectbox("Variant", names, index=first, key=f"ledger-variant-{key}")
    metric = metrics[0]
    if len(metrics) > 1:
        metric = cells[1].selectbox(
            "Metric", metrics, format_func=lambda each: each.title, key=f"ledger-metric-{key}"
        )
    ledgers = {name: summary.variants[name].ledgers[metric.name] for name in names}
    found = ledgers[variant]
    st.info(plain(in_words(found)), icon=":material/account_tree:")
    _show_table(ledger_table(ledgers), f"ledger-{key}")
    by_part = _by_part(key, variant, metric.name, evaluation_of(run))
    if by_part:
        with st.expander("The ledger task by task"):
            _show_table(ledger_table(by_part, "task", unedited=False), f"ledger-parts-{key}")
    st.caption(
        "Intervals are 95 %: Wilson's for shares, the paired bootstrap for differences"
        + (", and rates are means over the tasks that have them, combined by square-and-add." if by_part else ".")
    )
    _show_flow(found, variant, metric, key)
    _show_answers(evaluation_of(run), variant, metric, key)


def _show_flow(found: Ledger, variant: str, metric: Metric, key: str) -> None:
    chart = f"ledger-flow-{key}"

    def choose() -> None:
        points = st.session_state[chart].selection.points
        clicked = [str(point["customdata"]).strip("[]'") for point in points if "customdata" in point]
        if clicked:
            st.session_state[f"ledger-stream-{key}"] = clicked[0]

    st.plotly_chart(
        viz.outcome_flow(
            [viz.Stream(code, words, found.counts[code]) for code, words in OUTCOMES.items()],
            ["Base", "Adapter", "Edited" if variant == EDIT else variant],
            title=f"Where right answers come from and go, {metric.title}",
        ),
        key=chart,
        on_select=choose,
        selection_mode="points",
        alt="Right and wrong answers of the base, the adapter and the edit, and how many went which way",
    )


def _show_answers(evaluation: Evaluation, variant: str, metric: Metric, key: str) -> None:
    table = stream_table(evaluation, variant, metric.name)
    counts = table["outcome"].value_counts()
    present = [code for code in OUTCOMES if code in counts]
    chosen = st.pills(
        "Answers of a stream",
        present,
        format_func=lambda code: f"{OUTCOMES[code]} ({counts[code]})",
        key=f"ledger-stream-{key}",
        help="Or click its mark in the figure.",
    )
    if chosen is None:
        return
    words = st.text_input("Search", key=f"ledger-search-{key}", placeholder="in questions and answers")
    shown = searched(table[table["outcome"] == chosen], words).drop(columns="outcome")
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=min(460, 60 + 35 * len(shown)),
        key=f"ledger-answers-{key}",
        column_config={"question": st.column_config.TextColumn(width="large")},
    )


def _show_table(table: pd.DataFrame, key: str) -> None:
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        key=key,
        column_config={name: st.column_config.TextColumn(help=text) for name, text in _HELP.items()},
    )


@st.cache_data(max_entries=32, show_spinner=False)
def _by_part(key: str, variant: str, metric: str, _evaluation: Evaluation) -> dict[str, Ledger]:
    return ledgers_by_part(_evaluation, variant, metric)


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
