"""How records become rows, as every page that names rows asks for it, and the rows as far as they are here."""

import streamlit as st

from surgery.data import (
    AUTO,
    CONVERSATIONAL,
    FIELDS,
    FORMATS,
    TURNS,
    RowFields,
    SourceRows,
    is_hub,
    read_source,
    source_files,
)
from surgery.errors import DataError

FILES = "JSON lines or array, CSV, TSV, CoNLL, parquet, arrow, each packed by gzip or not"
_TURNS = dict(zip(TURNS, ("the last", "every one"), strict=True))
_FIELD_HELP = (
    "The name of a field, or a template such as {context} {question.stem} that takes several. Named fields are taken "
    "whatever the rows look like."
)


def format_controls(present: RowFields, key: str) -> RowFields:
    """The format of the rows, which answers of a conversation count, and the fields of prompt and answer.

    Raises `DataError` for a template that cannot be read.
    """
    left, right = st.columns(2)
    format_ = left.selectbox(
        "Format of the rows",
        list(FORMATS),
        list(FORMATS).index(present.format),
        format_func=FORMATS.__getitem__,
        key=f"{key}-format",
        persist_state="session",
        help="As the rows are: the format is told from their fields, and shown below.",
    )
    format_ = format_ or present.format
    turns = present.turns
    if format_ in (AUTO, *CONVERSATIONAL):
        turns = right.selectbox(
            "Answers of a conversation",
            TURNS,
            TURNS.index(present.turns),
            format_func=_TURNS.__getitem__,
            key=f"{key}-turns",
            persist_state="session",
            help="Every one: each is a row of its own, with all turns before it as its prompt.",
        )
    if format_ not in (AUTO, FIELDS):
        return RowFields(present.prompt, present.answer, format_, turns or present.turns)
    left, right = st.columns(2)
    prompt, answer = (
        cell.text_area(
            f"{name} field",
            value,
            height=68,
            key=f"{key}-{name.lower()}",
            persist_state="session",
            help=_FIELD_HELP,
        )
        for cell, name, value in ((left, "Prompt", present.prompt), (right, "Answer", present.answer))
    )
    return RowFields(prompt or "", answer or "", format_, turns or present.turns)


def read_rows(data: str, fields: RowFields) -> SourceRows:
    """The rows of a source, as far as they are on this machine; raises `NotFetchedError` where they are not."""
    return _read(data, fields, _stamp(data))


def _stamp(data: str) -> tuple[tuple[str, int, int], ...]:
    """What changes when the files behind a source do; the cache of the hub is looked up each time."""
    if is_hub(data):
        return ()
    try:
        files = [(file, file.stat()) for file in source_files(data, download=False)]
    except (OSError, DataError):
        return ()
    return tuple((str(file), status.st_mtime_ns, status.st_size) for file, status in files)


@st.cache_resource(max_entries=4, show_spinner=False)
def _read(data: str, fields: RowFields, stamp: tuple[tuple[str, int, int], ...]) -> SourceRows:
    """The rows of a source without going to the network; they never change, so sessions may share them."""
    return read_source(data, fields, download=False)
