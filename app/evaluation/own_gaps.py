"""A person's own proofs against the base, beside the follow-up's table: what each edit forgets, slice by slice and on average."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.evaluation.ledger_table import ledger_table
from app.frame import plain
from app.state.runs import runs_of_adapter
from app.state.workspace import Workspace
from surgery.evaluation import Ledger, averaged
from surgery.experiments import EDIT
from surgery.runs import PROOF, Run

_MEAN = "mean over"


def show_own_gaps(workspace: Workspace) -> None:
    """The table of the open adapter's edits that were proven with the base, or how to get one."""
    st.markdown("**Your own edits against the base**")
    found = own_gaps(runs_of_adapter(workspace))
    if not found:
        st.caption("Prove an edit with *Base model beside it* ticked: what it forgets stands here.")
        return
    for edit, (policy, ledgers) in found.items():
        st.caption(plain(f"{policy}, edit {edit[:8]}"))
        st.dataframe(
            _with_mean(ledgers), hide_index=True, width="stretch", height="content", key=f"own-gaps-{edit}"
        )
    st.caption(
        "Intervals are 95 %. The means count every slice alike; the interval of a mean gap holds for all slices at once, "
        "because the clipped gaps are above zero by noise alone."
    )


def own_gaps(runs: Sequence[Run]) -> dict[str, tuple[str, dict[str, Ledger]]]:
    """By edit its policy and the ledger on each slice that it was proven on with the base, the newest run of each."""
    found: dict[str, tuple[str, dict[str, Ledger]]] = {}
    for run in runs:
        own = run.metrics.summary.variants.get(EDIT) if run.metrics else None
        if run.plan.purpose != PROOF or own is None or not own.ledgers:
            continue
        policy = str(run.plan.edits.get(EDIT, {}).get("policy"))
        _, ledgers = found.setdefault(run.plan.edit, (policy, {}))
        ledgers.setdefault(run.plan.slice_name, next(iter(own.ledgers.values())))
    return found


def _with_mean(ledgers: dict[str, Ledger]) -> pd.DataFrame:
    whole = dict(ledgers)
    if len(ledgers) > 1:
        whole[f"{_MEAN} {len(ledgers)} slices"] = averaged(ledgers)
    table = ledger_table(whole, "slice", unedited=False)
    forgotten = [f"{100 * found.unedited.value:.1f}" for found in whole.values()]
    table.insert(len(table.columns), "Gap of the adapter", forgotten)
    return table
