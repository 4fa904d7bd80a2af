"""The calibration panel: which rows are measured, how long that takes, and what is measured already."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import streamlit as st

from app import jobs
from app.frame import plain, show_error
from app.workspace import Workspace, current, keep, stored_sensitivity
from surgery.adapter import Adapter
from surgery.calibration import TEMPLATES, Encoding, Row, left_out_text
from surgery.demo import SLICES, data_file, demo_names, is_demo
from surgery.errors import DataError, SurgeryError
from surgery.home import digest, home, write_problem, write_whole
from surgery.measure import planned_rows
from surgery.measurements import Measurement, delete_measurement, store_folder, stored_measurements
from surgery.pace import characters, known_pace
from surgery.recipe import BaseChoice, CalibrationPlan, plan_record
from surgery.sensitivity import Sensitivity
from surgery.sources import Found, HubSource, NotFetchedError, is_hub, parse_hub, read_source
from surgery.spectrum import Spectra

KIND = "calibration"
DEMO, UPLOAD, PATH, HUB = "Demo slice", "Upload", "Path", "Hub dataset"
_SHOWN = 12  # stored results that are listed


def calibration_panel(workspace: Workspace) -> None:
    """What is measured, the way to measure more, and the results that are stored; or the progress of a run."""
    if jobs.active(KIND) is not None:
        jobs.show_progress(KIND)
        return
    stored = _stored(workspace.adapter.digest)
    listed = f"Stored results ({len(stored)})"
    if workspace.base is None:
        st.info("Choose the base model on the Adapter page to measure sensitivities.", icon=":material/info:")
    if workspace.sensitivity is not None:
        # one line, so that the figures below it stay in sight
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.markdown(_measured_text(workspace.sensitivity), width="stretch")
            if workspace.base is not None and st.button("Calibrate again", icon=":material/science:"):
                _calibrate_again()
            if stored and st.button(listed, icon=":material/inventory_2:"):
                _all_stored()
        return
    if workspace.base is not None:
        with st.expander("Calibrate", expanded=True, icon=":material/science:"):
            plan_controls()
    if stored:
        with st.expander(listed, icon=":material/inventory_2:"):
            _stored_results(workspace, stored)


def _measured_text(sensitivity: Sensitivity) -> str:
    dropped = left_out_text(sensitivity.left_out)
    return (
        f":material/science: Measured on {sensitivity.examples} examples; mean calibration loss "
        f"{sensitivity.losses.mean():.4f} nats per answer token." + (f" {plain(dropped)}." if dropped else "")
    )


@st.dialog("Calibrate", width="large")
def _calibrate_again() -> None:
    plan_controls()


@st.dialog("Stored results", width="large")
def _all_stored() -> None:
    workspace = current()
    _stored_results(workspace, _stored(workspace.adapter.digest))


def start_calibration(workspace: Workspace, base: BaseChoice, plan: CalibrationPlan) -> None:
    """Measure in the background; the result goes to the workspace that is open then, if it still fits."""
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
        from surgery.measure import calibrate

        job.begin("reading the rows")
        slice_ = planned_rows(plan)  # refused before the base model is loaded
        job.begin("loading the base model")
        loaded = models.base(base)
        job.begin("measuring, example")
        with LiveModel(loaded, adapter, spectra) as live:
            return calibrate(live, plan, base=base, slice_=slice_, control=job.control)

    return work


@st.fragment
def plan_controls() -> None:
    """The plan to measure, what its rows are, how long they take, and the button that starts it."""
    workspace = current()
    present = workspace.calibration or CalibrationPlan("")
    # another plan, as one taken up from the store, is to show its own settings
    key = f"calibrate-{digest([workspace.adapter.digest, repr(plan_record(present))])[:8]}"
    try:
        data, prompt_field, answer_field = _rows_controls(present, key)
        refusal = None
    except SurgeryError as error:
        data, prompt_field, answer_field, refusal = "", present.prompt_field, present.answer_field, error
    plan = _number_controls(present, key, data, prompt_field, answer_field)
    rows, found = None, None
    fetched = True
    if refusal is None and data:
        try:
            found = _read(plan.data, plan.prompt_field, plan.answer_field, _stamp(plan.data))
            rows = planned_rows(plan, found).rows
        except NotFetchedError:
            fetched = False
        except SurgeryError as error:
            refusal = error
    base = workspace.base
    if base is None:
        return
    part = _matching(_stored(workspace.adapter.digest), base, plan)
    unfinished = part is not None and not part.finished
    label = f"Resume ({part.done} of {part.examples} done)" if part is not None and unfinished else "Measure"
    press, told = st.columns([1, 3], vertical_alignment="center")
    startable = refusal is None and bool(data) and (rows is not None or not fetched)
    if press.button(
        label,
        key=f"{key}-go",
        type="primary",
        width="stretch",
        disabled=not startable or jobs.active(KIND) is not None,
    ):
        start_calibration(workspace, base, plan)
        st.rerun()
    if refusal is not None:
        show_error(refusal)
    elif not data:
        told.caption("Name the rows to measure.")
    elif not fetched:
        told.caption(
            "This dataset is not on this machine yet: it is fetched first. Time: unknown until the first batch."
        )
    elif rows is not None:
        told.caption(_time_text(base, plan, rows, part))
    if found is not None:
        _show_rows(found, rows)


def _rows_controls(present: CalibrationPlan, key: str) -> tuple[str, str, str]:
    """Where the rows come from and which fields they are; raises `DataError` for a hub name that is none."""
    kinds = [DEMO, UPLOAD, PATH, HUB]
    before = DEMO if is_demo(present.data) else HUB if is_hub(present.data) else PATH
    kind = st.segmented_control("Rows from", kinds, default=before, key=f"{key}-kind", persist_state="session")
    kind = kind or before
    data = ""
    if kind == DEMO:
        slices = [f"demo:{name}/{part}" for name in demo_names() for part in SLICES if part != "test"]
        if is_demo(present.data) and present.data not in slices:
            slices.insert(0, present.data)
        at = slices.index(present.data) if present.data in slices else 0
        data = st.selectbox("Slice", slices, at, key=f"{key}-slice", persist_state="session") or slices[at]
        # their rows are this project's own, and have its fields
        return data, "prompt", "answer"
    if kind == UPLOAD:
        upload = st.file_uploader("JSON lines or parquet", type=["jsonl", "json", "parquet"], key=f"{key}-upload")
        data = kept_upload(upload.getvalue(), upload.name) if upload is not None else ""
    elif kind == PATH:
        own = present.data if before == PATH else ""
        data = st.text_input(
            "File", own, placeholder="/path/to/rows.jsonl", key=f"{key}-path", persist_state="session",
            help="JSON lines or parquet.",
        ).strip()  # fmt: skip
    else:
        data = _hub_controls(present, key)
    left, right = st.columns(2)
    help = "The name of a field, or a template such as {context} {question} that takes several."
    prompt = left.text_area(
        "Prompt field", present.prompt_field, height=68, key=f"{key}-prompt", persist_state="session", help=help
    )
    answer = right.text_area(
        "Answer field", present.answer_field, height=68, key=f"{key}-answer", persist_state="session", help=help
    )
    return data, prompt or "", answer or ""


def _hub_controls(present: CalibrationPlan, key: str) -> str:
    """A dataset of the hub as a source, empty until it has a name."""
    own = HubSource("")
    if is_hub(present.data):
        with suppress(DataError):  # the field is empty then
            own = parse_hub(present.data)
    cells = st.columns([3, 2, 2, 2])
    values = [
        cell.text_input(name, value, placeholder=hint, key=f"{key}-hub-{name}", persist_state="session").strip()
        for cell, name, value, hint in zip(
            cells,
            ("Dataset", "Configuration", "Split", "Revision"),
            (own.name, own.config, own.split, own.revision),
            ("owner/name", "the only one", "train", "main"),
            strict=True,
        )
    ]
    name, config, split, revision = values
    if not name:
        return ""
    if config and "/" not in name and not revision:
        revision = "main"  # a name without an owner and its configuration would read as owner and name
    return str(parse_hub(str(HubSource(name, split or "train", config, revision))))


def _number_controls(
    present: CalibrationPlan, key: str, data: str, prompt_field: str, answer_field: str
) -> CalibrationPlan:
    """The slice of the rows and how they become tokens."""

    def number(cell: st.delta_generator.DeltaGenerator, label: str, low: int, high: int, value: int) -> int:
        name = f"{key}-{label}"
        return int(
            cell.number_input(label, low, high, min(max(value, low), high), key=name, persist_state="session")
        )

    def tick(cell: st.delta_generator.DeltaGenerator, label: str, value: bool, help: str | None = None) -> bool:
        return bool(cell.checkbox(label, value, key=f"{key}-{label}", persist_state="session", help=help))

    cells = st.columns(6, vertical_alignment="bottom")
    encoding = present.encoding
    examples = number(cells[0], "Examples", 1, 100_000, present.examples)
    seed = number(cells[1], "Seed", 0, 2**31 - 1, present.seed)
    start = number(cells[2], "Start offset", 0, 10_000_000, present.start)
    batch = number(cells[3], "Batch", 1, 512, present.batch_size)
    length = number(cells[4], "Longest, tokens", 8, 131_072, encoding.max_length)
    template = cells[5].selectbox(
        "Prompt", TEMPLATES, TEMPLATES.index(encoding.template), key=f"{key}-template", persist_state="session"
    )
    cells = st.columns(3)
    separator = tick(cells[0], "Space before answer", encoding.separator)
    eos = tick(cells[1], "End token after answer", encoding.eos)
    checkpointing = tick(
        cells[2],
        "Save memory",
        present.checkpointing,
        "Gradient checkpointing: about a third slower, for long rows.",
    )
    return CalibrationPlan(
        data,
        examples,
        seed,
        start,
        batch,
        Encoding(template or encoding.template, separator, eos, length),
        checkpointing,
        prompt_field,
        answer_field,
    )


def _stored(adapter: str) -> Sequence[Measurement]:
    """The stored results of an adapter; headers are read again only when a file of the store has changed."""
    with suppress(OSError):
        files = [(file.name, file.stat()) for file in os.scandir(store_folder())]
        return _headers(adapter, tuple(sorted((name, s.st_mtime_ns, s.st_size) for name, s in files)))
    return []


@st.cache_resource(max_entries=8, show_spinner=False)
def _headers(adapter: str, stamp: tuple[tuple[str, int, int], ...]) -> Sequence[Measurement]:
    return stored_measurements(adapter)


def _matching(stored: Sequence[Measurement], base: BaseChoice, plan: CalibrationPlan) -> Measurement | None:
    """What the store has of this plan; the whole result rather than a part."""
    alike = [measurement for measurement in stored if measurement.is_of(base, plan)]
    return next((found for found in alike if found.finished), alike[0] if alike else None)


def _time_text(base: BaseChoice, plan: CalibrationPlan, rows: Sequence[Row], part: Measurement | None) -> str:
    """How long it takes, by the pace of earlier runs and nothing else."""
    if part is not None and part.finished:
        return "This is measured already: it is found in the store once the base model is loaded, or used from the stored results."
    pace = known_pace(base, plan)
    if pace is None:
        return (
            "Time: unknown until the first batch, as no run on this base model with this kind of prompt is known."
        )
    if part is not None:
        seconds = part.tokens_left / pace.tokens_per_second
    else:
        seconds = pace.seconds(len(rows), characters(rows))
    return (
        f"Time: about {jobs.duration(seconds)} once the base model is loaded, by the {pace.tokens_per_second:,.0f} tokens a "
        "second of the last run on it."
    )


def _show_rows(found: Found, rows: Sequence[Row] | None) -> None:
    """How many rows there are, which are left out and why, and the first that is measured."""
    dropped = left_out_text(found.left_out)
    why = f" · {plain(dropped)}: {plain(found.problem)}" if dropped else ""
    st.caption(f"{len(found.rows):,} rows · fields {plain(', '.join(found.names))}{why}")
    if rows:
        with st.popover("First row", icon=":material/visibility:"):
            for name, text in (("Prompt", rows[0].prompt), ("Answer", rows[0].answer)):
                st.caption(name)
                st.text(text[:2000])


def _stamp(data: str) -> tuple[int, int]:
    """What changes when the file behind a source does; the cache of the hub is looked up each time."""
    if is_hub(data):
        return 0, 0
    try:
        status = data_file(data).stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@st.cache_resource(max_entries=4, show_spinner=False)
def _read(data: str, prompt_field: str, answer_field: str, stamp: tuple[int, int]) -> Found:
    """The rows of a source without going to the network; they never change, so sessions may share them."""
    return read_source(
        data, CalibrationPlan(data, prompt_field=prompt_field, answer_field=answer_field).fields, download=False
    )


def kept_upload(data: bytes, name: str) -> str:
    """Keep uploaded rows under their own digest, so that a recipe can name them; raises `DataError` for a full disk."""
    suffix = Path(name).suffix.lower()
    suffix = suffix if suffix in (".json", ".parquet") else ".jsonl"
    file = home() / "uploads" / f"{digest([data])[:16]}{suffix}"
    try:
        # earlier versions wrote in place: what a kill left of such a write is no upload
        if not file.is_file() or file.stat().st_size != len(data):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, data)
    except OSError as error:
        raise DataError(
            f"the upload cannot be kept ({write_problem(error, len(data))})", "make room, then upload it again"
        ) from error
    return str(file)


def _stored_results(workspace: Workspace, stored: Sequence[Measurement]) -> None:
    """What is measured of this adapter, newest first, with the ways to use it."""
    for measurement in stored[:_SHOWN]:
        _stored_result(workspace, measurement)
    if len(stored) > _SHOWN:
        st.caption(f"{len(stored) - _SHOWN} older ones are not listed; delete some of these to see them.")


def _stored_result(workspace: Workspace, measurement: Measurement) -> None:
    text, use, delete = st.columns([5, 1.6, 1], vertical_alignment="center")
    text.markdown(_described(measurement))
    key, base, plan = measurement.file.name, workspace.base, measurement.plan
    ours = measurement.is_of(base)
    if plan is None or measurement.base is None:
        reason = "An earlier version stored this without its settings: measure it again."
    elif not ours:
        reason = f"Measured on {measurement.base.location}, {measurement.dtype}: choose that base model first."
    else:
        reason = None
    blocked = reason is not None or jobs.active(KIND) is not None
    if measurement.finished:
        if use.button("Use", key=f"use-{key}", disabled=blocked, help=reason and plain(reason), width="stretch"):
            assert plan is not None
            _use(workspace, plan, measurement)
    elif use.button(
        f"Resume ({measurement.done} of {measurement.examples} done)", key=f"resume-{key}", disabled=blocked,
        help=reason and plain(reason), width="stretch",
    ):  # fmt: skip
        assert plan is not None
        assert base is not None
        start_calibration(workspace, base, plan)
        st.rerun()
    if delete.button("Delete", key=f"delete-{key}", width="stretch"):
        try:
            delete_measurement(measurement)
        except SurgeryError as error:
            show_error(error)
        else:
            st.rerun()


def _use(workspace: Workspace, plan: CalibrationPlan, measurement: Measurement) -> None:
    """Take a stored result up as if it had just been measured."""
    try:
        found = stored_sensitivity(measurement.file)
        if found.provenance.adapter != workspace.adapter.digest:
            raise DataError("this result belongs to another adapter", "measure this one")
    except SurgeryError as error:
        show_error(error)
        return
    keep(workspace.with_sensitivity(plan, found))
    st.rerun()


def _described(measurement: Measurement) -> str:
    """One stored result as a line of Markdown."""
    plan, when = measurement.plan, measurement.measured.astimezone()
    done = f"{measurement.examples} examples"
    if not measurement.finished:
        done = f"unfinished, {measurement.done} of {done}"
    parts = [f"{when:%Y-%m-%d %H:%M}", done]
    if plan is not None:
        parts += [
            plan.data,
            plan.encoding.template,
            f"seed {plan.seed}",
            f"start {plan.start}",
            f"batch {plan.batch_size}",
        ]
        if plan.fields != CalibrationPlan("").fields:
            parts.append(f"{plan.prompt_field} → {plan.answer_field}")
    parts.append(measurement.dtype)
    if measurement.loss is not None:
        parts.append(f"mean loss {measurement.loss:.4f}")
    dropped = left_out_text(measurement.left_out)
    parts.append(dropped or "no rows left out")
    first, *others = [plain(part) for part in parts]
    return f"**{first}** · " + " · ".join(others)
