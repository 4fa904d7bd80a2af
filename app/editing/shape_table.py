"""Below the board: what is expected on held-out rows of the edit and of its controls of scale and shape."""

import math

import pandas as pd
import streamlit as st

from app.editing.folded import folded
from app.state.workspace import Workspace
from surgery.edits import Expectation
from surgery.evaluation import (
    HEAD_ONLY,
    ONE_SCALE,
    SAME_ENERGY,
    SAME_NORM,
    SHAPE_ONLY,
    SHUFFLED_SCALES,
    TAIL_ONLY,
)
from surgery.experiments import EDIT, shape_expectations

QUESTIONS = {
    EDIT: "the edit itself",
    SAME_ENERGY: "is it the functional energy of each module?",
    SAME_NORM: "is it the Frobenius norm?",
    ONE_SCALE: "does it matter which module?",
    SHUFFLED_SCALES: "does it matter which module of a family?",
    SHAPE_ONLY: "its shape at the old functional energy",
    HEAD_ONLY: "what it suppresses, alone",
    TAIL_ONLY: "what it amplifies, alone",
}


def shape_panel(workspace: Workspace) -> None:
    """The table, computed while it is open: it follows the board when the hand rests."""
    folded("Scale or shape?", "shape-table-open", ":material/straighten:", _show, workspace)


def _show(workspace: Workspace) -> None:
    measured = workspace.sensitivity
    if measured is None or not set(workspace.edit.modules) <= set(measured.values):
        st.caption("The modules of this edit have no sensitivities to expect anything from. Calibrate first.")
        return
    found = shape_expectations(workspace.plan, workspace.spectra, measured, workspace.edit)
    if not found:
        st.caption(f"{measured.examples} examples are too few to hold some out: calibrate on 128.")
        return
    st.caption(
        "Expected change of the loss on held-out rows, in nats per answer token: every control is made from the edit "
        "of each fold, with the same U and V. If a plain scale does what the edit does, its size was all there is."
    )
    st.dataframe(shape_table(found), hide_index=True, width="stretch", key="shape-table")
    if SAME_ENERGY not in found:
        st.caption(
            "How much of the inputs each direction carries was not measured with these sensitivities. Calibrate again "
            "for the controls at a functional energy."
        )


def shape_table(found: dict[str, Expectation]) -> pd.DataFrame:
    """A row for the edit and each control; a band that holds zero is told as within noise."""
    rows = [
        {
            "variant": name,
            "expected Δ loss": _signed(each.mean),
            "95 % band": f"{_signed(each.low)} … {_signed(each.high)}",
            "": "within noise" if each.low <= 0 <= each.high else "",
            "question": QUESTIONS[name],
        }
        for name, each in found.items()
    ]
    return pd.DataFrame(rows)


def _signed(value: float) -> str:
    return f"{value:+.4f}" if math.isfinite(value) else "not known"
