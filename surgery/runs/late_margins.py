"""Whether a margin was named when the answers that it judges were known already."""

from surgery.evaluation import AGAIN, BASE, BASELINE
from surgery.runs.history import known_runs
from surgery.runs.plan import RunPlan
from surgery.runs.runs import Run

LATE = (
    "The margin was named when an earlier run, with another margin or none, had told these answers: its verdict is a hint. "
    "Ask for rows that nobody has seen."
)


def late_margin_note(run: Run) -> str:
    """What a reader of a run has to know of when its margin was named; empty where it was named before.

    Runs that share the answers of an edit count, if they began before this one and ended; what they share of controls or of
    the base tells nothing of it.
    """
    plan = run.plan
    if plan.margins is None:
        return ""
    earlier = (
        other for other in known_runs(plan.adapter_digest) if other.finished and other.started < run.started
    )
    return LATE if any(_told(plan, other.plan) for other in earlier) else ""


def _told(plan: RunPlan, other: RunPlan) -> bool:
    controls = {name for group in plan.controls.values() for name in (*group.random, *group.shape.values())}
    answers = {sigma for name, sigma in plan.variants.items() if name not in (BASELINE, BASE, AGAIN, *controls)}
    same = plan.context == other.context and not answers.isdisjoint(other.variants.values())
    return same and plan.margins != other.margins
