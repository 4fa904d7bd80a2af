"""Geometry: how the directions of modules align, across layers, between families, with another adapter."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.experts import expert_picker, shown
from app.frame import plain, short_commit, show_error, show_kind, show_title, write_address
from app.geometry import KEY, View, alignment_map, page_data, view_of
from app.geometry.beside import CHOICE, OTHER, opened_beside, show_beside
from app.geometry.choice import Choice, choice_from
from app.geometry.files import figure_of, table_of
from app.geometry.intruding import intruder_panel
from app.hub_form import fetch
from app.state.workspace import Workspace, current
from surgery.errors import AdapterError, PolicyError, SurgeryError
from surgery.files import demo_names
from surgery.hub import hub_name

EXPLANATION = r"""
**What is drawn.** A module changes its layer by ΔW = U·diag(σ)·Vᵀ. The columns of U are the directions it writes, those
of V the directions it reads, strongest first. Each cell compares the leading directions of two modules: yellow means the
same directions, dark blue means unrelated ones.

**How to read it.** Two random k-dimensional subspaces of a d-dimensional space overlap by k/d, which is small, so even
0.1 can be many times random: switch on *Show × random*. A faded cell lies below what one random pair in a hundred
reaches; among many cells a few pass by luck, and the count beside the map says how many to expect. A bright square in
layer invariance says that one set of directions serves all layers.

**What it does not say.** Modules are compared where their spaces have the same size, and the same size is not always the
same space. `q_proj` reads the stream that runs through all layers, `o_proj` reads the heads of its own layer; in a model
whose heads are together as wide as the stream, the map has a number for this pair that means nothing.

**Formulas.** Leading direction: $|u_{1i}^\top u_{1j}|$. Overlap: $\lVert U_{i,k}^\top U_{j,k}\rVert_F^2 / k$, the mean squared
cosine of the k principal angles, between 0 and 1. Chance levels are quantiles of the same measure for random subspaces.

**In the paper.** §3.2, Eq. 3, Figure 1; the wall is Appendix B.
"""


@st.fragment
def geometry() -> None:
    """The map and what belongs to it; a choice on it reruns this part of the page alone."""
    workspace = current()
    sent = _record(st.session_state.get(KEY))
    asked, wanted = _record(sent.get("choice")), _record(sent.get("file"))
    if isinstance(wanted.get("choice"), dict):  # a file is of what is shown, told or not
        asked = {**wanted["choice"], "serial": asked.get("serial")}
    other = other_adapter() if _has_other() else None
    families = list(workspace.adapter.families)
    largest = max(spectrum.rank for spectrum in workspace.spectra.values())
    given: Mapping[str, Any] = asked or st.session_state.get(CHOICE) or st.query_params.to_dict()
    choice = choice_from(given, families, largest, has_other=_has_other())
    if isinstance(sent.get("open"), str) and sent["open"] in workspace.spectra:
        st.session_state["spectra-open"] = sent["open"]
        st.switch_page("views/spectra.py")
    view, trouble = None, ""
    try:
        digests = tuple(each.adapter.digest for each in (workspace, other) if each is not None)
        mine, theirs = shown(workspace.spectra), shown(other.spectra) if other else None
        view = view_of(choice, mine, digests, theirs)
    except PolicyError as error:
        trouble = f"{error.problem}: {error.remedy}."
    else:
        choice = view.choice
    st.session_state[CHOICE] = choice.record()
    write_address(choice.record(), choice.address())
    serial = asked.get("serial")
    alignment_map(
        page_data(
            view,
            choice,
            families=families,
            has_other=_has_other(),
            trouble=trouble,
            serial=serial if isinstance(serial, int) else 0,
            held=str(asked.get("have", "")),
            file=file_of(view, choice, wanted) if view is not None else {"asked": wanted.get("id")},
        )
    )


def _record(value: Any) -> dict[str, Any]:
    """What the component sent, where it is a record at all."""
    return value if isinstance(value, dict) else {}


def file_of(view: View, choice: Choice, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The present view as a file that the component saves: numbers as CSV, an interactive figure as HTML."""
    name, kind = f"{choice.view}-{choice.side}", wanted.get("format")
    if kind == "csv":
        return {"name": f"{name}.csv", "type": "text/csv", "text": table_of(view), "asked": wanted.get("id")}
    if kind == "html":
        text = figure_of(view).to_html(include_plotlyjs=True, full_html=True)
        return {"name": f"{name}.html", "type": "text/html", "text": text, "asked": wanted.get("id")}
    return None


def other_adapter() -> Workspace | None:
    """The second adapter, if it is still there."""
    try:
        return opened_beside(st.session_state[OTHER])
    except SurgeryError as error:
        show_error(error)
        return None


def choose_other(workspace: Workspace) -> None:
    """Name another adapter of the same base, to compare with."""
    with st.popover("Compare with another adapter", icon=":material/compare_arrows:"):
        others = [f"demo:{name}" for name in demo_names() if f"demo:{name}" != workspace.adapter.source]
        for source in others:
            if st.button(source, key=f"other-{source}"):
                compare_with(source)
        path = st.text_input(
            "or a folder, or a name on the hub",
            placeholder="/path/to/adapter or owner/name",
            key="geometry-other-path",
        )
        if st.button("Compare", disabled=not path.strip()):
            compare_with(path.strip())
        if _has_other() and st.button(f"Close {plain(short_commit(st.session_state[OTHER]))}", type="tertiary"):
            del st.session_state[OTHER]
            st.rerun()


def compare_with(source: str) -> None:
    opened_beside.clear(source)  # whoever names a folder again wants what it holds now
    try:
        if hub_name(source, AdapterError) is not None:
            fetch(source, lambda adapter: show_beside(adapter.source))
        opened_beside(source)
    except SurgeryError as error:
        show_error(error)
        return
    show_beside(source)
    st.rerun()


def _has_other() -> bool:
    return OTHER in st.session_state


heading, tools = st.columns([3, 1], vertical_alignment="center")
with heading:
    show_title("Geometry", "Do layers and modules write into the same directions, or does each go its own way?")
with tools:
    choose_other(current())
show_kind(current())
expert_picker(current().spectra)
geometry()
with st.expander("What this shows, how to read it, the formulas"):
    st.markdown(EXPLANATION)
intruder_panel(current())
