"""The ledger of a proof that has the base: what training broke and taught, what the edit makes of it, and which answers."""

import pandas as pd
import streamlit as st

from app.evaluation.compared import searched
from app.evaluation.ledger_table import flow_figure, ledger_table, stream_table
from app.evaluation.samples import show_rows
from app.frame import plain
from app.state.runs import evaluation_of
from surgery.evaluation import (
    OUTCOMES,
    Evaluation,
    Ledger,
    Metric,
    in_words,
    ledgers_by_part,
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
    st.info(plain(in_words(found, "the edit" if variant == EDIT else variant)), icon=":material/account_tree:")
    _show_table(ledger_table(ledgers), f"ledger-{key}")
    by_part = _by_part(key, variant, metric.name, evaluation_of(run))
    if by_part:
        with st.expander("The ledger task by task"):
            _show_table(ledger_table(by_part, "task", unedited=False), f"ledger-parts-{key}")
    st.caption(
        "Intervals are 95 %: Wilson's for shares, the paired bootstrap for differences"
        + (
            ". Rates and differences are means over the tasks that have them, each counting the same."
            if by_part
            else "."
        )
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
        flow_figure(found, variant, metric),
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
    show_rows(shown, words, f"ledger-{key}")


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
