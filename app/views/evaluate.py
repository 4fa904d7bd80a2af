"""Evaluate: the edit and its random controls on held-out rows, paired with the unedited adapter."""

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

import viz
from app import jobs
from app.frame import ask_for_calibration, show_error, show_title
from app.workspace import Workspace, current, keep
from surgery.edit import Edit, make_edit
from surgery.errors import SurgeryError
from surgery.evaluate import BASELINE, Evaluation
from surgery.policy import Scale
from surgery.recipe import BaseChoice, CalibrationPlan, EvaluationPlan
from surgery.run import EDIT, is_random_control, random_controls
from surgery.significance import holm, least_detectable, mcnemar, place_among

KIND = "evaluation"
LEVEL = 0.05  # of the corrected p from which a change of answers is called one


def plan_panel(workspace: Workspace) -> None:
    if jobs.active(KIND) is not None:
        jobs.show_progress(KIND)
        return
    if workspace.base is None or workspace.calibration is None:
        st.info(
            "Choose a base model on the Adapter page and calibrate on the Spectra page.", icon=":material/info:"
        )
        return
    if workspace.lacks_sensitivities:
        ask_for_calibration(workspace)
        return
    present = workspace.evaluation or EvaluationPlan("")
    with st.form("evaluation", border=False):
        cells = st.columns([2, 1, 1, 1, 1.2], vertical_alignment="bottom")
        data = cells[0].text_input("Held-out rows", present.data, placeholder="/path/to/rows.jsonl")
        limit = cells[1].number_input("Examples", 2, 100_000, present.limit or 64)
        count = cells[2].number_input("Random controls", 0, 64, present.random)
        batch = cells[3].number_input("Batch", 1, 512, present.batch_size)
        asked = cells[4].form_submit_button("Prove it", type="primary", width="stretch")
        rescale = st.checkbox(
            "Add plain rescaling controls, γ 0.9 and 1.1",
            help="They tell reweighting from merely making the update larger or smaller.",
        )
    st.caption(_power_text(workspace.proof, int(present.limit or 64), present.random + 1))
    if asked:
        plan = replace(
            present,
            data=data.strip(),
            limit=int(limit),
            random=int(count),
            batch_size=int(batch),
            encoding=workspace.calibration.encoding,
        )
        start_evaluation(workspace, workspace.base, workspace.calibration, plan, rescale)
        st.rerun()


def _power_text(proof: Evaluation | None, examples: int, tests: int) -> str:
    """What a slice of this size can show at all: told before the run, so that nobody waits for the impossible."""
    if proof is None:
        change, said = 0.1, "if one answer in ten changes"
    else:
        change = float(np.mean(proof.scores[EDIT].exact != proof.scores[BASELINE].exact))
        said = f"if {change:.0%} of the answers change, as in the last run"
    if not change or tests < 1:
        return ""
    points = 100 * least_detectable(change**0.5, examples, tests=tests)
    return (
        f"On {examples} examples a change of {points:.1f} points of exact match would be shown four times in five, {said}, "
        f"after correction for {tests} variant{'s' if tests > 1 else ''}; the loss shows far smaller changes."
    )


def start_evaluation(
    workspace: Workspace, base: BaseChoice, calibration: CalibrationPlan, plan: EvaluationPlan, rescale: bool
) -> None:
    adapter, spectra, recipe = workspace.adapter, workspace.spectra, workspace.recipe
    seen = recipe.seen if recipe is not None else [calibration]
    edits: dict[str, Edit] = {EDIT: workspace.edit}
    if rescale:
        for gamma in (0.9, 1.1):
            edits[f"scale {gamma}"] = make_edit(spectra, Scale(gamma), scope=workspace.plan.scope, energy="none")
    edits |= random_controls(
        spectra,
        plan.random,
        like=workspace.plan.policy,
        scope=workspace.plan.scope,
        energy=workspace.plan.energy,
        sigma_min=workspace.plan.sigma_min,
    )

    def work(job: jobs.Job, models: jobs.Models) -> Evaluation:
        from surgery.live import LiveModel
        from surgery.run import prove

        job.begin("loading the base model")
        loaded = models.base(base)
        job.begin("answering, example")
        with LiveModel(loaded, adapter, spectra) as live:
            return prove(live, plan, seen, edits, progress=job.progress, cancelled=job.cancelled)

    def collect(evaluation: Evaluation) -> None:
        now = current()
        # an edit changed meanwhile must not wear this proof
        if (
            now.recipe is not None
            and recipe is not None
            and replace(now.recipe, evaluation=None) == replace(recipe, evaluation=None)
        ):
            keep(now.with_proof(plan, evaluation))
        else:
            st.info("The evaluation ended, but the edit was changed meanwhile; run it again for the present edit.")

    jobs.start(KIND, "Evaluation", work, collect)


