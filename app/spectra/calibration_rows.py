"""Which rows are measured and how they become tokens: the controls of the calibration form, and the rows they name."""

from contextlib import suppress
from dataclasses import replace

import streamlit as st

from app.encoding_form import encoding_controls
from app.frame import plain
from app.rows_form import FILES, format_controls
from surgery.adapter import CAUSAL_LM
from surgery.data import (
    GIVEN,
    SAMPLED,
    SUFFIXES,
    CalibrationPlan,
    HubSource,
    RowFields,
    SourceRows,
    is_hub,
    left_out_text,
    parse_hub,
)
from surgery.errors import DataError
from surgery.files import (
    PROVING,
    SLICES,
    demo_names,
    digest,
    is_demo,
    uploads_folder,
    write_problem,
    write_whole,
)

DEMO, UPLOAD, PATH, HUB = "Demo slice", "Upload", "Path", "Hub dataset"


def rows_controls(present: CalibrationPlan, key: str) -> tuple[str, RowFields]:
    """Where the rows come from and what they are; raises `DataError` for a hub name or a template that is none."""
    before = DEMO if is_demo(present.data) else HUB if is_hub(present.data) else PATH
    kind = st.segmented_control(
        "Rows from", [DEMO, UPLOAD, PATH, HUB], default=before, key=f"{key}-kind", persist_state="session"
    )
    kind = kind or before
    data = ""
    if kind == DEMO:
        slices = [f"demo:{name}/{part}" for name in demo_names() for part in SLICES if part not in PROVING]
        if is_demo(present.data) and present.data not in slices:
            slices.insert(0, present.data)
        at = slices.index(present.data) if present.data in slices else 0
        data = st.selectbox("Slice", slices, at, key=f"{key}-slice", persist_state="session") or slices[at]
        # their rows are this project's own, and have its fields
        return data, RowFields()
    if kind == UPLOAD:
        kinds = [suffix.removeprefix(".") for suffix in SUFFIXES]
        upload = st.file_uploader("File of rows", type=kinds, key=f"{key}-upload", help=f"{FILES}.")
        data = kept_upload(upload.getvalue(), upload.name) if upload is not None else ""
    elif kind == PATH:
        own = present.data if before == PATH else ""
        data = st.text_input(
            "File", own, placeholder="/path/to/rows.jsonl", key=f"{key}-path", persist_state="session",
            help=f"{FILES}; or a folder that datasets saved, as FOLDER:SPLIT where it has several.",
        ).strip()  # fmt: skip
    else:
        data = _hub_controls(present, key)
    return data, format_controls(present.fields, key)


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
    present: CalibrationPlan, key: str, data: str, fields: RowFields, task: str = CAUSAL_LM
) -> CalibrationPlan:
    """The slice of the rows and how they become tokens; raises `DataError` as `encoding_controls` does."""

    def number(cell: st.delta_generator.DeltaGenerator, label: str, low: int, high: int, value: int) -> int:
        name = f"{key}-{label}"
        return int(
            cell.number_input(label, low, high, min(max(value, low), high), key=name, persist_state="session")
        )

    def tick(cell: st.delta_generator.DeltaGenerator, label: str, value: bool, help: str | None = None) -> bool:
        return bool(cell.checkbox(label, value, key=f"{key}-{label}", persist_state="session", help=help))

    cells = st.columns([1, 1, 1, 1, 1, 1.2], vertical_alignment="bottom")
    examples = number(cells[0], "Examples", 1, 100_000, present.examples)
    seed = number(cells[1], "Seed", 0, 2**31 - 1, present.seed)
    start = number(cells[2], "Start offset", 0, 10_000_000, present.start)
    batch = number(cells[3], "Batch", 1, 512, present.batch_size)
    length = number(cells[4], "Longest, tokens", 8, 131_072, present.encoding.max_length)
    checkpointing = tick(
        cells[5],
        "Save memory",
        present.checkpointing,
        "Gradient checkpointing: about a third slower, for long rows.",
    )
    base_inputs = st.checkbox(
        "Functional energy over the base's hidden states",
        present.base_inputs,
        key=f"{key}-base-inputs",
        persist_state="session",
        help="A forward pass more, at σ = 0, as the follow-up to the paper measures it; otherwise over those of the "
        "adapter, which the calibration pass sees anyway.",
    )
    drawn = st.checkbox(
        "Answers drawn from the model",
        present.labels == SAMPLED,
        key=f"{key}-drawn",
        persist_state="session",
        help="For rows that edits are not to hurt, and that need no right answers: labels drawn from the adapter's own "
        "distribution, by the seed, in the places of the answers tell how far an edit moves its outputs. The result is "
        "kept beside the slice to edit for, as a protected one.",
    )
    return CalibrationPlan(
        data,
        examples,
        seed,
        start,
        batch,
        replace(encoding_controls(present.encoding, key, task), max_length=length),
        checkpointing,
        fields.prompt,
        fields.answer,
        fields.format,
        fields.turns,
        SAMPLED if drawn else GIVEN,
        bool(base_inputs),
    )


def show_rows(found: SourceRows) -> None:
    """How many rows there are, as what they are read, which are left out and why."""
    dropped = left_out_text(found.left_out)
    why = f" · {plain(dropped)}: {plain(found.problem)}" if dropped else ""
    read = f"read as {plain(found.fields.described)}"
    st.caption(f"{len(found.rows):,} rows · fields {plain(', '.join(found.names))} · {read}{why}")


def kept_upload(data: bytes, name: str) -> str:
    """Keep uploaded rows under their own digest, so that a recipe can name them; raises `DataError` for a full disk."""
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), ".jsonl")
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
