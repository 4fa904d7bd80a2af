"""Answers of the unedited adapter and of a variant side by side: what was gained, lost and changed."""

import pandas as pd
import streamlit as st

from app.evaluation.compared import FILTERS, compared, searched
from surgery.evaluation import Evaluation
from surgery.experiments import EDIT


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
    counts = {kind: int(table[kind].sum()) for kind in FILTERS}
    kind = cells[1].segmented_control(
        "Show",
        list(FILTERS),
        default="changed",
        required=True,
        format_func=lambda name: f"{FILTERS[name]} ({counts[name]})",
        key=f"answers-filter-{key}",
    )
    words = cells[2].text_input("Search", key=f"answers-search-{key}", placeholder="in questions and answers")
    show_rows(searched(table[table[kind or "changed"]], words).drop(columns=list(FILTERS)), words, key)


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
