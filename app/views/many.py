"""Many adapters: a folder of them, or the checkpoints of one training, side by side."""

from collections.abc import Callable

import streamlit as st

from app.frame import show_error, show_title
from app.many import opened_set, set_form
from app.many.evidence import evidence_view
from app.many.matrix import matrix_view
from app.many.table import set_table
from surgery.adapter_sets import AdapterSet
from surgery.errors import SurgeryError

# a tab for each view of the set: its name, and what draws it
VIEWS: dict[str, Callable[[AdapterSet], None]] = {
    "Table": set_table,
    "Matrix": matrix_view,
    "Evidence": evidence_view,
}


def show_set(adapters: AdapterSet) -> None:
    """The view whose tab is open; the others are not run."""
    for tab, draw in zip(st.tabs(list(VIEWS), on_change="rerun", key="many-tab"), VIEWS.values(), strict=True):
        if tab.open:
            with tab:
                try:
                    draw(adapters)
                except SurgeryError as error:
                    show_error(error)


show_title("Many adapters", "A folder of adapters, or the checkpoints of a training, side by side.")
set_form()
if (found := opened_set()) is not None:
    show_set(found)
