"""The calibration panel: which rows are measured, how far that is, and what is already measured."""

from dataclasses import replace

import streamlit as st

from app import jobs
from app.frame import show_error
from app.workspace import Workspace, current, keep
from surgery.adapter import Adapter
from surgery.calibration import TEMPLATES, Encoding, parse_rows, read_rows
from surgery.demo import data_file
from surgery.errors import SurgeryError
from surgery.home import digest, home
from surgery.recipe import BaseChoice, CalibrationPlan
from surgery.sensitivity import Sensitivity
from surgery.spectrum import Spectra

KIND = "calibration"


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
