"""What the edit is proven on and what stands beside it: the form of the Evaluate page, and the job it starts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.evaluation.answers import show_near
from app.evaluation.forecast import last_evaluation, power_text, time_text
from app.evaluation.guards import ask_for_guards
from app.evaluation.margin import ask_for_margins, margin_power_text
from app.evaluation.slice import Question, ask_for_slice
from app.evaluation.starting import Terms, start
from app.frame import plain, show_error
from app.state.workspace import Workspace, keep
from surgery.data import (
    CalibrationPlan,
    EvaluationPlan,
    NearDuplicatesError,
    read_slices,
    refuse_seen_keys,
)
from surgery.edits import EditPlan
from surgery.errors import SurgeryError
from surgery.experiments import (
    CONTROLS,
    EDIT,
    READS_Q,
    ControlledEdits,
    control_sets,
    input_energies,
    is_reserved,
    rules_of,
    with_controls,
)
from surgery.runs import PROOF, Run

VIEW = "evaluate-view"  # in the session: which view of a run the page shows


@dataclass(frozen=True)
class Controls:
    """What stands beside the edit: random controls, scale controls, the unedited adapter again, the base, recipes by name.

    `sets` counts the sets of random controls, of which edits under other rules have one each; `scaled` the controls of
    scale and shape of each edit.
    """

    random: int
    scale: bool
    again: bool
    recipes: tuple[str, ...]
    sets: int
    shape: bool = False
    scaled: int = 0
    base_arm: bool = False

    @property
    def variants(self) -> int:
        """How many are compared with the unedited adapter, the edit among them."""
        return (1 + len(self.recipes)) * (1 + self.scaled) + self.random * self.sets


def form(workspace: Workspace, newest: Run | None) -> None:
    """Ask for a slice and for controls, tell what that slice can show, and start the proof."""
    present = workspace.evaluation or EvaluationPlan("")
    # what was measured one way is proven that way, unless it is changed here
    if workspace.calibration is not None:
        present = replace(present, encoding=workspace.calibration.encoding)
    question = ask_for_slice(workspace.adapter, present)
    try:
        guards = ask_for_guards(workspace.adapter)
    except SurgeryError as error:
        show_error(error)
        return
    cells = st.columns([1, 1.2, 1.1, 1.2, 1.5, 0.9], vertical_alignment="bottom")
    controls = _ask_for_controls(cells, present, workspace)
    margins = ask_for_margins(present)
    asked = cells[5].button("Prove it", type="primary", width="stretch", disabled=question is None)
    if question is None:
        return
    last = last_evaluation(newest)
    st.caption(
        " ".join(
            [
                time_text(question, controls.variants + 1 + controls.again + controls.base_arm, workspace.base),
                power_text(last, question.examples, controls.variants) if question.has_answers else "",
                margin_power_text(last, question.examples, margins),
            ]
        )
    )
    if asked and workspace.base is not None and workspace.calibration is not None:
        try:
            _prove(workspace, question, controls, Terms(controls.again, controls.base_arm, margins, guards))
        except SurgeryError as error:
            show_error(error)
            if isinstance(error, NearDuplicatesError):
                show_near(error.pairs, "refused")
            return
        st.rerun()


def _ask_for_controls(cells: Sequence[DeltaGenerator], present: EvaluationPlan, workspace: Workspace) -> Controls:
    count = cells[0].number_input(
        "Random controls",
        0,
        64,
        present.random,
        key="evaluate-random",
        persist_state="session",
        help="Of each edit, in its scope and under its rules: what any such reweighting would do.",
    )
    scale = cells[1].checkbox(
        "Plain scale beside it",
        present.scale,
        key="evaluate-scale",
        persist_state="session",
        help="Every module scaled as a whole to the functional energy that the edit gives it, or to its Frobenius norm "
        "where the inputs were not measured: tells reweighting from resizing.",
    )
    shape = cells[2].checkbox(
        "Scale or shape?",
        present.scale_or_shape,
        key="evaluate-shape",
        persist_state="session",
        help="Seven more variants that have the edit's size, its shape, its head or its tail alone, and the share of its "
        "effect that a plain scale explains.",
    )
    again = cells[3].checkbox(
        "Unedited once more",
        present.again,
        key="evaluate-again",
        persist_state="session",
        help="The unedited adapter again in other batches: the noise of the machine, below which nothing counts.",
    )
    base_arm = cells[3].checkbox(
        "Base model beside it",
        present.base_arm,
        key="evaluate-base-arm",
        persist_state="session",
        help="The base without the adapter answers too: which right answers training broke and taught, and what the edit "
        "gives back, keeps, adds and damages.",
    )
    recipes = cells[4].multiselect(
        "Recipes beside it",
        list(workspace.shelf),
        key="evaluate-shelf",
        help="Named edits from the shelf of the Surgery page.",
    )
    plans = [workspace.plan, *(workspace.shelf[name] for name in recipes)]
    known = input_energies(workspace.sensitivity)
    scaled = sum(bool(known) or control not in READS_Q for control in CONTROLS.values()) if shape else int(scale)
    sets = control_sets(map(rules_of, plans))
    return Controls(int(count), scale, again, tuple(recipes), sets, shape, scaled, base_arm)


def _prove(workspace: Workspace, question: Question, controls: Controls, terms: Terms) -> None:
    """Start the proof of the present edit; a plan over rows is kept, and its slice read before the job waits."""
    variants, plans = _variants(workspace, controls)
    slices = None
    if isinstance(question.plan, EvaluationPlan):
        plan = replace(
            question.plan,
            random=controls.random,
            scale=controls.scale,
            scale_or_shape=controls.shape,
            again=controls.again,
            margin=terms.margins.texts if terms.margins else (),
            base_arm=controls.base_arm,
        )
        with st.spinner(f"Reading {plain(plan.data)}", show_time=True):  # which may be fetched from the hub first
            slices = read_slices(seen(workspace), plan)
        if workspace.sensitivity is not None:  # rows that took the place of others are known by these alone
            measured = {key for keys in workspace.sensitivity.keys for key in keys}
            refuse_seen_keys(slices.held_out, measured, "the calibration")
        question = replace(question, plan=plan)
        keep(workspace.with_evaluation(plan, terms.guards))
    start(question, variants, plans, purpose=PROOF, slices=slices, terms=terms)


def seen(workspace: Workspace) -> list[CalibrationPlan]:
    """The slices that shaped the edit: no proof may share an example with them."""
    return workspace.recipe.seen if workspace.recipe is not None else []


def _variants(workspace: Workspace, controls: Controls) -> tuple[ControlledEdits, dict[str, EditPlan]]:
    edits, plans = {EDIT: workspace.edit}, {EDIT: workspace.plan}
    for name in controls.recipes:
        plan = workspace.shelf[name]
        label = f"recipe {name}" if is_reserved(name) else name
        edits[label], plans[label] = plan.apply(workspace.spectra, workspace.sensitivity), plan
    subjects = {name: (edit, rules_of(plans[name])) for name, edit in edits.items()}
    controlled = with_controls(
        workspace.spectra,
        subjects,
        random=controls.random,
        scale=controls.scale,
        shape=controls.shape,
        measured=dict.fromkeys(subjects, workspace.sensitivity),
    )
    return controlled, plans
