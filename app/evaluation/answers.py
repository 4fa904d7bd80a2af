"""What is asked of answers, in the form of the Evaluate page, and the near-duplicates of a slice as a table."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from surgery.data import ALLOW, REFUSE, EvaluationPlan, NearDuplicate

_FILTERS = (
    "One on each line, applied in turn to answer and reference: strip, lower, no-punctuation, number, "
    "regex: PATTERN, regex-last: PATTERN, remove: PATTERN. Empty: the whole text, stripped."
)
_STOP = "One on each line, \\n for a line feed. An answer ends where one of them comes up, and is cut before it."
_NEAR = (
    "Examples of which some calibration or tuning row has the same words but for case, spaces, punctuation and a "
    "label, or most of its sequences of eight words. The run records which they are."
)


def ask_for_answers(present: EvaluationPlan, own: str) -> dict[str, Any]:
    """The settings of a plan that say how answers are asked for and marked; `own` tells widgets of adapters apart."""
    with st.expander("Answers and near-duplicates", key=f"evaluate-answers-{own}"):
        cells = st.columns([1.2, 1.2, 1.6], gap="large")
        filters = cells[0].text_area(
            "Filters of answers", "\n".join(present.filters), key=f"evaluate-filters-{own}", help=_FILTERS
        )
        stop = cells[1].text_area(
            "Stop texts",
            "\n".join(text.replace("\n", "\\n") for text in present.stop),
            key=f"evaluate-stop-{own}",
            help=_STOP,
        )
        loss = cells[2].checkbox(
            "Loss alone",
            not present.generate,
            key=f"evaluate-loss-{own}",
            help="Nothing is generated: fast where answers are long, and without an exact match.",
        )
        near = ask_for_near(cells[2], present.near_duplicates == ALLOW, f"evaluate-near-{own}")
    return {
        "generate": not loss,
        "filters": tuple(line.strip() for line in filters.splitlines() if line.strip()),
        "stop": tuple(line.replace("\\n", "\n") for line in stop.splitlines() if line),
        "near_duplicates": ALLOW if near else REFUSE,
    }


def ask_for_near(cell: Any, allowed: bool, key: str) -> bool:
    """Whether near-duplicates are allowed."""
    return bool(cell.checkbox("Allow near-duplicates", allowed, key=key, persist_state="session", help=_NEAR))


def show_near(pairs: Sequence[NearDuplicate], key: str) -> None:
    """Near-duplicates pair by pair, the closest first."""
    table = pd.DataFrame(
        {
            "Held-out": [pair.held for pair in pairs],
            "Text": [pair.held_text for pair in pairs],
            "Is like": [pair.seen for pair in pairs],
            "Its text": [pair.seen_text for pair in pairs],
            "Words in common": [100 * pair.overlap for pair in pairs],
        }
    ).sort_values("Words in common", ascending=False, kind="stable")
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        key=f"near-{key}",
        column_config={"Words in common": st.column_config.NumberColumn(format="%.0f %%")},
    )
