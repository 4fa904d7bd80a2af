"""With a base model: how far the adapter's directions run along the base weight's own, and intruder dimensions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

import viz
from app.base_form import base_form
from app.running import waits_for
from app.state import jobs
from app.state.workspace import Workspace
from surgery.errors import SurgeryError
from surgery.model import base_weight
from surgery.spectra import Capture, Intruders, capture, find_intruders

KIND = "intruders"
_RESULT = "intruders-result"
_TOP = 32


@dataclass(frozen=True)
class Found:
    """What one family gave: a module may have been left out, with the reason."""

    adapter: str
    base: str
    family: str
    captures: tuple[Capture, ...]
    intruders: tuple[Intruders, ...]
    left_out: tuple[str, ...]


def intruder_panel(workspace: Workspace) -> None:
    with st.expander("Against the base weights: intruder dimensions", icon=":material/person_alert:"):
        st.caption(
            "The share of each component's direction that the base weight's strongest directions span. A component "
            "far from all of them, and strong enough to lead W + ΔW, is an intruder dimension (Shuttleworth et al., 2024)."
        )
        if waits_for(KIND, "The comparison is under way. A map of all components appears here when it ends."):
            return
        if workspace.base is None:
            st.caption("For this the weights of the base model are read; name it here:")
            base_form(workspace)
            return
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        families = list(workspace.adapter.families)
        family = left.selectbox("Family", families, key="intruder-family", persist_state="session")
        if right.button("Compare with the base", type="primary", width="stretch"):
            start(workspace, family or families[0])
            st.rerun()
        found: Found | None = st.session_state.get(_RESULT)
        if found is not None and (found.adapter, found.base) == (workspace.adapter.digest, repr(workspace.base)):
            show(workspace, found)


def start(workspace: Workspace, family: str) -> None:
    base, spectra = workspace.base, workspace.spectra
    assert base is not None
    members = [spectrum for spectrum in spectra.values() if spectrum.family == family]

    def work(job: jobs.Job, models: jobs.Models) -> Found:
        job.begin("loading the base model")
        model = models.base(base, workspace.adapter, job.control).model
        job.begin("decomposing base weights, module")
        captures: list[Capture] = []
        intruders: list[Intruders] = []
        left_out: list[str] = []
        for done, spectrum in enumerate(members):
            job.progress(done, len(members))
            try:
                site = workspace.adapter.modules[spectrum.name].site.module
                weight = base_weight(model, site)
                top = min(_TOP, *weight.shape)
                captures.append(capture(spectrum, weight, top=top))
                intruders.append(find_intruders(spectrum, weight, top=min(10, top)))
            except SurgeryError as error:
                left_out.append(f"{spectrum.name}: {error.problem}")
        return Found(
            workspace.adapter.digest, repr(base), family, tuple(captures), tuple(intruders), tuple(left_out)
        )

    def collect(found: Found) -> None:
        st.session_state[_RESULT] = found

    jobs.start(KIND, "Comparing with the base", work, collect)


def show(workspace: Workspace, found: Found) -> None:
    for reason in found.left_out[:3]:
        st.warning(reason, icon=":material/info:")
    if not found.captures:
        return
    side = st.segmented_control(
        "Side", ["output", "input"], default="output", key="intruder-side", label_visibility="collapsed"
    )
    output = side != "input"
    rank = max(each.output_share.size for each in found.captures)
    shares = np.full((len(found.captures), rank), np.nan)
    for row, each in enumerate(found.captures):
        share = each.output_share if output else each.input_share
        shares[row, : share.size] = share
    rows = [_row(workspace, each.name) for each in found.captures]
    first = found.captures[0]
    reference = first.output_random if output else first.input_random
    figure = viz.component_map(
        shares,
        rows,
        title=f"{found.family}: share spanned by the base's top {first.top} {'left' if output else 'right'} directions",
        measure="share",
        reference=reference,
    )
    left, right = st.columns([1.6, 1], gap="large")
    left.plotly_chart(figure, key="intruder-map", alt="Share of each component along the base weight's directions")
    right.caption(f"A random direction has {reference:.4f} of itself in the span of {first.top} base directions.")
    table = pd.DataFrame([_counted(workspace, each) for each in found.intruders])
    right.dataframe(table, hide_index=True, height=420)
    right.caption(
        f"Intruders: of the ten strongest directions of W + ΔW, those whose cosine with every direction of W is below "
        f"{found.intruders[0].threshold}. The paper varies this threshold."
    )


def _counted(workspace: Workspace, each: Intruders) -> dict[str, Any]:
    which = np.flatnonzero(each.intruder)
    return {
        "layer": _row(workspace, each.name),
        "intruders": each.count,
        "least |cosine|": float(each.cosine.min()),
        "components": ", ".join(str(int(each.component[i])) for i in which),
    }


def _row(workspace: Workspace, name: str) -> str:
    layer = workspace.spectra[name].layer
    return name if layer is None else str(layer)
