"""The first rows of a calibration as tokens, and what is odd about all of them, before anything is measured."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import streamlit as st

from app.components import component
from app.frame import plain, show_error
from surgery.adapter import Adapter
from surgery.data import CalibrationPlan, Slice
from surgery.errors import SurgeryError
from surgery.model import BaseChoice, TokenPreview, preview_tokens

_MOST = 256  # rows that are looked at: the page encodes them anew with every setting

_mount = component("tokens", Path(__file__).parent, "tokens")


def show_tokens(adapter: Adapter, base: BaseChoice, plan: CalibrationPlan, slice_: Slice, key: str) -> None:
    """The first rows as tokens, once a person asks for them: the tokenizer is loaded then, not the model."""
    asked = st.toggle(
        "Show the first rows as tokens",
        key=f"{key}-tokens",
        persist_state="session",
        help="What the model reads, which part the loss counts, and what is odd about it. Loads the tokenizer only.",
    )
    if not asked:
        return
    try:
        with st.spinner("Loading the tokenizer…"):
            preview = _preview(adapter, base, plan, slice_)
    except SurgeryError as error:
        show_error(error)
        return
    show_notes(preview.notes)
    shown = f"{len(preview.calibration.examples):,}"
    total = f"the first {shown}" if len(slice_.rows) > _MOST else shown
    _mount(
        key=f"{key}-tokens-shown",
        data={"rows": [[asdict(token) for token in row] for row in preview.rows], "total": total},
    )


def _preview(adapter: Adapter, base: BaseChoice, plan: CalibrationPlan, slice_: Slice) -> TokenPreview:
    first = replace(slice_, rows=slice_.rows[:_MOST])
    return preview_tokens(
        adapter, base, plan, first, loaded=_tokenizer(replace(base, device="cpu", dtype="float32"))
    )


@st.cache_resource(max_entries=2, show_spinner=False)
def _tokenizer(base: BaseChoice) -> object:
    from surgery.model import tokenizer_alone

    return tokenizer_alone(base.location, revision=base.revision)


def show_notes(notes: Sequence[str]) -> None:
    """What is odd, in one box; nothing where nothing is. Notes quote files, so they are shown as plain text."""
    lines = [plain(note[:1].upper() + note[1:]) for note in notes]
    if lines:
        text = lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)
        st.warning(text, icon=":material/warning:")
