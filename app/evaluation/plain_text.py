"""Plain text as the question of the Evaluate page: which text, cut into which windows."""

import streamlit as st

from app.frame import show_error
from surgery.data import TextPlan
from surgery.errors import DataError
from surgery.files import DEMO_TEXT


def ask_for_text() -> TextPlan | None:
    """The text that the form names; None while it names none, or windows that cannot be."""
    cells = st.columns([3.4, 1, 1, 1], vertical_alignment="bottom")
    text = cells[0].text_input("Text", DEMO_TEXT, key="evaluate-text", persist_state="session")
    limit = cells[1].number_input(
        "Windows", 2, 100_000, 30, key="evaluate-text-limit", persist_state="session", help="The first so many."
    )
    window = cells[2].number_input(
        "Tokens",
        2,
        8192,
        TextPlan("").window,
        key="evaluate-text-window",
        persist_state="session",
        help="Of a window.",
    )
    stride = cells[3].number_input(
        "Stride",
        1,
        8191,
        TextPlan("").stride,
        key="evaluate-text-stride",
        persist_state="session",
        help="The last tokens of each window, which count; the others are their context. The next window begins so many "
        "later.",
    )
    if not text.strip():
        return None
    try:
        return TextPlan(text.strip(), int(limit), int(window), int(stride))
    except DataError as error:
        show_error(error)
        return None
