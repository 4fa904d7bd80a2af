"""Answers of the unedited adapter and of a variant side by side: what was gained, lost and changed."""

import pandas as pd
import streamlit as st

from surgery.evaluation import BASELINE, Evaluation
from surgery.experiments import EDIT

_TITLES = {"changed": "Changed", "gained": "Gained", "lost": "Lost", "all": "All"}


def show_samples(evaluation: Evaluation, key: str) -> None:
    """A variant to compare, a filter, a search, the table and its download."""
    names = list(evaluation.variants)
    cells = st.columns([1.2, 2, 1.6], vertical_alignment="bottom")
    variant = cells[0].selectbox(
        "Compare the unedited adapter with",
        names,
        index=names.index(EDIT) if EDIT in names else 0,
        key=f"answers-variant-{key}",
    )
    table = compared(evaluation, variant)
    counts = {kind: int(table[kind].sum()) for kind in _TITLES}
    kind = cells[1].segmented_control(
        "Show",
        list(_TITLES),
        default="changed",
        required=True,
        format_func=lambda name: f"{_TITLES[name]} ({counts[name]})",
        key=f"answers-filter-{key}",
    )
    words = cells[2].text_input("Search", key=f"answers-search-{key}", placeholder="in questions and answers")
    show_rows(searched(table[table[kind or "changed"]], words).drop(columns=list(_TITLES)), words, key)


def show_rows(shown: pd.DataFrame, words: str, key: str) -> None:
    """Examples as a table with its download; `words` were searched for."""
    if shown.empty:
        st.caption("No example of this kind" + (" holds these words." if words.strip() else "."))
        return
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=min(460, 60 + 35 * len(shown)),
        key=f"answers-{key}",
        column_config={
            "question": st.column_config.TextColumn(width="large"),
            "reference": st.column_config.TextColumn(width="small"),
        },
    )
    st.download_button(
        "Download these as CSV",
        shown.to_csv(index=False),
        "answers.csv",
        "text/csv",
        on_click="ignore",
        key=f"answers-csv-{key}",
        icon=":material/download:",
    )


def compared(evaluation: Evaluation, variant: str) -> pd.DataFrame:
    """A row for each example, with a column of truth for each filter."""
    before, after = evaluation.scores[BASELINE], evaluation.scores[variant]
    table = pd.DataFrame(
        {
            "question": [sample.prompt for sample in evaluation.samples],
            "reference": [sample.reference for sample in evaluation.samples],
            BASELINE: before.answers,
            variant: after.answers,
        }
    )
    if any(evaluation.parts):
        table.insert(0, "task", evaluation.parts)
    if any(sample.lost for sample in evaluation.samples):
        table.insert(table.columns.get_loc("reference"), "tokens cut", [s.lost for s in evaluation.samples])
    gained = lost = pd.Series(False, index=table.index)
    for metric in evaluation.metrics:
        old, new = before.values[metric.name], after.values[metric.name]
        if metric.binary:
            table[f"{metric.title}, unedited"], table[f"{metric.title}, {variant}"] = old == 1, new == 1
            if not gained.any() and not lost.any():
                gained, lost = pd.Series(new > old), pd.Series(new < old)
        else:
            table[f"Δ {metric.title}"] = new - old
    table["changed"] = table[BASELINE] != table[variant]
    table["gained"], table["lost"], table["all"] = gained, lost, True
    return table


def searched(table: pd.DataFrame, words: str) -> pd.DataFrame:
    """The rows in which every word stands, in any of the texts, whatever its case."""
    if table.empty:
        return table
    texts = table.select_dtypes(include=["object", "string"]).astype(str).agg(" ".join, axis=1).str.lower()
    for word in words.lower().split():
        table, texts = table[texts.str.contains(word, regex=False)], texts[texts.str.contains(word, regex=False)]
    return table
