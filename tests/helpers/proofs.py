"""Proofs as the history keeps them, made from scores that a test chooses."""

import numpy as np

from app.state.workspace import Workspace
from surgery.data import EvaluationPlan, plan_record
from surgery.edits import edit_record
from surgery.evaluation import BASELINE, Evaluation, Sample, Scores, row_scores
from surgery.experiments import EDIT, recipe_digest
from surgery.recipes import dump_recipe
from surgery.runs import PROOF, Run, RunPlan, begin, finish


def evaluation_of(scores: dict[str, Scores]) -> Evaluation:
    """An evaluation whose examples say only which they are."""
    count = len(scores[BASELINE].answers)
    return Evaluation(scores, tuple(Sample(f"key {n}", f"question {n}", f"reference {n}") for n in range(count)))


def gained_or_lost(before: np.ndarray, gained: int) -> np.ndarray:
    """0/1 scores of which so many are right that were wrong, or the other way round for a negative number."""
    after = before.copy()
    after[np.flatnonzero(before == (gained < 0))[: abs(gained)]] = float(gained > 0)
    return after


def kept_proof(
    workspace: Workspace, rows: str, evaluation: Evaluation, *, purpose: str = PROOF, done: bool = True
) -> Run:
    """The run of the workspace's present edit that found `evaluation`, in the history."""
    recipe = workspace.recipe
    assert recipe is not None
    names = list(evaluation.scores)
    plan = RunPlan(
        adapter=workspace.adapter.source,
        adapter_digest=workspace.adapter.digest,
        base=plan_record(recipe.base),
        fingerprint="a base",
        question={"rows": plan_record(EvaluationPlan(rows, limit=len(evaluation.samples)))},
        asked=rows,
        examples=len(evaluation.samples),
        variants={name: "" if name == BASELINE else name for name in names},
        edits={EDIT: edit_record(workspace.plan)} if EDIT in names else {},
        settings={"dtype": "float32", "device": "cpu"},
        edit=recipe_digest(recipe),
        purpose=purpose,
        margins=evaluation.margins,
    )
    run, log = begin(plan, dump_recipe(recipe))
    log.close()
    return finish(run, evaluation) if done else run


def simple(loss: np.ndarray, exact: np.ndarray, answer: str = "a") -> Scores:
    """Scores of a variant that gives one answer to everything."""
    return row_scores(loss, exact, (answer,) * loss.size)
