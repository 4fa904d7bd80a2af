"""A table or a tool below the board that costs nothing while it is closed."""

from collections.abc import Callable

import streamlit as st

from app.frame import show_error
from app.state.workspace import Workspace
from surgery.errors import SurgeryError


def folded(title: str, key: str, icon: str, show: Callable[[Workspace], None], workspace: Workspace) -> None:
    """An expander whose content is made while it is open; what is refused is shown in its place."""
    shown = st.expander(title, key=key, icon=icon, on_change="rerun")
    if not shown.open:
        return
    with shown:
        try:
            show(workspace)
        except SurgeryError as error:
            show_error(error)
