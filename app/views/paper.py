"""Paper: its tables as data, its Figures 3 and 4 redrawn, and one's own runs on the same axes."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

import viz
from app.evaluation import proven_edits as own_runs
from app.evaluation.ablations import DIAGNOSTIC
from app.evaluation.form import VIEW
from app.evaluation.own_gaps import show_own_gaps
from app.evaluation.proven_edits import ProvenEdit
from app.evaluation.proven_groups import group_points, show_groups, tell_more
from app.frame import plain, show_title
from app.paper_budgets import budget_view
from app.paper_tables import follow_up_view, open_view, show_notes, table_view
from app.state.workspace import current
from surgery import paper

VIEWS = {"figure 3": "Figure 3", "figure 4": "Figure 4"}
VIEWS |= {f"table {number}": f"Table {number}" for number in paper.tables()}
VIEWS |= {"follow-up": "Follow-up"}
VIEWS |= {"open": "What the paper does not say"}
FIGURE_3 = r"""
**What is drawn.** One marker for each model and task. To the right: what random gates gain over the unedited adapter. Upwards:
what the chosen policy gains. Stars are your own proofs, with 95 % paired bootstrap intervals of exact match: another model
and another task, on the same axes of percentage points.

**How to read it.** Above the dashed diagonal the policy does better than random gates; on it, what helps is being
disturbed, not being guided. Left of the vertical line random gates do harm. The paper gives one value a cell, so
its markers carry no interval.

**Formula.** $x = 100\,(s_\text{random} - s_\text{unedited})$, $y = 100\,(s_\text{policy} - s_\text{unedited})$, $s$ the
share of items answered right. For your runs $x$ is the mean over your random controls, example by example.

**In the paper.** §5.2, Figure 3, redrawn from Table 2; there for grad_direction only.
"""
FIGURE_4 = r"""
**What is drawn.** One marker for each model and policy. Upwards: the mean change on GSM8K, HumanEval and CSQA. To the
right: the points lost on IFEval, which tests strict formats; a gain there counts as no risk. Which axis is which does not
stand in our copy of the paper. Stars are your own edits: their own task upwards, rows of another task or guards that count
right answers to the right; several guards count the same.

**How to read it.** Top left is what one wants: better on the task, nothing lost elsewhere.

**Formula.** $\text{reward} = \tfrac{100}{3}\sum_t (s_t - s_t^\text{unedited})$ over the three aligned tasks,
$\text{risk} = 100\,\max(0,\ s^\text{unedited}_\text{IFEval} - s_\text{IFEval})$.

**In the paper.** §5.3, Figure 4, redrawn from Table 2.
"""


def signal_view(runs: Sequence[ProvenEdit]) -> None:
    """Figure 3 for one policy."""
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    policy = left.segmented_control(
        "Policy",
        paper.POLICIES,
        default=paper.POLICIES[0],
        required=True,
        key="paper-policy",
        persist_state="session",
    )
    near = right.toggle(
        "Only ±6 points upwards",
        key="paper-near",
        persist_state="session",
        help="One marker at −42 points makes all others look alike.",
    )
    points = paper.signal_points(paper.tables()[2], policy)
    own = own_runs.signals(runs)
    numbers = pd.DataFrame(
        {
            "model": [point.model for point in points],
            "task": [point.task for point in points],
            "random control, points": [100 * point.random_gain for point in points],
            f"{policy}, points": [100 * point.gain for point in points],
        }
    )
    st.plotly_chart(
        viz.signal_against_control(
            list(numbers["model"]),
            list(numbers["task"]),
            list(numbers["random control, points"]),
            list(numbers[f"{policy}, points"]),
            title=f"Gain of {policy} against the gain of the random control",
            policy=policy,
            own=own,
            near=near,
        ),
        key="paper-figure-3",
        alt=f"Gain of {policy} against the gain of the random control, eight pairs of model and task, and your runs",
    )
    hidden = [point for point in points if near and abs(100 * point.gain) > 6]
    if hidden:
        listed = ", ".join(f"{point.model} {point.task} at {100 * point.gain:+.1f}" for point in hidden)
        st.caption(f"Outside the picture: {listed}.")
    _tell_own(own)
    below(3, FIGURE_3, numbers)


def _tell_own(own: Sequence[viz.OwnRun]) -> None:
    """One's own points in numbers, or how to get one."""
    if own:
        for run in own:
            low, high = run.intervals["gain"]
            st.markdown(
                f"**{run.whose.capitalize()}** · {plain(run.label)}: {run.gain:+.1f} points, 95 % {low:+.1f} … {high:+.1f}; "
                f"random controls {run.random_gain:+.1f}."
            )
        st.caption("Stars come from another model and another task than the paper's: compare places, not sizes.")
    else:
        ask("For a point of your own, prove an edit with answers and at least one random control.")


