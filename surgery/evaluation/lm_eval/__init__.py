"""lm-eval's tasks, asked by this engine."""

from surgery.evaluation.lm_eval.catalogue import task_files
from surgery.evaluation.lm_eval.code_judge import Judge, Program, judge_for_code, judging, sandboxed
from surgery.evaluation.lm_eval.definitions import has_several_tasks
from surgery.evaluation.lm_eval.requests import Texts
from surgery.evaluation.lm_eval.scoring import run_task
from surgery.evaluation.lm_eval.task_run import benchmark, benchmarked, refuse_other_models, refuse_seen
from surgery.evaluation.lm_eval.tasks import LoadedTask, load_task

__all__ = [
    "Judge",
    "LoadedTask",
    "Program",
    "Texts",
    "benchmark",
    "benchmarked",
    "has_several_tasks",
    "judge_for_code",
    "judging",
    "load_task",
    "refuse_other_models",
    "refuse_seen",
    "run_task",
    "sandboxed",
    "task_files",
]