def show_proof(proof: Evaluation) -> None:
    names = [name for name in proof.scores if name != BASELINE]
    baseline = proof.scores[BASELINE]
    losses, exacts = [proof.effect(n, "loss") for n in names], [proof.effect(n, "exact") for n in names]
    n = len(proof.examples)
    st.caption(
        f"{n} held-out examples. Unedited adapter: loss {baseline.loss.mean():.4f} nats per answer token, exact match "
        f"{baseline.exact.mean():.1%}. Changes are paired by example; lines are 95 % bootstrap intervals, and grey "
        "means that the interval holds zero: within noise."
    )
    left, right = st.columns(2, gap="large")
    left.plotly_chart(
        viz.effect_intervals(
            names,
            [e.mean for e in losses],
            [e.low for e in losses],
            [e.high for e in losses],
            title="Change of the answer loss",
            unit="nats per answer token, lower is better",
            lower_is_better=True,
        ),
        key="effect-loss",
        alt="Change of the answer loss for every variant with 95 % intervals",
    )
    right.plotly_chart(
        viz.effect_intervals(
            names,
            [100 * e.mean for e in exacts],
            [100 * e.low for e in exacts],
            [100 * e.high for e in exacts],
            title="Change of the exact match",
            unit="points, higher is better",
            lower_is_better=False,
        ),
        key="effect-exact",
        alt="Change of the exact match for every variant with 95 % intervals",
    )
    tests = {name: mcnemar(baseline.exact, proof.scores[name].exact) for name in names}
    adjusted = holm({name: test.p for name, test in tests.items()})
    rows = [
        {
            "variant": name,
            "loss": proof.scores[name].loss.mean(),
            "Δ loss": f"{loss.mean:+.4f} ± {loss.standard_error:.4f}",
            "95 % interval": f"{loss.low:+.4f} … {loss.high:+.4f}",
            "exact match": f"{proof.scores[name].exact.mean():.1%}",
            "Δ points": f"{100 * exact.mean:+.1f} ± {100 * exact.standard_error:.1f}",
            "95 % interval, points": f"{100 * exact.low:+.1f} … {100 * exact.high:+.1f}",
            "gained, lost": f"{tests[name].gained}, {tests[name].lost}",
            "p, McNemar": tests[name].p,
            "p, Holm": adjusted[name],
            "verdict": _verdict(loss.mean, loss.certain, exact.mean, adjusted[name] <= LEVEL),
        }
        for name, loss, exact in zip(names, losses, exacts, strict=True)
    ]
    table = pd.DataFrame(rows)
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        column_config={
            "loss": st.column_config.NumberColumn(format="%.4f"),
            "p, McNemar": st.column_config.NumberColumn(
                format="%.3f", help="Exact, two-sided, of gained against lost."
            ),
            "p, Holm": st.column_config.NumberColumn(
                format="%.3f", help="Corrected for all variants of this table; the verdict on answers goes by it."
            ),
        },
    )
    _among_controls(proof)
    st.download_button(
        "Download as CSV", table.to_csv(index=False), "evaluation.csv", "text/csv", on_click="ignore"
    )
    _answers(proof)


def _among_controls(proof: Evaluation) -> None:
    """Where the edit stands among its random controls, which is the null of "any reweighting would do"."""
    controls = [name for name in proof.scores if is_random_control(name)]
    if not controls:
        return
    place = place_among(
        proof.effect(EDIT, "loss").mean,
        [proof.effect(name, "loss").mean for name in controls],
        lower_is_better=True,
    )
    least = 1 / (1 + place.controls)
    st.caption(
        f"The edit lowers the loss more than {place.beaten} of {place.controls} random controls (p = {place.p:.2f}; "
        f"{place.controls} controls can give no p below {least:.2f})."
    )


def _verdict(loss: float, loss_certain: bool, exact: float, exact_certain: bool) -> str:
    parts = []
    if loss_certain:
        parts.append("loss lower" if loss < 0 else "loss higher")
    if exact_certain:
        parts.append("more correct" if exact > 0 else "fewer correct")
    return ", ".join(parts) or "within noise"


def _answers(proof: Evaluation) -> None:
    st.markdown("**Answers side by side**")
    which = st.segmented_control(
        "Show",
        ["changed", "gained", "lost", "all"],
        default="changed",
        key="answers-filter",
        persist_state="session",
    )
    before, after = proof.scores[BASELINE], proof.scores[EDIT]
    rows = []
    for i, example in enumerate(proof.examples):
        kinds = {
            "all": True,
            "changed": before.answers[i] != after.answers[i],
            "gained": after.exact[i] > before.exact[i],
            "lost": after.exact[i] < before.exact[i],
        }
        if kinds[which or "changed"]:
            rows.append(
                {
                    "reference": example.answer,
                    "unedited": before.answers[i],
                    "edit": after.answers[i],
                    "unedited right": bool(before.exact[i]),
                    "edit right": bool(after.exact[i]),
                    "Δ loss": after.loss[i] - before.loss[i],
                }
            )
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch", height=min(400, 60 + 35 * len(rows)))
    else:
        st.caption("No answer of this kind.")


show_title(
    "Evaluate", "Does the edit help on examples it has never seen, and more than a random edit of the same size?"
)
workspace = current()
try:
    plan_panel(workspace)
except SurgeryError as error:
    show_error(error)
if workspace.proof is not None:
    show_proof(workspace.proof)
