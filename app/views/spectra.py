"""Spectra: the singular values of each module, and what the calibration loss says about them."""

import numpy as np
import pandas as pd
import streamlit as st

import viz
from app.calibrating import calibration_panel
from app.frame import show_title
from app.workspace import Workspace, current
from surgery.spectrum import components_for_energy, effective_rank, stable_rank

PROFILES = {
    "effective rank": effective_rank,
    "stable rank": stable_rank,
    "components for 90 % energy": components_for_energy,
}


def module_view(workspace: Workspace) -> None:
    spectra, sensitivity = workspace.spectra, workspace.sensitivity
    left, middle, right = st.columns([1, 1, 1], vertical_alignment="bottom")
    families = list(workspace.adapter.families)
    preferred = families.index("o_proj") if "o_proj" in families else 0
    family = left.selectbox("Family", families, preferred, key="spectra-family", persist_state="session")
    members = [name for name, s in spectra.items() if s.family == family]
    name = middle.selectbox(
        "Module", members, format_func=_place, key=f"spectra-module-{family}", persist_state="session"
    )
    log = right.toggle("Logarithmic σ", key="spectra-log", persist_state="session")
    name = name or members[0]
    statistics = sensitivity.statistics(name) if sensitivity else None
    errors = {}
    if statistics is not None:
        errors = {
            "mean": statistics.mean,
            "mean_error": statistics.mean_error,
            "magnitude": statistics.magnitude,
            "magnitude_error": statistics.magnitude_error,
        }
    figure = viz.module_spectrum(spectra[name].sigma, title=name, log=log, **errors)
    st.plotly_chart(figure, key="spectra-module-figure", alt=f"Spectrum of {name}")
    if statistics is None:
        st.caption("Calibrate to see which of these components raise or lower the loss.")
        return
    st.caption(
        "Positive g: a larger σ raises the loss, so the component is harmful; negative g: it helps. Grey: within two "
        "standard errors of zero, so the sign is noise. Bars show one standard error over calibration examples."
    )
    table = pd.DataFrame(
        {
            "component": range(spectra[name].rank),
            "σ": spectra[name].sigma,
            "mean g": statistics.mean,
            "± s.e.": statistics.mean_error,
            "mean |g|": statistics.magnitude,
            "sign agreement": statistics.agreement,
        }
    )
    repeated = np.flatnonzero(spectra[name].repeated)
    if repeated.size:
        table["cluster"] = spectra[name].clusters
        st.caption(
            f"Components {', '.join(map(str, repeated))} share (nearly) equal σ in clusters: inside a cluster single "
            "g are not determined, only their sum is."
        )
    with st.expander("Numbers"):
        st.dataframe(table, hide_index=True, width="stretch")
        st.download_button(
            "Download as CSV", table.to_csv(index=False), "spectrum.csv", "text/csv", on_click="ignore"
        )


def depth_view(workspace: Workspace) -> None:
    chosen = st.segmented_control(
        "Profile", list(PROFILES), default="effective rank", key="spectra-profile", persist_state="session"
    )
    measure = chosen or "effective rank"
    profiles: dict[str, tuple[list[int], list[float]]] = {}
    for spectrum in workspace.spectra.values():
        if spectrum.layer is not None:
            layers, values = profiles.setdefault(spectrum.family, ([], []))
            layers.append(spectrum.layer)
            values.append(PROFILES[measure](spectrum.sigma))
    figure = viz.rank_profile(profiles, title=f"{measure.capitalize()} over depth", measure=measure)
    st.plotly_chart(figure, key="spectra-depth", alt=f"{measure} over depth, one line for each family")


def _place(name: str) -> str:
    layer = current().spectra[name].layer
    return name if layer is None else f"layer {layer}"


show_title(
    "Spectra", "Where the energy of each update sits, and which components raise or lower the calibration loss."
)
calibration_panel(current())
large, small = st.columns([1.7, 1], gap="large")
with large:
    module_view(current())
with small:
    depth_view(current())
