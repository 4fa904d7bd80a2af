"""The history of runs as a table to sort, filter, compare, plot and open."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

import viz
from app.evaluation.form import VIEW
from app.evaluation.reporting import report_button
from app.evaluation.starting import SHOWN
from app.frame import plain, show_error
from app.state.runs import Signature, all_runs, evaluation_of, runs_of_adapter, signature
from app.state.workspace import Workspace
from surgery.errors import SurgeryError
from surgery.evaluation import Effect, is_random_control
from surgery.experiments import EDIT
from surgery.files import runs_folder
from surgery.runs import PROOF, Run, delete_run

_EVERY = 3.0  # seconds between looks at the folder of runs
_TABLE, _ROWS = "history", "history-rows"


def show_history(workspace: Workspace) -> None:
    """Rows can be picked: one to look at, several to compare. It fills while a sweep or another page works."""
    _follow(signature())
    left, middle, right = st.columns([1.2, 1.2, 2.4], vertical_alignment="bottom")
    everything = left.toggle("Other adapters too", key="history-all")
    proofs = middle.toggle("Proofs only", value=False, key="history-proofs")
    words = right.text_input("Filter", key="history-filter", placeholder="policy, slice, adapter …")
    runs = [
        run
        for run in (all_runs() if everything else runs_of_adapter(workspace))
        if (run.plan.purpose == PROOF or not proofs) and _matches(run, words)
    ]
    if not runs:
        st.caption(
            "No run is like that."
            if words or proofs
            else "No run of this adapter has been kept yet. Every proof and every table of the diagnostics comes here, "
            "to sort, compare and open again."
        )
        return
    table = table_of(runs)
    _keep_picked(runs)
    event = st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        key=_TABLE,
        on_select="rerun",
        selection_mode="multi-row",
        column_config={"started": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm")},
    )
    picked = [runs[row] for row in event.selection.rows if row < len(runs)]
    _actions(workspace, table, picked)
    if len(picked) > 1:
        _compare([run for run in picked if run.finished])


def _actions(workspace: Workspace, table: pd.DataFrame, picked: Sequence[Run]) -> None:
    """What can be done with the runs that are picked, and with the table."""
    actions = st.columns([1, 1, 1, 1, 2], vertical_alignment="center")
    of_this = [run for run in picked if run.finished and run.plan.adapter_digest == workspace.adapter.digest]
    actions[0].button(
        "Open",
        disabled=len(picked) != 1 or not of_this,
        on_click=_open,
        args=of_this[:1],
        width="stretch",
        help="Shows the results of a run that has ended. For one of another adapter, open that adapter first.",
    )
    if actions[1].button(
        "Delete",
        disabled=not picked or any(run.shipped for run in picked),
        width="stretch",
        help="Runs that ship with a demo stay.",
    ):
        try:
            for run in picked:
                delete_run(run)
        except SurgeryError as error:
            show_error(error)
        else:
            st.rerun()
    actions[2].download_button(
        "Table as CSV", table.to_csv(index=False), "runs.csv", "text/csv", on_click="ignore", width="stretch"
    )
    _offer_report(actions[3], picked)
    actions[4].caption(f"Pick two or more to compare. Files: {plain(str(runs_folder()))}")


def _offer_report(cell: Any, picked: Sequence[Run]) -> None:
    """The report of the one run that is picked, once it has ended; of other adapters too."""
    proven = None
    if len(picked) == 1 and picked[0].finished:
        try:
            proven = picked[0], evaluation_of(picked[0])
        except SurgeryError as error:
            show_error(error)
    report_button(cell, proven, "picked")


def _open(run: Run) -> None:
    st.session_state[SHOWN] = run.plan.key
    st.session_state[VIEW] = "Results"


def _keep_picked(runs: Sequence[Run]) -> None:
    """What is picked stays picked when other runs come and go: the table itself only knows numbers of rows."""
    rows = [run.plan.key for run in runs]
    before = st.session_state.get(_ROWS, rows)
    if rows != before:
        picked = st.session_state[_TABLE]["selection"]["rows"] if _TABLE in st.session_state else []
        still = [rows.index(before[row]) for row in picked if row < len(before) and before[row] in rows]
        st.session_state[_TABLE] = {"selection": {"rows": still}}
    st.session_state[_ROWS] = rows


@st.fragment(run_every=_EVERY)
def _follow(seen: Signature) -> None:
    """Show the page anew once a run has appeared, ended or gone."""
    if signature() != seen:
        st.rerun()


def table_of(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each run; changes are those of its edit."""
    rows = []
    for run in runs:
        plan = run.plan
        row: dict[str, object] = {
            "started": run.started,
            "adapter": plan.adapter,
            "slice": plan.slice_name,
            "examples": plan.examples,
            "asks": plan.purpose,
            **{name: _told(plan.edits.values(), name) for name in ("policy", "scope", "energy")},
            "variants": len(plan.variants),
            "random controls": controls_of(run),
            "state": state_of(run),
        }
        for metric, effect in changes_of(run).items():
            row[f"Δ {metric}"] = effect.mean
            row[f"± {metric}"] = effect.standard_error
        row["run"] = plan.key
        rows.append(row)
    return pd.DataFrame(rows)


