"""A walk-through on the open adapter: each step puts the board into a state and says what to see in it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import streamlit as st

from app.state.workspace import Workspace, keep
from surgery.adapter import in_scope
from surgery.edits import EditPlan
from surgery.policies import AbsSelect, GradDirection, Identity, RandomIndex

_STEP = "tour-step"
_BEFORE = "tour-before"


@dataclass(frozen=True)
class Stop:
    """One step: what it says, and the plan it shows, made from the workspace."""

    title: str
    text: str
    plan: Callable[[Workspace], EditPlan]


def _untouched(workspace: Workspace) -> EditPlan:
    return EditPlan(Identity())


def _silenced(workspace: Workspace) -> EditPlan:
    name = in_scope(workspace.spectra, "residual")[0]
    return EditPlan(Identity(), manual={name: {0: 0.0}})


STOPS = (
    Stop(
        "Components",
        "The adapter changes each layer by a sum of **components** σₖ·uₖ·vₖᵀ: a direction read, a direction written and "
        "a strength, the singular value σₖ. The grey bars are the strengths of one layer's components. Nothing is "
        "edited yet, so every blue bar is as high as its grey one. Click rows of the map to see other layers.",
        _untouched,
    ),
    Stop(
        "An edit",
        "Here the first component of this layer is **zeroed**. Directions stay as they are; only strengths move. "
        "The energy rule keeps their sum, so the others grew a little. Pull a bar yourself, then press Ctrl+Z.",
        _silenced,
    ),
    Stop(
        "Ranking by size",
        "The small marks under the bars are **sensitivities**: how the loss on the calibration rows would change with "
        "each σ. `abs_select` amplifies the components that matter most, whichever way they push. What it gains on "
        "helpful components it loses on harmful ones: look at the expected change and its band.",
        lambda workspace: EditPlan(AbsSelect()),
    ),
    Stop(
        "What the sign adds",
        "`grad_direction` lowers components whose growth would raise the loss (red marks) and raises the others. "
        "The gate on the right shows the rule: gain against signed sensitivity. Drag *eta suppress* and watch.",
        lambda workspace: EditPlan(GradDirection(eta_suppress=0.2, eta_enhance=0.2)),
    ),
    Stop(
        "Why random controls",
        "`random_index` uses the gates of `abs_select` on components drawn by lot. It moves as much of Σσ and should "
        "do nothing for the loss. An edit that cannot beat such controls has found nothing.",
        lambda workspace: EditPlan(RandomIndex()),
    ),
    Stop(
        "What the intervals say",
        "What is expected on held-out rows comes without a run of the model. Its band is narrower than it says: of 41 edits "
        "of the demo that were measured, it held 34. Open **Measure** below to run the model, then prove the edit on held-out rows on the Evaluate page. A change whose 95 % "
        "interval holds zero is noise, and the workbench says so.",
        lambda workspace: EditPlan(GradDirection(eta_suppress=0.2, eta_enhance=0.2)),
    ),
)


def running() -> bool:
    return _STEP in st.session_state


def start(workspace: Workspace) -> None:
    """Begin at the first step; the plan in force now comes back when the tour ends."""
    st.session_state[_BEFORE] = (workspace.adapter.digest, workspace.plan)
    _go(workspace, 0)


def tour(workspace: Workspace) -> None:
    """The panel of the present step."""
    at: int = st.session_state[_STEP]
    stop = STOPS[at]
    with st.container(border=True):
        st.markdown(f"**{at + 1} of {len(STOPS)} · {stop.title}**")
        st.markdown(stop.text)
        if workspace.sensitivity is None and workspace.plan.needs_sensitivity:
            st.caption(
                "This step needs a calibration: the Spectra page measures one in under a minute on the demo."
            )
        elif workspace.sensitivity is not None:
            told = workspace.expectation
            if told is not None:
                share = abs(told.mean) / told.standard_error if told.standard_error else 0.0
                st.caption(f"Here the change expected on held-out rows is {share:.1f} standard errors from zero.")
        with st.container(horizontal=True, gap="small"):
            if st.button("Back", disabled=at == 0, key="tour-back"):
                _go(workspace, at - 1)
            last = at == len(STOPS) - 1
            if st.button("Done" if last else "Next", type="primary", key="tour-next"):
                _end(workspace) if last else _go(workspace, at + 1)
            if st.button("Skip the tour", type="tertiary", key="tour-skip"):
                _end(workspace)


def _go(workspace: Workspace, at: int) -> None:
    st.session_state[_STEP] = at
    plan = replace(STOPS[at].plan(workspace), scope="residual")
    keep(workspace.with_history(workspace.history.record(f"tour {at + 1}", plan)))
    st.rerun()


def _end(workspace: Workspace) -> None:
    del st.session_state[_STEP]
    digest, before = st.session_state.pop(_BEFORE)
    if digest == workspace.adapter.digest:  # another adapter has other modules
        keep(workspace.with_history(workspace.history.record("end of tour", before)))
    st.rerun()
