"""Every adapter of a set as a row: sort, filter, open one in the workbench, save them as CSV."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.frame import plain, show_error
from app.state.workspace import open_source
from surgery.adapter_sets import AdapterSet, Member
from surgery.errors import SurgeryError
from surgery.spectra import energy_at


def set_table(adapters: AdapterSet) -> None:
    """The members that fit the filters; refused ones with their reasons."""
    members = sorted(_filtered(adapters.members), key=lambda member: bool(member.refusal))
    refused = [member for member in members if member.refusal]
    most = max((rank for member in members for rank in member.row.ranks), default=1)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    k = right.number_input("k of energy at k", 1, most, min(4, most), key="many-energy-k")
    left.caption(_told(len(members), len(refused), len(adapters.members)))
    table = table_of(members, k)
    event = st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        key="many-table",
        on_select="rerun",
        selection_mode="single-row",
        column_config=_columns(k),
    )
    picked = [members[row] for row in event.selection.rows if row < len(members)]
    _actions(adapters, table, picked)


def table_of(members: Sequence[Member], k: int) -> pd.DataFrame:
    """The rows of `inspect --many` with steps: norms and ranks, and the share of Σσ² that the first k components have."""
    rows = [
        {
            "adapter": member.name,
            "step": member.step,
            "base": row.base,
            "modules": row.modules or None,
            "ranks": ", ".join(map(str, row.ranks)),
            "parameters": row.parameters or None,
            "norm": row.norm,
            "effective rank": row.effective_rank,
            "stable rank": row.stable_rank,
            "σ₁": row.top,
            f"energy at {k}": energy_at(row.energy_shares, k),
            "refused": row.refusal,
            "notes": "; ".join(row.notes),
        }
        for member in members
        for row in (member.row,)
    ]
    table = pd.DataFrame(rows)
    whole = {name: "Int64" for name in ("step", "modules", "parameters") if name in table}
    table = table.astype(whole)
    empty = [name for name in ("step", "refused", "notes") if not table[name].replace("", pd.NA).notna().any()]
    return table.drop(columns=empty)


def _columns(k: int) -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "parameters": number(format="localized"),
        "norm": number("‖ΔW‖", format="%.3f", help="Frobenius norm over all modules."),
        "effective rank": number(
            format="%.2f", help="exp of the entropy of σ/Σσ, the mean over modules that are not zero."
        ),
        "stable rank": number(format="%.2f", help="Σσ²/σ₁², the mean over modules that are not zero."),
        "σ₁": number(format="%.3f", help="The largest singular value of all modules."),
        f"energy at {k}": number(
            format="percent", help=f"The share of Σσ² that the first {k} components of every module have."
        ),
    }


def _filtered(members: Sequence[Member]) -> list[Member]:
    base_cell, rank_cell, text_cell = st.columns([2, 1, 2], vertical_alignment="bottom")
    bases = sorted({member.row.base for member in members if not member.refusal})
    ranks = sorted({rank for member in members for rank in member.row.ranks})
    base = base_cell.multiselect("Base", bases, key="many-bases", format_func=lambda name: name or "unnamed")
    rank = rank_cell.multiselect("Rank", ranks, key="many-ranks")
    words = text_cell.text_input("Filter", key="many-filter", placeholder="folder, base, reason …")
    return [
        member
        for member in members
        if (not base or (member.row.base in base and not member.refusal))
        and (not rank or set(rank) & set(member.row.ranks))
        and all(word in _text(member) for word in words.lower().split())
    ]


def _text(member: Member) -> str:
    return " ".join([member.name, member.row.base, member.refusal, *member.row.notes]).lower()


def _told(shown: int, refused: int, total: int) -> str:
    of = f" of {total}" if shown != total else ""
    return f"{shown}{of} adapters, {refused} refused. Pick a row to open it in the workbench."


def _actions(adapters: AdapterSet, table: pd.DataFrame, picked: Sequence[Member]) -> None:
    left, middle, right = st.columns([1, 1, 3], vertical_alignment="center")
    chosen = picked[0] if picked else None
    if left.button(
        "Open",
        type="primary",
        disabled=chosen is None or bool(chosen.refusal),
        width="stretch",
        help="In the workbench, in the place of the adapter that is open there.",
    ):
        assert chosen is not None
        try:
            open_source(str(chosen.folder))
        except SurgeryError as error:
            show_error(error)
        else:
            st.switch_page("views/adapter.py")
    middle.download_button(
        "Table as CSV", table.to_csv(index=False), "adapters.csv", "text/csv", on_click="ignore", width="stretch"
    )
    right.caption(plain(str(adapters.root)) if chosen is None else plain(chosen.refusal or str(chosen.folder)))
