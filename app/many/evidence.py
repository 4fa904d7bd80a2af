"""Evidence: the methods of a sweep against the adapters it ran on, the effect over all of them, and the way to a run."""

import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

import viz
from app.evaluation.form import VIEW
from app.evaluation.starting import SHOWN
from app.frame import plain
from app.state.runs import signature
from app.state.workspace import Workspace, open_source
from surgery.adapter_sets import AdapterSet
from surgery.errors import DataError
from surgery.evaluation import LOST, TIE, WIN
from surgery.experiments.sweeps import (
    Evidence,
    KeptSweep,
    MethodEvidence,
    change_text,
    evidence,
    evidence_markdown,
    kept_sweeps,
    notes_of,
    on_adapter_text,
    over_text,
    p_text,
    results,
    scaled,
)
from surgery.files import sweeps_folder
from surgery.runs import stored_run

_CHART, _TABLE = "many-forest", "many-evidence-table"


def evidence_view(adapters: AdapterSet) -> None:
    """A sweep that was begun: its forest plot, and its table of methods against adapters."""
    sweeps = _listed(str(sweeps_folder()), _stamp())
    if sweeps:
        left, right = st.columns([3, 2], vertical_alignment="bottom")
        sweep = left.selectbox("Sweep", sweeps, format_func=_sweep_name, key="many-sweep")
        _tell_refused(sweep)
        found = evidence_of(sweep)
        if found:
            asked = right.selectbox("Question and metric", found, format_func=_asked, key="many-question")
            _show(asked, found, sweep)
        else:
            st.caption("No pass of this sweep has ended yet. What has ended appears here while it goes on.")
    else:
        st.caption(
            "No sweep was begun on this machine yet. A sweep redoes a recipe on every adapter of a folder, each from "
            "its own sensitivities, and proves it on held-out examples; what it finds appears here."
        )
    with st.expander("Run a recipe on every adapter of this folder", expanded=not sweeps):
        _offer_commands(adapters)


def _stamp() -> tuple[object, ...]:
    """Changes when a sweep is begun, a pass of one ends, or a run goes."""
    times = []
    for folder in (sweeps_folder(), sweeps_folder() / "whole"):
        try:
            times.append(folder.stat().st_mtime_ns)
        except OSError:
            times.append(0)
    return (*times, signature())


@st.cache_resource(max_entries=2, show_spinner=False)
def _listed(folder: str, stamp: tuple[object, ...]) -> tuple[KeptSweep, ...]:
    return tuple(kept_sweeps())


def evidence_of(sweep: KeptSweep) -> tuple[Evidence, ...]:
    """What is known of a sweep now, computed once for the runs that have ended."""
    runs = tuple(each.run.metrics.samples for each in sweep.answered if each.run.metrics is not None)
    return _computed(sweep.key, runs, sweep)


@st.cache_resource(max_entries=8, show_spinner="Drawing resamples over adapters …")
def _computed(key: str, runs: tuple[str, ...], _sweep: KeptSweep) -> tuple[Evidence, ...]:
    return evidence(results(_sweep))


def _sweep_name(sweep: KeptSweep) -> str:
    done, total = len(sweep.answered), len(sweep.groups)
    ended = "finished" if done == total else f"{done} of {total} passes"
    return f"{sweep.name or 'sweep'} · {sweep.started:%Y-%m-%d %H:%M} · {len(sweep.adapters)} adapters · {ended}"


def _asked(found: Evidence) -> str:
    return f"{found.question}: {found.metric.title}"


def _tell_refused(sweep: KeptSweep) -> None:
    if sweep.refused:
        with st.expander(f"{len(sweep.refused)} adapters of the folder take no part"):
            for each in sweep.refused:
                st.caption(f"**{plain(each.name)}**: {plain(each.reason)}")


def _show(found: Evidence, every: Sequence[Evidence], sweep: KeptSweep) -> None:
    methods = {method.method: method for method in found.methods}
    name = next(iter(methods))
    if len(methods) > 1:
        name = st.selectbox("Method", list(methods), key="many-method")
    method = methods[name]
    chart = st.plotly_chart(
        forest_of(found, method),
        key=f"{_CHART}-{sweep.key}",
        on_select="rerun",
        selection_mode="points",
        alt=f"{found.metric.title} of {name} on each of {len(method.adapters)} adapters, and the mean over them",
    )
    st.markdown(
        f"**{_counted(method.counts)}** · "
        + " · ".join(f"{head}: {text}" for head, text in over_text(found.metric, method.over).items())
    )
    for note in notes_of(found):
        st.caption(plain(note))
    _show_table(found, every, sweep)
    clicked = [point["customdata"][0] for point in chart.selection.points if point.get("customdata")]
    if clicked and clicked[0]:
        open_run(str(clicked[0]))


