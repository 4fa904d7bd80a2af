"""The job of a proof: a question and its guards, put to edits and their controls in the background."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.evaluation.slice import Question
from app.state import jobs
from app.state.workspace import current
from surgery.adapter import Adapter
from surgery.data import EvaluationPlan, Margins, Slices, TaskPlan, TextPlan, read_slices
from surgery.edits import EditPlan
from surgery.errors import DataError
from surgery.experiments import ControlledEdits, Proof, check_guards, load_guards, prove_with_guards
from surgery.model import BaseChoice
from surgery.recipes import Recipe
from surgery.runs import PROOF, Run
from surgery.spectra import Spectra

if TYPE_CHECKING:
    from surgery.evaluation.lm_eval import Judge, LoadedTask
    from surgery.model import LiveModel

KIND = jobs.EVALUATION
SHOWN = "evaluate-run"  # in the session: the key of the run that the page shows


@dataclass(frozen=True)
class Terms:
    """How a question is put besides its edits and their controls: what else answers, what is claimed, what guards."""

    again: bool = False
    base_arm: bool = False
    margins: Margins | None = None
    guards: Sequence[EvaluationPlan | TaskPlan | TextPlan] = ()


@dataclass(frozen=True)
class _Started:
    """All that a job needs of the page that started it: the page may show something else by then."""

    adapter: Adapter
    spectra: Spectra
    recipe: Recipe
    base: BaseChoice
    question: Question
    variants: ControlledEdits
    plans: Mapping[str, EditPlan]
    purpose: str
    slices: Slices
    terms: Terms

    def work(self, job: jobs.Job, models: jobs.Models) -> Run:
        """The run of the own task, answered or found; raises what `prove_with_guards` does."""
        from surgery.model import LiveModel

        judge = self._judge(job)
        job.begin("loading the base model")
        loaded = models.base(self.base, self.adapter, job.control)
        with LiveModel(loaded, self.adapter, self.spectra) as live:
            proof = self._proof(self._asked(live, job))
            guards = load_guards(live, self.terms.guards, control=job.control)
            job.begin("answering, example")
            return prove_with_guards(live, proof, guards, slices=self.slices, judge=judge, control=job.control)[0]

    def _judge(self, job: jobs.Job) -> "Judge | None":
        from surgery.evaluation.lm_eval import sandboxed
        from surgery.sandbox import open_sandbox

        if not self.question.programs:
            return None
        job.begin("testing the sandbox")
        return sandboxed(open_sandbox())

    def _asked(self, live: "LiveModel", job: jobs.Job) -> "EvaluationPlan | LoadedTask | TextPlan":
        from surgery.evaluation.lm_eval import load_task

        plan = self.question.plan
        if not isinstance(plan, TaskPlan):
            return plan
        job.begin(f"loading the task {plan.name}")
        tokenizer = live.tokenizer_named(plan.tokenizer)
        return load_task(plan, tokenizer, trust_code=self.question.trusted, control=job.control)

    def _proof(self, asked: "EvaluationPlan | LoadedTask | TextPlan") -> Proof:
        return Proof(
            asked,
            self.variants.edits,
            self.recipe.seen,
            self.plans,
            self.recipe,
            self.purpose,
            self.terms.again,
            self.base,
            controls=self.variants.controls,
            allow_near=self.question.allow_near,
            margins=self.terms.margins,
            base_arm=self.terms.base_arm,
            seen_tasks=self.recipe.seen_tasks,
        )


def start(
    question: Question,
    variants: ControlledEdits,
    plans: Mapping[str, EditPlan],
    *,
    purpose: str,
    slices: Slices | None = None,
    terms: Terms | None = None,
) -> None:
    """Put the question, and those of the guards, to the edits and their controls in the background; the run joins the history.

    What can be refused without the model is refused before the job waits for it.
    """
    workspace, terms = current(), terms or Terms()
    recipe, base = workspace.recipe, workspace.base
    if base is None or recipe is None:
        raise DataError("the base model or the calibration rows are not known", "choose them first")
    if slices is None:
        slices = read_slices(recipe.seen, question.plan if isinstance(question.plan, EvaluationPlan) else None)
    check_guards(terms.guards, recipe.seen)
    started = _Started(
        workspace.adapter, workspace.spectra, recipe, base, question, variants, plans, purpose, slices, terms
    )

    def collect(run: Run) -> None:
        if purpose == PROOF:  # a table of the diagnostics shows itself
            st.session_state[SHOWN] = run.plan.key

    jobs.start(KIND, f"Evaluation on {question.name}", started.work, collect)
