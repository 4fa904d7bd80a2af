"""What stands folded below the board: computed while it is open, so that closed it costs nothing."""

from collections.abc import Callable

import streamlit as st

from app.frame import show_error
from app.state.workspace import Workspace
from surgery.errors import SurgeryError


def fold(workspace: Workspace, title: str, icon: str, key: str, show: Callable[[Workspace], None]) -> None:
    """A fold that follows the board when the hand rests; what `show` refuses is said in it."""
    shown = st.expander(title, key=key, icon=icon, on_change="rerun")
    if not shown.open:
        return
    with shown:
        try:
            show(workspace)
        except SurgeryError as error:
            show_error(error)
