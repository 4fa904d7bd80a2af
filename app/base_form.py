"""Which base model the adapter belongs to, asked for on whichever page lacks it."""

import streamlit as st

from app.base_proposal import size_text
from app.frame import show_error
from app.state.workspace import Workspace, keep, with_shipped
from surgery.errors import SurgeryError
from surgery.model import DTYPES, BaseChoice, base_size, estimate_memory


def base_form(workspace: Workspace) -> None:
    """Ask for the base model and take it over; the present one stands in the fields."""
    present = workspace.base or BaseChoice("")
    with st.form(f"base-{workspace.adapter.digest[:8]}", border=False):
        location = st.text_input(
            "Model folder, GGUF file or hub id",
            value=present.location,
            placeholder=workspace.adapter.base_name or "owner/name",
            help="Needed to calibrate and to evaluate. Geometry and spectra need only the adapter.",
        )
        left, middle, right = st.columns(3)
        revision = left.text_input(
            "Revision",
            value=present.revision or "",
            help="For hub ids; it may stand behind the id too, as owner/name@revision.",
        )
        device = middle.selectbox("Device", _devices(), index=0)
        dtype = right.selectbox("Dtype", DTYPES, index=DTYPES.index(present.dtype))
        use, estimate = st.columns(2)
        asked = use.form_submit_button(
            "Use this base", type="secondary" if workspace.base else "primary", width="stretch"
        )
        estimated = estimate.form_submit_button("Estimate memory", width="stretch")
    if asked:
        try:
            choice = (
                BaseChoice(location.strip(), revision.strip() or None, device, dtype) if location.strip() else None
            )
        except SurgeryError as error:
            show_error(error)
            return
        if choice != workspace.base:
            keep(with_shipped(workspace.with_base(choice)))
            st.rerun()
    if estimated and location.strip():
        _show_memory(location.strip(), revision.strip() or None, dtype)


def _show_memory(location: str, revision: str | None, dtype: str) -> None:
    try:
        base = BaseChoice(location, revision)
        estimate = estimate_memory(base.location, revision=base.revision, dtype=dtype)
        size = base_size(base.location, base.revision) if estimate is None else None
    except SurgeryError as error:
        show_error(error)
        return
    if size is not None:
        st.caption(f"{size_text(size)}. What it takes in memory is known once it is fetched.")
    if estimate is not None:
        st.caption(
            f"{estimate.parameters / 1e6:,.0f} M parameters: about {estimate.weights / 1e9:.1f} GB for the weights "
            f"and {estimate.working / 1e9:.1f} GB more for a calibration batch of 8 × 128 tokens."
        )


@st.cache_data(show_spinner=False)
def _devices() -> list[str]:
    """CUDA is offered where a driver is present; torch itself is not imported for this page."""
    from ctypes.util import find_library

    return ["cuda", "cpu"] if find_library("cuda") else ["cpu"]