def trade_off_view(runs: Sequence[ProvenEdit]) -> None:
    """Figure 4, all policies."""
    points = paper.trade_offs(paper.tables()[2])
    other = rows_of_another_task(runs)
    guarded = group_points(current())
    own = [*own_runs.trade_offs(runs, other), *guarded.drawn]
    numbers = pd.DataFrame(
        {
            "model": [point.model for point in points],
            "policy": [point.policy for point in points],
            "risk, points": [100 * point.risk for point in points],
            "reward, points": [100 * point.reward for point in points],
        }
    )
    st.plotly_chart(
        viz.reward_against_risk(
            list(numbers["model"]),
            list(numbers["policy"]),
            list(numbers["risk, points"]),
            list(numbers["reward, points"]),
            title="Reward on the aligned tasks against risk on IFEval",
            own=own,
        ),
        key="paper-figure-4",
        alt="Mean change on the aligned tasks against the points lost on IFEval, four policies on two models",
    )
    tell_more(guarded)
    if not own:
        ask(
            "For a point of your own, prove one edit with rows or a benchmark of another task as a guard, or twice, on "
            "held-out rows of its own task and on rows of another. With the demo kinship these can be "
            "demo:arithmetic/test.",
            "figure 4",
        )
    below(4, FIGURE_4, numbers)
    show_groups(current())


def rows_of_another_task(runs: Sequence[ProvenEdit]) -> list[str]:
    """Which proofs count as risk is the person's to say; another demo's rows are set at first."""
    names = list(dict.fromkeys(run.rows for run in runs))
    if len(names) < 2:
        return []
    known = [run.rows for run in runs if run.other_task]
    chosen = st.pills(
        "Your rows that test another task",
        names,
        selection_mode="multi",
        default=list(dict.fromkeys(known)),
        help="Their change is the risk; the change on the rows left out is the reward.",
    )
    return list(chosen)


def below(number: int, explanation: str, numbers: pd.DataFrame) -> None:
    """What stands under a figure: notes, how to read it, its numbers."""
    show_notes(paper.figures()[number].notes)
    with st.expander("What this shows, how to read it, the formula"):
        st.markdown(explanation)
    with st.expander("The paper's numbers in this figure"):
        st.dataframe(
            numbers,
            hide_index=True,
            width="stretch",
            column_config={name: st.column_config.NumberColumn(format="%+.2f") for name in numbers.columns[2:]},
        )
        st.download_button(
            "Download as CSV",
            numbers.to_csv(index=False),
            f"paper-figure-{number}.csv",
            "text/csv",
            on_click="ignore",
        )


def ask(text: str, diagnostic: str | None = None) -> None:
    """What brings one's own points, and the button to the place where it is done."""
    st.info(text, icon=":material/info:")
    if st.button("Prove it on the Evaluate page", type="primary", icon=":material/balance:"):
        if diagnostic is not None:
            st.session_state[VIEW], st.session_state[DIAGNOSTIC] = "Diagnostics", diagnostic
        st.switch_page("views/evaluate.py")


show_title("Paper", "What the paper reports, redrawn from its own tables, with your runs on the same axes.")
cited = paper.reference()
st.caption(
    f"{', '.join(cited.authors)}: [{cited.title}]({cited.url}). {cited.where}, {cited.licence}.", help=cited.copy
)
runs = own_runs.proven_edits(current())
view = st.segmented_control(
    "Show",
    list(VIEWS),
    default="figure 3",
    required=True,
    format_func=VIEWS.__getitem__,
    key="paper-view",
    persist_state="session",
    label_visibility="collapsed",
)
if view == "figure 4":
    trade_off_view(runs)
elif view == "open":
    open_view()
elif view == "follow-up":
    follow_up_view()
    show_own_gaps(current())
elif view.startswith("table"):
    table_view(int(view.removeprefix("table ")))
    if view == "table 4":
        budget_view(current())
else:
    signal_view(runs)
