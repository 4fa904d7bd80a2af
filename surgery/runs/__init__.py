"""One folder for every evaluation, resumable."""

from surgery.runs.answer_log import AnswerLog, RequestKey, logged_answers, under_way
from surgery.runs.controls import (
    RANDOM_GATES,
    SHUFFLED_GAINS,
    ControlGroup,
    control_notes,
    parse_controls,
    unlike_note,
)
from surgery.runs.groups import RunGroup, group_of, group_outcomes, keep_group, stored_group, stored_groups
from surgery.runs.history import known_run, known_runs
from surgery.runs.late_margins import LATE, late_margin_note
from surgery.runs.logged_engine import LoggedEngine
from surgery.runs.metrics import AnswerTime, RunMetrics, metrics_record, parse_metrics
from surgery.runs.plan import PROOF, RunPlan
from surgery.runs.runs import (
    ABOUT,
    ENVIRONMENT,
    LOG,
    METRICS,
    RECIPE,
    SAMPLES,
    Run,
    begin,
    delete_run,
    finish,
    stored_run,
    stored_runs,
)
from surgery.runs.samples import samples_file

__all__ = [
    "ABOUT",
    "ENVIRONMENT",
    "LATE",
    "LOG",
    "METRICS",
    "PROOF",
    "RANDOM_GATES",
    "RECIPE",
    "SAMPLES",
    "SHUFFLED_GAINS",
    "AnswerLog",
    "AnswerTime",
    "ControlGroup",
    "LoggedEngine",
    "RequestKey",
    "Run",
    "RunGroup",
    "RunMetrics",
    "RunPlan",
    "begin",
    "control_notes",
    "delete_run",
    "finish",
    "group_of",
    "group_outcomes",
    "keep_group",
    "known_run",
    "known_runs",
    "late_margin_note",
    "logged_answers",
    "metrics_record",
    "parse_controls",
    "parse_metrics",
    "samples_file",
    "stored_group",
    "stored_groups",
    "stored_run",
    "stored_runs",
    "under_way",
    "unlike_note",
]
