"""Which rows are measured and how they become tokens: the controls of the calibration form, and the rows they name."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import streamlit as st

from app.frame import plain
from surgery.data import (
    TEMPLATES,
    CalibrationPlan,
    Encoding,
    HubSource,
    Row,
    SourceRows,
    is_hub,
    left_out_text,
    parse_hub,
    read_source,
)
from surgery.errors import DataError
from surgery.files import (
    SLICES,
    data_file,
    demo_names,
    digest,
    is_demo,
    uploads_folder,
    write_problem,
    write_whole,
)

DEMO, UPLOAD, PATH, HUB = "Demo slice", "Upload", "Path", "Hub dataset"


def rows_controls(present: CalibrationPlan, key: str) -> tuple[str, str, str]:
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


def number_controls(
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
    flags = st.columns(3)
    separator = tick(flags[0], "Space before answer", encoding.separator)
    eos = tick(flags[1], "End token after answer", encoding.eos)
    checkpointing = tick(
        flags[2],
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
def _read(data: str, prompt_field: str, answer_field: str, stamp: tuple[int, int]) -> SourceRows:
    """The rows of a source without going to the network; they never change, so sessions may share them."""
    return read_source(
        data, CalibrationPlan(data, prompt_field=prompt_field, answer_field=answer_field).fields, download=False
    )


def read_rows(plan: CalibrationPlan) -> SourceRows:
    """The rows that a plan names, as far as they are on this machine; raises `NotFetchedError` where they are not."""
    return _read(plan.data, plan.prompt_field, plan.answer_field, _stamp(plan.data))


def show_rows(found: SourceRows, rows: Sequence[Row] | None) -> None:
    """How many rows there are, which are left out and why, and the first that is measured."""
    dropped = left_out_text(found.left_out)
    why = f" · {plain(dropped)}: {plain(found.problem)}" if dropped else ""
    st.caption(f"{len(found.rows):,} rows · fields {plain(', '.join(found.names))}{why}")
    if rows:
        with st.popover("First row", icon=":material/visibility:"):
            for name, text in (("Prompt", rows[0].prompt), ("Answer", rows[0].answer)):
                st.caption(name)
                st.text(text[:2000])


def kept_upload(data: bytes, name: str) -> str:
    """Keep uploaded rows under their own digest, so that a recipe can name them; raises `DataError` for a full disk."""
    suffix = Path(name).suffix.lower()
    suffix = suffix if suffix in (".json", ".parquet") else ".jsonl"
    file = uploads_folder() / f"{digest([data])[:16]}{suffix}"
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
