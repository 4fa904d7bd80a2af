"""The second adapter of the Geometry page: named there, or on the page of many adapters."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.geometry import KEY
from app.state.workspace import Workspace, workspace_for

CHOICE, OTHER = "geometry-choice", "geometry-other"


@st.cache_resource(max_entries=3, show_spinner=False)
def opened_beside(source: str) -> Workspace:
    """A workspace on the second adapter; sessions share the last few."""
    return workspace_for(source)


def show_beside(source: str, choice: Mapping[str, Any] | None = None) -> None:
    """Let the page show the view of two adapters, of which this one is the second.

    choice: what of the view is chosen besides, in the words of `Choice`.
    """
    st.session_state[OTHER] = source
    st.session_state[CHOICE] = {
        **st.session_state.get(CHOICE, {}),
        **(choice or {}),
        "view": "adapters",
        "cell": None,
    }
    st.session_state.pop(KEY, None)
