"""The base model that an adapter names, proposed with its size; it is taken over by a click and loaded when needed."""

import streamlit as st

from app.frame import plain
from app.state.workspace import Workspace, keep, with_shipped
from surgery.adapter import Adapter
from surgery.errors import SurgeryError
from surgery.model import BaseChoice, BaseSize, base_on_hub, base_size

_MOST = 256  # bases whose size is remembered


def named_base(adapter: Adapter) -> BaseChoice | None:
    """The base on the hub that an adapter's config names, at the revision that it names; None for other words."""
    revision = adapter.config.get("revision")
    named = revision if isinstance(revision, str) and revision else None
    repository = base_on_hub(adapter.base_name or "", named)
    if repository is None or not repository.is_sound:
        return None
    return BaseChoice(repository.name, named)


def base_proposal(workspace: Workspace) -> None:
    """Offer the base that the adapter names, as long as none is chosen."""
    named = named_base(workspace.adapter)
    if workspace.base is not None or named is None:
        return
    revision = f" at {named.revision}" if named.revision else ""
    with st.container(border=True):
        st.markdown(f"The adapter names **{plain(named.location + revision)}** as its base model.")
        st.caption(_described(_sizes().get((named.location, named.revision))))
        if st.button("Use it", key=f"use-named-{workspace.adapter.digest[:8]}", icon=":material/check:"):
            keep(with_shipped(workspace.with_base(named)))
            st.rerun()


def look_up_size(adapter: Adapter) -> BaseSize | str | None:
    """How large the hub says the base is that an adapter names, or why it does not; None where none is named.

    For a background job: one request.
    """
    named = named_base(adapter)
    try:
        return None if named is None else base_size(named.location, named.revision)
    except SurgeryError as error:
        return str(error)


def remember_size(adapter: Adapter, found: BaseSize | str | None) -> None:
    """Keep what `look_up_size` gave, for the proposal."""
    named = named_base(adapter)
    if named is None:
        return
    sizes = _sizes()
    sizes[named.location, named.revision] = found
    while len(sizes) > _MOST:
        sizes.pop(next(iter(sizes)), None)


def size_text(size: BaseSize) -> str:
    """A base on the hub in a few words."""
    parts = "1 file" if size.files == 1 else f"{size.files} files"
    numbers = size.parameters or 0
    counted = f", {numbers / 1e6:,.0f} M parameters" if numbers >= 1e6 else f", {numbers:,} parameters"
    counted = counted if numbers else ""
    return f"{_bytes(size.weights)} of weights in {parts} on the hub{counted}"


def _described(found: BaseSize | str | None) -> str:
    if isinstance(found, BaseSize):
        return f"{size_text(found)}. It is fetched when it is first needed."
    if found is None:
        return "It is fetched when it is first needed; Estimate memory tells its size."
    return f"The hub does not show it: {plain(found)}"


def _bytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


@st.cache_resource(show_spinner=False)
def _sizes() -> dict[tuple[str, str | None], BaseSize | str | None]:
    """What the hub told, for all sessions of this server."""
    return {}
