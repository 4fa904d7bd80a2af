"""Guards of a proof on the Evaluate page: which questions are asked beside the own task, and reward against risk."""

from collections.abc import Sequence

import streamlit as st

from app.evaluation.guards_table import guards_figure, guards_table, rewards
from app.state.groups import shown_group
from surgery.adapter import CAUSAL_LM, Adapter
from surgery.data import Question
from surgery.evaluation import TaskOutcome
from surgery.experiments import parse_guard
from surgery.files import demo_names
from surgery.runs import Run

_HELP = (
    "Further questions for the same variants, which the edit is not to hurt. Type your own: *text: FILE*, *task: arc_easy, "
    "limit: 100* or *rows: FILE.jsonl, limit: 100*, with settings as in a recipe."
)


def ask_for_guards(adapter: Adapter) -> tuple[Question, ...]:
    """The guards that were named, none by default; raises `SurgeryError` for one that names no question."""
    offered = ["text: demo:text"] if adapter.task == CAUSAL_LM else []
    own = adapter.source.removeprefix("demo:")
    offered += [f"rows: demo:{name}/test, limit: 64, separator: true" for name in demo_names() if name != own]
    named = st.multiselect(
        "Guards",
        offered,
        key="evaluate-guards",
        accept_new_options=True,
        placeholder="none: or plain text, benchmarks and rows of other tasks that the edit is not to hurt",
        help=_HELP,
    )
    return tuple(parse_guard(str(each)) for each in named)


def show_guards(run: Run) -> None:
    """Reward against risk and a table, where the run is the own task of a group."""
    group = shown_group(run)
    if group is None:
        return
    st.subheader("Own task against guards")
    if group.missing:
        st.caption(f"{group.missing} of {group.missing + len(group.guards)} guards are gone from the history.")
    found = group.outcomes
    own, guards = [each for each in found if not each.guard], [each for each in found if each.guard]
    reward = _chosen(own, run.plan.key)
    st.plotly_chart(
        guards_figure(reward, guards),
        key=f"guards-{run.plan.key}",
        alt="Gain of every variant on the own task against its cost on every guard, with 95 % intervals",
    )
    st.caption(
        "Up is a gain on the own task, right a cost on a guard, the dashed lines the unedited adapter. Bars are 95 % "
        "intervals, each paired by example: a bar across a line is noise there. A base without the "
        "adapter, which would dwarf them, is told in the table."
    )
    st.dataframe(guards_table(found), hide_index=True, width="stretch", key=f"guards-table-{run.plan.key}")


def _chosen(own: Sequence[TaskOutcome], key: str) -> TaskOutcome:
    """The metric of the own task that is the reward: right answers, where they were asked for."""
    names = [each.metric.title for each in own]
    if len(own) == 1:
        return own[0]
    usual = rewards(own)[0].metric.title
    name = st.segmented_control("Reward", names, default=usual, required=True, key=f"guards-reward-{key}")
    return own[names.index(name)]
