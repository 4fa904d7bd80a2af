"""Spectra: the singular values of each module, and what the calibration loss says about them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

import viz
from app import jobs
from app.frame import show_error, show_title
from app.workspace import Workspace, current, keep
from surgery.adapter import Adapter
from surgery.calibration import TEMPLATES, Encoding, parse_rows, read_rows
from surgery.demo import data_file
from surgery.errors import SurgeryError
from surgery.home import digest, home
from surgery.recipe import BaseChoice, CalibrationPlan
from surgery.sensitivity import Sensitivity
from surgery.spectrum import Spectra, components_for_energy, effective_rank, stable_rank

KIND = "calibration"
PROFILES = {
    "effective rank": effective_rank,
    "stable rank": stable_rank,
    "components for 90 % energy": components_for_energy,
}


def calibration_panel(workspace: Workspace) -> None:
    if jobs.active(KIND) is not None:
        jobs.show_progress(KIND)
        return
    sensitivity = workspace.sensitivity
    if sensitivity is not None:
        asked = workspace.calibration.examples if workspace.calibration else sensitivity.examples
        dropped = asked - sensitivity.examples
        st.success(
            f"Measured on {sensitivity.examples} examples; mean calibration loss {sensitivity.losses.mean():.4f} "
            "nats per answer token."
            + (f" {dropped} rows over the length limit were left out." if dropped else ""),
            icon=":material/science:",
        )
    if workspace.base is None:
        st.info("Choose the base model on the Adapter page to measure sensitivities.", icon=":material/info:")
        return
    with st.expander("Calibrate", expanded=sensitivity is None, icon=":material/science:"):
        plan = _plan_form(workspace)
        if plan is not None:
            start_calibration(workspace, workspace.base, plan)
            st.rerun()


def start_calibration(workspace: Workspace, base: BaseChoice, plan: CalibrationPlan) -> None:
    adapter, spectra = workspace.adapter, workspace.spectra

    def collect(sensitivity: Sensitivity) -> None:
        # the result belongs to the adapter and base it was started with, not to what is open now
        now = current()
        if now.adapter.digest == adapter.digest and now.base == base:
            keep(now.with_sensitivity(plan, sensitivity))

    jobs.start(KIND, "Calibration", _work(adapter, spectra, base, plan), collect)


def _work(adapter: Adapter, spectra: Spectra, base: BaseChoice, plan: CalibrationPlan) -> jobs.Work:
    def work(job: jobs.Job, models: jobs.Models) -> Sensitivity:
        from surgery.live import LiveModel
        from surgery.run import calibrate

        job.begin("loading the base model")
        loaded = models.base(base)
        job.begin("measuring, example")
        with LiveModel(loaded, adapter, spectra) as live:
            return calibrate(live, plan, progress=job.progress, cancelled=job.cancelled)

    return work


def _plan_form(workspace: Workspace) -> CalibrationPlan | None:
    """The plan asked for, once its button is pressed and its rows can be read."""
    present = workspace.calibration or CalibrationPlan("")
    with st.form("calibration", border=False):
        left, right = st.columns(2)
        data = left.text_input(
            "Rows", present.data, placeholder="/path/to/rows.jsonl", help='JSON lines with "prompt" and "answer".'
        )
        upload = right.file_uploader("or upload JSON lines", type=["jsonl", "json"])
        cells = st.columns(5, vertical_alignment="bottom")
        examples = cells[0].number_input("Examples", 1, 100_000, present.examples)
        seed = cells[1].number_input("Seed", 0, 2**31 - 1, present.seed)
        start = cells[2].number_input("Start offset", 0, 10_000_000, present.start)
        batch = cells[3].number_input("Batch", 1, 512, present.batch_size)
        template = cells[4].selectbox("Prompt", TEMPLATES, TEMPLATES.index(present.encoding.template))
        cells = st.columns(5, vertical_alignment="center")
        length = cells[0].number_input("Longest, tokens", 8, 131_072, present.encoding.max_length)
        separator = cells[1].checkbox("Space before answer", present.encoding.separator)
        eos = cells[2].checkbox("End token after answer", present.encoding.eos)
        checkpointing = cells[3].checkbox(
            "Save memory",
            present.checkpointing,
            help="Gradient checkpointing: about a third slower, for long rows.",
        )
        asked = cells[4].form_submit_button("Measure", type="primary", width="stretch")
    if not asked:
        return None
    try:
        source = _kept_upload(upload.getvalue(), upload.name) if upload is not None else data.strip()
        rows = read_rows(data_file(source))
        if start + examples > len(rows):
            st.error(f"{examples} examples from offset {start} were asked for, but there are {len(rows)} rows.")
            return None
    except SurgeryError as error:
        show_error(error)
        return None
    encoding = Encoding(template, separator, eos, int(length))
    return replace(
        present,
        data=source,
        examples=int(examples),
        seed=int(seed),
        start=int(start),
        batch_size=int(batch),
        checkpointing=checkpointing,
        encoding=encoding,
    )


def _kept_upload(data: bytes, name: str) -> str:
    """Check uploaded rows and keep them under their own digest, so that a recipe can name them."""
    text = data.decode("utf-8", errors="replace")
    parse_rows(text, name)
    file = home() / "uploads" / f"{digest([data])[:16]}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return str(file)


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
