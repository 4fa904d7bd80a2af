"""What is told before a proof starts: how long it will take, and what its slice can show at all."""

import numpy as np

from app.evaluation.slice import Question
from app.frame import plain
from app.state.runs import all_runs, evaluation_of
from surgery.errors import DataError
from surgery.evaluation import BASELINE, Evaluation, least_detectable
from surgery.experiments import EDIT
from surgery.model import BaseChoice
from surgery.progress import duration
from surgery.runs import Run


def time_text(question: Question, variants: int, base: BaseChoice | None) -> str:
    """How long the proof will take, at the pace of the last run of its kind on this machine."""
    for run in all_runs():
        pace = run.metrics.answer_time if run.metrics else None
        if (
            pace
            and not run.shipped
            and run.plan.slice_name == question.name
            and base is not None
            and run.plan.base.get("device") == base.device
        ):
            seconds = pace.seconds / pace.answers * question.examples * variants
            return f"About {duration(seconds)} at the pace of the last run on {plain(question.name)}."
    return ""


def last_evaluation(newest: Run | None) -> Evaluation | None:
    """What the last proof found, as far as it can still be read."""
    if newest is None:
        return None
    try:
        return evaluation_of(newest)
    except DataError:
        return None


def changed_share(newest: Evaluation | None) -> float | None:
    """The share of right answers that the edit changed in that proof; None where it is not known, or none did."""
    shares = [metric for metric in newest.metrics if metric.binary] if newest else []
    if newest is None or not shares or EDIT not in newest.scores:
        return None
    edit, before = (newest.numbers(name, shares[0].name) for name in (EDIT, BASELINE))
    return float(np.mean(edit != before)) or None


def power_text(newest: Evaluation | None, examples: int, tests: int) -> str:
    """What a slice of this size can show at all: told before the run, so that nobody waits for the impossible."""
    change, said = 0.1, "if one answer in ten changes"
    if changed := changed_share(newest):
        change, said = changed, f"if {changed:.0%} of the answers change, as in the last run"
    points = 100 * least_detectable(change**0.5, max(2, examples), tests=max(1, tests))
    return plain(
        f"On {examples} examples a change of {points:.1f} points of right answers would be shown four times in five, "
        f"{said}, after correction for {tests} variant{'s' if tests > 1 else ''}; a loss shows far smaller changes."
    )