def controls_of(run: Run) -> str:
    """How many random controls a run has, or whose they are not: earlier versions drew some of another scope."""
    if unlike := run.plan.unlike_controls:
        return f"of another scope or energy rule than {', '.join(unlike)}"
    own = {name for group in run.plan.controls.values() for name in group.random}
    return str(len(own) or sum(map(is_random_control, run.plan.variants)))


def state_of(run: Run) -> str:
    """Whether a run has ended here or shipped with a demo, or how far it came."""
    if run.finished:
        return "shipped" if run.shipped else "ended"
    return f"{'under way' if run.under_way else 'stopped'}, {run.done:,} answers"


def changes_of(run: Run) -> dict[str, Effect]:
    """The edit's changes by the first two metrics."""
    if run.metrics is None:
        return {}
    found = run.metrics.summary.variants.get(EDIT)
    changes = found.changes if found else {}
    names = [metric.name for metric in run.metrics.summary.metrics[:2]]
    return {name: changes[name] for name in names if name in changes}


def _told(edits: Iterable[Mapping[str, Any]], name: str) -> str:
    """A setting of the edits of a run: one where they share it, else all of them."""
    return ", ".join(dict.fromkeys(str(edit.get(name)) for edit in edits))


def _compare(runs: Sequence[Run]) -> None:
    """The edit's change in each run, one chart for each metric that they share."""
    by_run = [(run, changes_of(run)) for run in runs]
    names = list(dict.fromkeys(name for _, changes in by_run for name in changes))
    for name in names:
        known = [(run, changes[name]) for run, changes in by_run if name in changes]
        known = [(run, effect) for run, effect in known if not np.isnan(astuple(effect)).any()]
        if not known:
            continue
        metric = next(m for run, _ in known if run.metrics for m in run.metrics.summary.metrics if m.name == name)
        scale = 100 if metric.binary else 1
        labels = [f"{place + 1} · {_label(run)}" for place, (run, _) in enumerate(known)]
        st.plotly_chart(
            viz.effect_intervals(
                labels,
                [scale * effect.mean for _, effect in known],
                [scale * effect.low for _, effect in known],
                [scale * effect.high for _, effect in known],
                title=f"Change of {metric.title} by the edit of each run",
                unit=metric.unit,
                lower_is_better=not metric.higher_is_better,
            ),
            key=f"compare-{name}",
            alt=f"Change of {metric.title} by the edit of each run picked, with 95 % intervals",
        )
    st.caption(
        "Runs on different slices or adapters are not paired with each other: compare intervals, not differences."
    )


def _label(run: Run) -> str:
    edit = run.plan.edits.get(EDIT, {})
    return f"{edit.get('policy', '?')}, {edit.get('scope', '?')}, {edit.get('energy', '?')}, {run.plan.slice_name}"


def _matches(run: Run, words: str) -> bool:
    plan = run.plan
    text = " ".join(
        [plan.adapter, plan.slice_name, plan.purpose, plan.key, str(plan.base.get("location")), str(plan.edits)]
    )
    return all(word in text.lower() for word in words.lower().split())
