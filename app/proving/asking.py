"""What the edit is proven on and what stands beside it: the form of the Evaluate page, and the job it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import streamlit as st

from app import jobs
from app.frame import plain, show_error
from app.stored_runs import all_runs, evaluation_of
from app.workspace import Workspace, current, keep
from surgery.edit import Edit
from surgery.errors import DataError, SurgeryError
from surgery.evaluation import BASELINE
from surgery.proof import EDIT, SAME_NORM, held_out_rows, prove, with_controls
from surgery.recipe import CalibrationPlan, EditPlan, EvaluationPlan
from surgery.runs import PROOF, Run
from surgery.significance import least_detectable
from surgery.tasks import BENCHMARKS, TaskPlan

KIND = "evaluation"
ROWS, TASK = "Prompt-and-answer rows", "Benchmark"
_LIMIT = 64
_SEED = "Of a shuffle before the slice is taken. Empty: in the order of the file."


@dataclass(frozen=True)
class Question:
    """A slice to put to variants; `programs` allows generated code to run."""

    plan: EvaluationPlan | TaskPlan
    programs: bool = False

    @property
    def examples(self) -> int:
        return self.plan.limit or _LIMIT

    @property
    def name(self) -> str:
        return self.plan.data if isinstance(self.plan, EvaluationPlan) else self.plan.name


def form(workspace: Workspace, newest: Run | None) -> None:
    """Ask for a slice and for controls, tell what that slice can show, and start the proof."""
    on = st.segmented_control(
        "Held-out slice",
        [ROWS, TASK],
        default=ROWS,
        required=True,
        key="evaluate-on",
        persist_state="session",
        help="Rows come from a demo or a file of yours. Benchmarks are lm-eval's own tasks, scored as it scores them.",
    )
    present = workspace.evaluation or EvaluationPlan("")
    question = _rows(workspace, present) if on == ROWS else _task()
    cells = st.columns([1, 1.3, 1.3, 1.6, 1], vertical_alignment="bottom")
    count = cells[0].number_input(
        "Random controls",
        0,
        64,
        present.random,
        key="evaluate-random",
        persist_state="session",
        help="Seeds of random_index: what any reweighting would do.",
    )
    scale = cells[1].checkbox(
        "Rescaling to the same norm",
        present.scale,
        key="evaluate-scale",
        persist_state="session",
        help="Every module scaled as a whole to the norm that the edit gives it: tells reweighting from resizing.",
    )
    again = cells[2].checkbox(
        "Unedited once more",
        present.again,
        key="evaluate-again",
        persist_state="session",
        help="The unedited adapter again in other batches: the noise of the machine, below which nothing counts.",
    )
    shelf = cells[3].multiselect(
        "Recipes beside it",
        list(workspace.shelf),
        key="evaluate-shelf",
        help="Named edits from the shelf of the Surgery page.",
    )
    asked = cells[4].button("Prove it", type="primary", width="stretch", disabled=question is None)
    if question is None:
        return
    variants = 1 + int(scale) + int(count) + len(shelf)
    st.caption(" ".join([_time(question, variants + 1 + int(again)), _power(newest, question.examples, variants)]))
    if asked and workspace.base is not None and workspace.calibration is not None:
        try:
            edits, plans = _variants(workspace, int(count), scale, shelf)
            if isinstance(question.plan, EvaluationPlan):
                plan = replace(
                    question.plan,
                    random=int(count),
                    scale=scale,
                    again=again,
                    encoding=workspace.calibration.encoding,
                )
                held_out_rows(plan, seen(workspace))  # refused now, before the job waits for the model
                question = replace(question, plan=plan)
                keep(workspace.with_evaluation(plan))
            start(question, edits, plans, purpose=PROOF, again=again)
        except SurgeryError as error:
            show_error(error)
            return
        st.rerun()


def start(
    question: Question,
    edits: Mapping[str, Edit],
    plans: Mapping[str, EditPlan],
    *,
    purpose: str,
    again: bool = False,
) -> None:
    """Put the question to the edits in the background; the run joins the history."""
    workspace = current()
    adapter, spectra, recipe, base = workspace.adapter, workspace.spectra, workspace.recipe, workspace.base
    slices = seen(workspace)
    if base is None or recipe is None:
        raise DataError("the base model or the calibration rows are not known", "choose them first")

    def work(job: jobs.Job, models: jobs.Models) -> Run:
        from surgery.judge import sandboxed
        from surgery.live import LiveModel
        from surgery.sandbox import open_sandbox
        from surgery.tasks import load_task

        judge = None
        if question.programs:
            job.begin("testing the sandbox")
            judge = sandboxed(open_sandbox())
        job.begin("loading the base model")
        loaded = models.base(base)
        asked = question.plan
        if isinstance(asked, TaskPlan):
            job.begin(f"loading the task {asked.name}")
            asked = load_task(asked, loaded.tokenizer, cancelled=job.cancelled)
        job.begin("answering, example")
        with LiveModel(loaded, adapter, spectra) as live:
            return prove(
                live,
                asked,
                slices,
                edits,
                base=base,
                plans=plans,
                recipe=recipe,
                purpose=purpose,
                again=again,
                judge=judge,
                progress=job.progress,
                cancelled=job.cancelled,
            )

    def collect(run: Run) -> None:
        if purpose == PROOF:  # a table of the diagnostics shows itself
            st.session_state["evaluate-run"] = run.plan.key

    jobs.start(KIND, f"Evaluation on {question.name}", work, collect)


def seen(workspace: Workspace) -> list[CalibrationPlan]:
    """The slices that shaped the edit: no proof may share an example with them."""
    return workspace.recipe.seen if workspace.recipe is not None else []


def question_of(run: Run) -> Question:
    """The question that a run asked, to ask it again of other variants; raises `DataError` for a foreign record."""
    from surgery.recipe import parse_plan

    record = run.plan.question
    if "rows" in record:
        return Question(parse_plan(EvaluationPlan, record["rows"], "rows"))
    plan = TaskPlan.of(record["task"])
    return Question(
        plan, programs=plan.name.startswith("humaneval") and bool(st.session_state.get("evaluate-programs"))
    )


def _rows(workspace: Workspace, present: EvaluationPlan) -> Question | None:
    own = workspace.adapter.digest[:12]  # another adapter brings rows of its own
    cells = st.columns([3.4, 1, 1, 1, 1], vertical_alignment="bottom")
    data = cells[0].text_input(
        "Held-out rows",
        present.data,
        placeholder="/path/to/rows.jsonl, a parquet file, or hub:OWNER/NAME:SPLIT",
        key=f"evaluate-rows-{own}",
    )
    limit = cells[1].number_input("Examples", 2, 100_000, present.limit or _LIMIT, key=f"evaluate-limit-{own}")
    start = cells[2].number_input("From", 0, 1_000_000, present.start, key=f"evaluate-start-{own}")
    seed = cells[3].number_input(
        "Seed", 0, 2**31 - 1, present.seed, key=f"evaluate-seed-{own}", placeholder="in order", help=_SEED
    )
    batch = cells[4].number_input(
        "Batch",
        1,
        512,
        present.batch_size,
        key=f"evaluate-batch-{own}",
        help="Examples at a time, for all variants.",
    )
    if not data.strip():
        return None
    return Question(
        replace(
            present,
            data=data.strip(),
            limit=int(limit),
            start=int(start),
            seed=None if seed is None else int(seed),
            batch_size=int(batch),
        )
    )


def _task() -> Question | None:
    cells = st.columns([1.5, 1, 1, 1, 1, 2.4], vertical_alignment="bottom")
    name = cells[0].selectbox(
        "Task",
        BENCHMARKS,
        key="evaluate-task",
        accept_new_options=True,
        persist_state="session",
        help="One of the paper's four, or any other of lm-eval's tasks that generates text or compares likelihoods.",
    )
    limit = cells[1].number_input(
        "Examples", 2, 100_000, _LIMIT, key="evaluate-task-limit", persist_state="session"
    )
    offset = cells[2].number_input("From", 0, 1_000_000, 0, key="evaluate-task-offset", persist_state="session")
    seed = cells[3].number_input(
        "Seed",
        0,
        2**31 - 1,
        None,
        key="evaluate-task-seed",
        placeholder="in order",
        persist_state="session",
        help=_SEED,
    )
    shots = cells[4].number_input(
        "Few-shot",
        0,
        64,
        None,
        key="evaluate-shots",
        placeholder="its own",
        persist_state="session",
        help="Worked examples before each question. Empty: as the task defines it.",
    )
    files = cells[5].text_input(
        "Local files",
        key="evaluate-files",
        placeholder="empty: from the hub; or test=/path/to/test.parquet train=/path/to/train.parquet",
        persist_state="session",
    )
    left, right = st.columns([1, 2.2], vertical_alignment="center")
    chat = left.checkbox("Chat template", key="evaluate-chat", persist_state="session")
    programs = False
    if name and name.startswith(("humaneval", "mbpp")):
        programs = right.toggle(
            "Run the programs that the model writes",
            key="evaluate-programs",
            persist_state="session",
            help="Each runs in a sandbox of its own: no network, no files but a scratch folder, limits on time, memory, "
            "processes and output. The sandbox tests itself first and refuses where this system cannot give that.",
        )
        if not programs:
            right.caption("This task runs generated programs: they stay off until you turn them on.")
            return None
    if not name:
        return None
    try:
        plan = TaskPlan(
            name.strip(),
            int(limit),
            int(offset),
            seed=None if seed is None else int(seed),
            fewshot=None if shots is None else int(shots),
            data_files=_files(files),
            chat_template=chat,
        )
    except SurgeryError as error:
        show_error(error)
        return None
    return Question(plan, programs)


def _files(text: str) -> dict[str, str] | None:
    """`split=path` pairs; one path alone is the split that questions come from."""
    import shlex

    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise DataError(f"the local files {text!r} cannot be read ({error})", "close the quotes") from error
    if not parts:
        return None
    found = {}
    for part in parts:
        split, equals, path = part.partition("=")
        if not equals:
            raise DataError(f"{part!r} names no split", f"write test={Path(part).name} or validation=…")
        found[split] = path
    return found


def _variants(
    workspace: Workspace, random: int, scale: bool, shelf: list[str]
) -> tuple[dict[str, Edit], dict[str, EditPlan]]:
    edits = with_controls(workspace.spectra, workspace.plan, workspace.edit, random=random, scale=scale)
    plans = {EDIT: workspace.plan}
    for name in shelf:
        label = (
            name
            if name not in (BASELINE, EDIT, SAME_NORM) and not name.startswith("random ")
            else f"recipe {name}"
        )
        plans[label] = workspace.shelf[name]
        edits[label] = workspace.shelf[name].apply(workspace.spectra, workspace.sensitivity)
    return edits, plans


def _time(question: Question, variants: int) -> str:
    """How long the proof will take, at the pace of the last run of its kind on this machine."""
    for run in all_runs():
        pace = (run.metrics or {}).get("pace")
        if pace and run.plan.slice_name == question.name and run.plan.base.get("device") == _device():
            seconds = pace["seconds"] / pace["answers"] * question.examples * variants
            return f"About {jobs.duration(seconds)} at the pace of the last run on {plain(question.name)}."
    return ""


def _device() -> str | None:
    base = current().base
    return base.device if base else None


def _power(newest: Run | None, examples: int, tests: int) -> str:
    """What a slice of this size can show at all: told before the run, so that nobody waits for the impossible."""
    change, said = 0.1, "if one answer in ten changes"
    if newest is not None:
        try:
            evaluation = evaluation_of(newest)
        except DataError:
            evaluation = None
        shares = [measure for measure in evaluation.measures if measure.binary] if evaluation else []
        if evaluation is not None and shares and EDIT in evaluation.scores:
            rows = [evaluation.numbers(name, shares[0].name) for name in (EDIT, BASELINE)]
            changed = float(np.mean(rows[0] != rows[1]))
            if changed:
                change, said = changed, f"if {changed:.0%} of the answers change, as in the last run"
    points = 100 * least_detectable(change**0.5, max(2, examples), tests=max(1, tests))
    return plain(
        f"On {examples} examples a change of {points:.1f} points of right answers would be shown four times in five, "
        f"{said}, after correction for {tests} variant{'s' if tests > 1 else ''}; a loss shows far smaller changes."
    )
