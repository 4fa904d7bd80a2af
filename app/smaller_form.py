"""The choice of form on the Export page: factors like the original's, or truly smaller ones."""

import streamlit as st

from app.state.workspace import Workspace
from surgery.export import VLLM_RANKS, Layout, Smaller, edited_layout

SAME = "like the original: same config, names and shapes"
RAGGED = "smaller, each module at its own rank"
PADDED = "smaller, one rank for all, filled with zeros"
SERVED = "smaller, padded to the next rank that vLLM names"


def form_picker(workspace: Workspace) -> Smaller | None:
    """What the factors are to be written as; None, without a question, where the edit leaves nothing out."""
    found = edited_layout(workspace.adapter, workspace.edit, Smaller())
    if found.saved <= 0:
        return None
    if workspace.adapter.kind == "AdaLoRA":
        return _of_triplets(found)
    served = next((rank for rank in VLLM_RANKS if rank >= found.largest), found.largest)
    forms = {SAME: None, RAGGED: Smaller(), PADDED: Smaller(0), SERVED: Smaller(served)}
    padded, filled = (edited_layout(workspace.adapter, workspace.edit, Smaller(rank)) for rank in (0, served))
    left = f", {len(found.left_out)} modules left out" if found.left_out else ""
    chosen = st.radio(
        "Factors",
        list(forms),
        key="export-form",
        captions=[
            f"{found.bytes_before / 1e6:.2f} MB, zeros where the edit cut",
            f"{found.bytes / 1e6:.2f} MB, {found.saved:.0%} saved, ranks up to {found.largest}{left}; for PEFT",
            f"{padded.bytes / 1e6:.2f} MB, {padded.saved:.0%} saved, rank {padded.largest}; for servers that read one rank",
            f"{filled.bytes / 1e6:.2f} MB, rank {served}, which --max-lora-rank {served} holds exactly",
        ],
    )
    return forms[chosen]


def _of_triplets(found: Layout) -> Smaller | None:
    """AdaLoRA's choice: all triplets, or those that are kept, which its config marks; there is no padded form."""
    chosen = st.radio(
        "Factors",
        [SAME, RAGGED],
        key="export-form",
        captions=[
            f"{found.bytes_before / 1e6:.2f} MB, zeros where the edit cut",
            f"{found.bytes / 1e6:.2f} MB, {found.saved:.0%} saved, up to {found.largest} triplets; for PEFT",
        ],
    )
    return Smaller() if chosen == RAGGED else None
