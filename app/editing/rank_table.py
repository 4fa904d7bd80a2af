"""Below the board: what the edit and every way of cutting the rank would keep, and how small the file would be."""

import math
from dataclasses import replace

import pandas as pd
import streamlit as st

from app.editing.folded import folded
from app.frame import plain
from app.state.workspace import Workspace, keep
from surgery.edits import EditPlan, Kept, kept_in_sum, kept_of
from surgery.errors import SurgeryError
from surgery.export import Layout, Smaller, edited_layout
from surgery.policies import Rank

NOW = "the edit on the board"
PICKERS = {
    "σ², one threshold for the scope (ε-PARA)": Rank(cut="para"),
    "σ², the share of each module": Rank(cut="energy"),
    "σ²q, one threshold": Rank(cut="para", by="functional"),
    "σ²q, the share of each module": Rank(cut="energy", by="functional"),
    "|σ·ḡ|, one threshold": Rank(cut="para", by="gradient"),
    "mean |g|, one threshold": Rank(cut="para", by="sensitivity"),
    "σ, effective rank": Rank(cut="effective"),
    "σ, knee": Rank(cut="knee"),
    "σ², a fixed rank": Rank(),
    "σ²q, a fixed rank": Rank(by="functional"),
    "|σ·ḡ|, a fixed rank (GRASP)": Rank(by="gradient"),
}


def rank_panel(workspace: Workspace) -> None:
    """The tables, computed while they are open: they follow the board when the hand rests."""
    folded("What a cut keeps", "rank-table-open", ":material/content_cut:", _show, workspace)


def _show(workspace: Workspace) -> None:
    largest = max(module.sigma.size for module in workspace.edit.modules.values())
    left, right = st.columns(2)
    share = left.slider("Share that is kept", 0.5, 1.0, 0.95, 0.005, key="rank-share", format="%.3f")
    fixed = right.slider("Fixed rank", 1, max(largest, 2), max(1, largest // 2), key="rank-fixed")
    plans = cut_plans(workspace, share, min(fixed, largest))
    rows, refused = {NOW: workspace.plan, **plans}, []
    found: dict[str, tuple[Kept, Layout, Layout]] = {}
    for name, plan in rows.items():
        try:
            found[name] = _outcome(workspace, plan)
        except SurgeryError as error:
            refused.append(f"{name}: {error.problem}")
    st.dataframe(
        picker_table(found),
        hide_index=True,
        width="stretch",
        key="rank-pickers",
        height=36 * (len(found) + 1),
        column_config={
            "kept of Σσ²": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
            "of E‖ΔWx‖²": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
        },
    )
    st.caption(
        "MB are of all factors of the adapter, each module at its own rank, or padded with zeros to the largest; modules "
        "out of the scope keep theirs, so widen the scope to save more. What is kept says nothing of the answers: prove the cut on the Evaluate page."
    )
    for text in refused:
        st.caption(plain(text))
    _open_one(workspace, {name: plan for name, plan in plans.items() if name in found})
    _modules(workspace)


def cut_plans(workspace: Workspace, share: float, fixed: int) -> dict[str, EditPlan]:
    """Every picker at a share or a fixed rank, over the board's scope, without gains by hand."""
    found = {}
    for name, picker in PICKERS.items():
        policy = replace(picker, keep=fixed, share=share)
        found[name] = EditPlan(policy, workspace.plan.scope)
    return found


def _outcome(workspace: Workspace, plan: EditPlan) -> tuple[Kept, Layout, Layout]:
    edit = workspace.edit if plan is workspace.plan else plan.apply(workspace.spectra, workspace.sensitivity)
    ragged, padded = (edited_layout(workspace.adapter, edit, Smaller(pad)) for pad in (None, 0))
    return kept_in_sum(edit, workspace.sensitivity), ragged, padded


def picker_table(found: dict[str, tuple[Kept, Layout, Layout]]) -> pd.DataFrame:
    """A row for the edit and for every picker: what it keeps in sum, and the size of its file."""
    rows = [
        {
            "cut": name,
            "components": f"{kept.kept:,} of {kept.rank:,}",
            "kept of Σσ²": kept.energy,
            "of E‖ΔWx‖²": None if math.isnan(kept.functional) else kept.functional,
            "parameters": ragged.parameters,
            "MB": round(ragged.bytes / 1e6, 2),
            "saved": f"{ragged.saved:.1%}",
            "MB padded": round(padded.bytes / 1e6, 2),
            "largest rank": ragged.largest,
            "left out": len(ragged.left_out),
        }
        for name, (kept, ragged, padded) in found.items()
    ]
    return pd.DataFrame(rows)


def _open_one(workspace: Workspace, plans: dict[str, EditPlan]) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    name = left.selectbox("Cut", list(plans), key="rank-chosen")
    if right.button("Open on the board", key="rank-open", width="stretch", disabled=name is None) and name:
        keep(workspace.with_history(workspace.history.record(f"cut {name}", plans[name])))
        st.rerun()


def _modules(workspace: Workspace) -> None:
    """What the edit on the board keeps of every module."""
    st.markdown("**Module by module, the edit on the board**")
    st.dataframe(
        module_table(workspace),
        hide_index=True,
        width="stretch",
        height=280,
        key="rank-modules",
        column_config={
            "kept of Σσ²": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
            "of E‖ΔWx‖²": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
        },
    )


def module_table(workspace: Workspace) -> pd.DataFrame:
    """A row for every module in scope."""
    found = kept_of(workspace.edit, workspace.sensitivity)
    ranks = edited_layout(workspace.adapter, workspace.edit, Smaller()).ranks
    factors = workspace.adapter.modules
    return pd.DataFrame(
        [
            {
                "module": name,
                "rank": kept.rank,
                "kept": kept.kept,
                "kept of Σσ²": kept.energy,
                "of E‖ΔWx‖²": None if math.isnan(kept.functional) else kept.functional,
                "parameters": ranks[name] * (factors[name].B.shape[0] + factors[name].A.shape[1]),
                "in the file": f"rank {ranks[name]}" if ranks[name] else "left out",
            }
            for name, kept in found.items()
        ]
    )
