"""What searches found: the front while it grows, and a trial that is opened, tried or kept."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

import viz
from app.editing.measuring import KIND, ready
from app.editing.trying import try_box
from app.state import jobs
from app.state.workspace import Workspace, current, keep
from surgery.evaluation import Effect
from surgery.experiments.search import (
    JOURNAL,
    MEASURED,
    OUTCOMES,
    STOPPED,
    Objective,
    Search,
    SearchPlan,
    StoredSearch,
    Trial,
    front,
    settings,
    stored_searches,
    warning,
)
from surgery.files import file_stamp

_EVERY = 3.0  # seconds between two looks at a search that runs
_NUMBER = viz.FrontAxis("trial", unedited=None)


def show_searches(workspace: Workspace) -> None:
    """The search that runs, or one that was made of this adapter."""
    job = jobs.active(KIND)
    if job is not None and isinstance(job.partial, Search):
        _growing()
        return
    stored = [each for each in stored_searches(workspace.adapter.digest) if (each.folder / JOURNAL).exists()]
    if not stored:
        return
    by_key = {search.folder.name: search for search in stored}
    last = st.session_state.get("bench-searched")
    newest = last.value.key if last is not None and last.value.key in by_key else stored[0].folder.name
    picked = st.selectbox(
        "Search",
        list(by_key),
        list(by_key).index(newest),
        format_func=lambda key: _search_name(by_key[key]),
        key=f"search-shown-{newest}-{len(stored)}",
    )
    journal = by_key[picked].folder / JOURNAL
    _result(by_key[picked].plan, _trials(str(journal), file_stamp(journal), by_key[picked]))


@st.cache_resource(max_entries=4, show_spinner=False)
def _trials(journal: str, stamp: tuple[int, int, int], _search: StoredSearch) -> tuple[Trial, ...]:
    """Read once for each state of the journal: a page asks on every run."""
    return _search.trials


def _search_name(search: StoredSearch) -> str:
    titles = ", ".join(each.title for each in search.plan.asked)
    return (
        f"{search.started:%Y-%m-%d %H:%M} · {search.plan.start.policy.name} · {titles} · {search.plan.tuning.data}"
    )


@st.fragment(run_every=_EVERY)
def _growing() -> None:
    job = jobs.active(KIND)
    if job is None or job.finished or not isinstance(job.partial, Search):
        return  # the page itself runs again when a job ends
    _result(job.partial.plan, job.partial.trials)


def _result(plan: SearchPlan, trials: Sequence[Trial]) -> None:
    """The front, its table, and what can be done with a trial."""
    if not trials:
        st.caption("No trial has ended yet.")
        return
    best = front(trials, plan.asked)
    shown = [trial for trial in trials if trial.effects and trial.outcome in (MEASURED, STOPPED)]
    names = [trial.name for trial in (*best, *(trial for trial in shown if trial not in best))]
    clicked = _figure(plan, shown, best)
    st.warning(warning(trials), icon=":material/info:")
    st.dataframe(
        [_row(plan, trial, trial in best) for trial in sorted(trials, key=lambda each: each not in best)],
        height=220,
        hide_index=True,
        key="search-table",
    )
    if names:
        name = st.selectbox(
            "Trial", names, names.index(clicked) if clicked in names else 0, key=f"trial-{clicked}"
        )
        _take(plan, next(trial for trial in shown if trial.name == name))


def _figure(plan: SearchPlan, shown: Sequence[Trial], best: Sequence[Trial]) -> str:
    """Draw two objectives, or one along the trials; the name of the trial that was clicked, empty without one."""
    asked = list(plan.asked)
    x = asked[0]
    y = asked[1] if len(asked) > 1 else None
    if len(asked) > 2:
        left, right = st.columns(2)
        x = left.selectbox("Across", asked, 0, format_func=lambda each: each.title, key="search-x")
        y = right.selectbox("Up", asked, 1, format_func=lambda each: each.title, key="search-y")
    across = _NUMBER if y is None else _axis(x)
    upwards = _axis(x if y is None else y)
    previous = st.session_state.get("search-clicked", "")
    event = st.plotly_chart(
        viz.search_front(
            [_point(trial, None if y is None else x, x if y is None else y, trial in best) for trial in shown],
            across,
            upwards,
            title="What was tried, against the unedited adapter",
            chosen=previous,
            joined=len(asked) == 2,
        ),
        key="search-front",
        on_select="rerun",
        selection_mode="points",
    )
    clicked = [str(point["customdata"]).strip("[]'") for point in event.selection.points if "customdata" in point]
    if clicked:
        st.session_state["search-clicked"] = clicked[0]
    return clicked[0] if clicked else previous


def _axis(objective: Objective) -> viz.FrontAxis:
    return viz.FrontAxis(f"Δ {objective.title}, {objective.unit}", objective.higher_is_better)


def _point(trial: Trial, x: Objective | None, y: Objective, on_front: bool) -> viz.TriedPoint:
    number = float(trial.number + 1)
    across = (number, number, number) if x is None else _band(trial.effects[x.name], x)
    axes = [each for each in (x, y) if each is not None]
    return viz.TriedPoint(
        trial.name,
        (across, _band(trial.effects[y.name], y)),
        on_front,
        trial.outcome == MEASURED,
        noise=not any(trial.effects[each.name].certain for each in axes),
    )


def _band(effect: Effect, objective: Objective) -> tuple[float, float, float]:
    return tuple(objective.factor * value for value in (effect.mean, effect.low, effect.high))  # type: ignore[return-value]


def _row(plan: SearchPlan, trial: Trial, on_front: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"trial": trial.number + 1, "front": "✓" if on_front else ""}
    for each in plan.asked:
        effect = trial.effects.get(each.name)
        row[f"Δ {each.title}"] = "" if effect is None else each.told(effect)
    row["rows"] = trial.rows
    row["outcome"] = OUTCOMES[trial.outcome] if trial.same_as is None else f"same σ′ as trial {trial.same_as + 1}"
    return row | settings(plan, trial.plan)


def _take(plan: SearchPlan, trial: Trial) -> None:
    """Open a trial on the board, keep it, or try it on a prompt."""
    workspace = current()
    chosen = trial.plan
    assert chosen is not None
    label = f"{trial.name} of search"
    with st.container(horizontal=True, gap="small"):
        if st.button("Open on the board", type="primary", icon=":material/check:"):
            barred = workspace.with_chosen(plan.choosing)
            keep(barred.with_history(workspace.history.record(label, chosen)))
            st.rerun()
        if st.button("Keep as a recipe", key="keep-trial", icon=":material/bookmark_add:"):
            keep(workspace.with_chosen(plan.choosing).with_kept(f"{chosen.policy.name} {trial.name}", chosen))
            st.rerun()
    if ready(workspace) and st.toggle("Try it beside the unedited adapter", key="try-trial"):
        try_box(workspace, chosen.apply(workspace.spectra, workspace.sensitivity), of=trial.sigma)
