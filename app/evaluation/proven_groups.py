"""A person's proofs and sweeps with guards beside the paper's Figure 4: reward on the own task, risk on the guards."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

import viz
from app.evaluation.guards import show_guards
from app.frame import plain
from app.state.groups import ShownGroup, groups_of_adapter
from app.state.workspace import Workspace
from surgery.errors import DataError
from surgery.evaluation import Effect, TaskOutcome
from surgery.paper import reward_and_risk

_MOST = 12  # stars, beyond which their labels lie on each other


@dataclass(frozen=True)
class GroupPoints:
    """Points of Figure 4, and how many more there are that are not drawn."""

    drawn: tuple[viz.OwnRun, ...]
    more: int


def group_points(workspace: Workspace) -> GroupPoints:
    """The newest edits of the open adapter that were proven with guards which count right answers, as their task does."""
    found = [point for group in groups_of_adapter(workspace) for point in _points(group)]
    return GroupPoints(tuple(found[:_MOST]), len(found[_MOST:]))


def _points(group: ShownGroup) -> list[viz.OwnRun]:
    try:
        found = group.outcomes
    except DataError:  # a run that was changed is told of where it is opened
        return []
    own = next((each for each in found if not each.guard and each.metric.binary), None)
    shares = [each for each in found if each.guard and each.metric.binary]
    if own is None or not shares:
        return []
    # the last is the mean over the guards, where there are several
    guards = shares[-1]
    names = [name for name in group.own.plan.edits if name in own.changes and name in guards.changes]
    return [_point(name, own, guards, shipped=group.own.shipped) for name in names]


def _point(name: str, own: TaskOutcome, guards: TaskOutcome, *, shipped: bool) -> viz.OwnRun:
    gain, kept = own.gain(name), guards.gain(name)
    reward, risk = reward_and_risk([gain.mean], kept.mean)
    intervals = {"reward": (gain.low, gain.high), "risk": _risk(kept)}
    label = f"{name}, {own.question} against {guards.question}"
    return viz.OwnRun(
        label, reward=reward, risk=risk, intervals=intervals, whose="shipped" if shipped else "yours"
    )


def _risk(kept: Effect) -> tuple[float, float]:
    return max(0.0, -kept.high), max(0.0, -kept.low)


def tell_more(points: GroupPoints) -> None:
    """That not all points are drawn, where that is so."""
    if points.more:
        st.caption(f"{points.more} older edits with guards are not drawn; each stands in its own figure below.")


def show_groups(workspace: Workspace) -> None:
    """One proof or pass of a sweep with guards in its own units, texts and divergences included; nothing without any."""
    groups = groups_of_adapter(workspace)
    if not groups:
        return
    names = _names(groups)
    chosen = st.selectbox(
        "Your proofs and sweeps with guards", range(len(groups)), format_func=names.__getitem__, key="paper-group"
    )
    show_guards(groups[chosen].own)


def _names(groups: Sequence[ShownGroup]) -> list[str]:
    return [
        plain(
            f"{place + 1}. {group.own.plan.slice_name} against "
            f"{', '.join(run.plan.slice_name for run in group.guards)}: {len(group.own.plan.edits)} edits"
        )
        for place, group in enumerate(groups)
    ]
