"""Adapters that were found where one was to be named, below a folder or in a zip: they are offered to be opened."""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from app.frame import plain
from surgery.errors import ChoiceError

_KEY = "adapters-found"


@dataclass(frozen=True)
class _Found:
    """`way` is how the adapter was to be opened; `problem` says what was found."""

    way: str
    problem: str
    choices: tuple[str, ...]


def opened_or_offered(way: str, act: Callable[[], object]) -> None:
    """Open an adapter by `act`; where several are found instead they are kept for `offer_found`."""
    st.session_state.pop(_KEY, None)
    try:
        act()
    except ChoiceError as error:
        keep_found(way, error)


def keep_found(way: str, error: ChoiceError) -> None:
    """Keep for `offer_found` what was found where one adapter was to be opened."""
    st.session_state[_KEY] = _Found(way, error.problem, error.choices)


def offer_found(way: str, open_one: Callable[[str], object]) -> None:
    """A choice of the adapters that were last found this way; it stays, so that one after the other can be seen."""
    found: _Found | None = st.session_state.get(_KEY)
    if found is None or found.way != way:
        return
    above = "".join(posixpath.commonpath(found.choices).rpartition("/")[:2])
    st.info(plain(found.problem), icon=":material/folder_open:")
    with st.form("open-found", border=False):
        chosen = st.selectbox(
            "Adapters found",
            found.choices,
            index=len(found.choices) - 1,
            format_func=lambda choice: choice.removeprefix(above),
            key="open-found-choice",
        )
        if st.form_submit_button("Open this one", type="primary"):
            open_one(chosen)