def _counted(counts: tuple[int, int, int]) -> str:
    words = (("win", "wins"), ("tie", "ties"), ("loss", "losses"))
    return ", ".join(f"{count} {word[count != 1]}" for count, word in zip(counts, words, strict=True))


def forest_of(found: Evidence, method: MethodEvidence) -> Any:
    """The forest plot of one method, in the metric's unit."""
    metric, over = found.metric, method.over
    rows = [
        viz.ForestRow(
            each.adapter,
            scaled(metric, each.change.mean),
            scaled(metric, each.change.low),
            scaled(metric, each.change.high),
            each.verdict,
            f"{p_text(each.p)}, {each.examples} examples",
            each.run,
        )
        for each in method.adapters.values()
    ]
    better = (over.effect.mean > 0) == metric.higher_is_better
    low, high = (scaled(metric, end) for end in (over.effect.low, over.effect.high))
    t_low, t_high = (scaled(metric, end) for end in over.t_interval)
    pooled = viz.Pooled(
        f"mean over {over.adapters} adapters" if over.adapters > 1 else "one adapter",
        scaled(metric, over.effect.mean),
        (low, high),
        (t_low, t_high),
        (WIN if better else LOST) if over.certain else TIE,
    )
    direction = "right is better" if metric.higher_is_better else "left is better"
    title = f"Δ {metric.title} of {method.method}"
    return viz.forest(rows, pooled, title=title, unit=f"Δ {metric.title}, {metric.unit}; {direction}")


def table_of(found: Evidence) -> pd.DataFrame:
    """Adapters as rows, methods as columns: change, interval, p and verdict; counts and means below."""
    columns: dict[str, list[str]] = {"adapter": [*found.adapters, "wins / ties / losses", "mean over adapters"]}
    for method in found.methods:
        cells = [on_adapter_text(found.metric, each) for each in map(method.adapters.get, found.adapters)]
        counts = " / ".join(map(str, method.counts))
        columns[method.method] = [*cells, counts, change_text(found.metric, method.over.effect)]
    return pd.DataFrame(columns)


def _show_table(found: Evidence, every: Sequence[Evidence], sweep: KeptSweep) -> None:
    st.markdown("Methods against adapters")
    event = st.dataframe(
        table_of(found),
        hide_index=True,
        width="stretch",
        key=f"{_TABLE}-{sweep.key}",
        on_select="rerun",
        selection_mode="single-row",
    )
    picked = [found.adapters[row] for row in event.selection.rows if row < len(found.adapters)]
    runs = [method.adapters[picked[0]].run for method in found.methods if picked and picked[0] in method.adapters]
    left, middle, _ = st.columns([1, 1, 3], vertical_alignment="center")
    if left.button(
        "Open its run",
        disabled=not runs,
        width="stretch",
        key="many-open-run",
        help="On the Evaluate page, with its adapter in the place of the one that is open. A click on a mark does it too.",
    ):
        open_run(runs[0])
    middle.download_button(
        "As Markdown",
        evidence_markdown(every, sweep.refused),
        "evidence.md",
        "text/markdown",
        on_click="ignore",
        width="stretch",
    )


def open_run(key: str) -> None:
    """Open the run on the Evaluate page; raises `DataError` where it or its adapter is gone, and `AdapterError`."""
    run = stored_run(key)
    if run is None or not run.finished:
        raise DataError(f"the run {key!r} has gone", "start the sweep again: what is there is not asked again")
    opened = st.session_state.get("workspace")
    if not isinstance(opened, Workspace) or opened.adapter.digest != run.plan.adapter_digest:
        opened = open_source(run.plan.adapter)
    if opened.adapter.digest != run.plan.adapter_digest:
        raise DataError(f"the files of {run.plan.adapter!r} have changed since the run", "start the sweep again")
    st.session_state[SHOWN] = key
    st.session_state[VIEW] = "Results"
    st.switch_page("views/evaluate.py")


def _offer_commands(adapters: AdapterSet) -> None:
    limit = st.number_input("Held-out examples", 1, 100_000, 32, key="many-sweep-limit")
    command = [
        "python",
        "-m",
        "surgery",
        "sweep",
        "--set",
        str(adapters.root.absolute()),
        "--recipe",
        "recipe.yaml",
    ]
    told = shlex.join([*command, "--limit", str(limit)])
    st.caption(
        "The recipe of the Export page names the base, the rows that every adapter is measured on, and those that it is "
        "proven on. The first command tells what it costs, the second carries it out; stopped, it goes on where it was."
    )
    st.code(f"{told} --dry-run\n{told} --tables evidence", language="bash")
