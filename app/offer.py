"""The way on from a page that lacks sensitivities: what will be there, and the one button that brings it."""

import streamlit as st

from app.base_form import base_form
from app.frame import plain
from app.running import waits_for
from app.spectra.calibration import plan_controls, refused, start_button
from app.spectra.stored_calibrations import KIND
from app.state.workspace import Workspace
from surgery.data import CalibrationPlan
from surgery.model import BaseChoice


def offer_calibration(workspace: Workspace, promise: str) -> None:
    """`promise` says what will be on the page; the button starts the workspace's own calibration.

    A base model or rows that are not known yet are asked for in place.
    """
    if waits_for(KIND, f"The calibration is under way, and this page fills by itself when it ends. {promise}"):
        return
    if refused(workspace):
        return
    need = "The base model and the calibration rows must be known first."
    if workspace.lacks_sensitivities:
        need = (
            f"{workspace.plan.policy.name} first needs sensitivities: how much each singular value raises or lowers the "
            "loss, measured by a calibration."
        )
        if workspace.plan.needs_inputs:
            need = (
                "This edit works from functional energy, E‖ΔWx‖²: what enters the modules is measured by a calibration, "
                "and those of earlier versions lack it."
            )
    with st.container(border=True):
        st.markdown(f":material/science: {promise} {need}")
        if workspace.base is None:
            st.caption("First the base model that the adapter was trained on:")
            base_form(workspace)
        elif workspace.calibration is None:
            st.caption("Name rows of the adapter's task, a prompt and an answer each:")
            plan_controls()
        else:
            _default(workspace, workspace.base, workspace.calibration)


def _default(workspace: Workspace, base: BaseChoice, plan: CalibrationPlan) -> None:
    st.caption(
        f"{plan.examples} examples of {plain(plan.data)}, on the base model {plain(base.location)} "
        f"({base.device}, {base.dtype})."
    )
    start_button(workspace, base, plan, f"offer-{workspace.adapter.digest[:8]}")
    st.page_link("views/spectra.py", label="Other settings", icon=":material/settings:")
