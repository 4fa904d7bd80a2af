"""One evaluation as a page shows it: a verdict in words, intervals, exact tests, the place among controls."""

import pandas as pd
import streamlit as st

import viz
from app.evaluation.findings import about, changes, effects_table, finding, tasks_table
from app.evaluation.margin import say_margins
from app.frame import plain
from surgery.evaluation import Evaluation


def show_results(evaluation: Evaluation, title: str, key: str) -> None:
    """Charts and a table for all variants, and words for the edit where it is among them."""
    st.caption(f"{plain(title)}: {plain(about(evaluation))}")
    if evaluation.caution:
        st.warning(evaluation.caution, icon=":material/warning:")
    _say(evaluation)
    say_margins(evaluation)
    _show_effects(evaluation, key)
    _show_table(effects_table(evaluation), key)
    if not (tasks := tasks_table(evaluation)).empty:
        with st.expander(f"Scores by task, {plain(evaluation.metrics[0].title)}"):
            st.dataframe(tasks, hide_index=True, width="stretch", key=f"tasks-{key}")
    for note in evaluation.notes:
        st.caption(plain(note))


def _say(evaluation: Evaluation) -> None:
    """The finding in a sentence or two, with the rank among controls and the noise floor."""
    found = finding(evaluation)
    if found is None:
        return
    icon = ":material/flag:" if found.beyond_noise else ":material/horizontal_rule:"
    st.info(f"**{plain(found.sentence)}**", icon=icon)
    for sentence in found.explained:
        st.info(plain(sentence), icon=":material/straighten:")
    if found.context:
        st.caption(plain(" ".join(found.context)))


def _show_effects(evaluation: Evaluation, key: str) -> None:
    """The change of every variant with its interval, a chart for each of the first measures."""
    drawn = changes(evaluation)
    for column, change in zip(st.columns(len(drawn), gap="large"), drawn, strict=True):
        column.plotly_chart(
            viz.effect_intervals(
                change.variants,
                change.means,
                change.lows,
                change.highs,
                title=change.title,
                unit=change.unit,
                lower_is_better=not change.metric.higher_is_better,
            ),
            key=f"effect-{key}-{change.metric.name}",
            alt=f"{change.title} for every variant with 95 % intervals",
        )


def _show_table(table: pd.DataFrame, key: str) -> None:
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        key=f"table-{key}",
        column_config={
            name: st.column_config.NumberColumn(
                format="%.3f",
                help="Exact, two-sided, of gained against lost"
                + (", corrected for all variants of this table." if "Holm" in name else "."),
            )
            for name in table.columns
            if name.startswith("p, ")
        },
    )
    st.download_button(
        "Download as CSV",
        table.to_csv(index=False),
        "evaluation.csv",
        "text/csv",
        on_click="ignore",
        key=f"csv-{key}",
        icon=":material/download:",
    )
