"""Which held-out slice an edit is put to: rows or a task of lm-eval, as the Evaluate page asks for it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.encoding_form import encoding_controls
from app.evaluation.answers import ask_for_answers, ask_for_near
from app.evaluation.plain_text import ask_for_text
from app.evaluation.task_options import ask_for_options, local_files, trusted
from app.frame import plain, show_error
from app.rows_form import format_controls, read_rows
from surgery.adapter import Adapter
from surgery.data import (
    ALLOW,
    BENCHMARKS,
    CLASSIFIERS,
    REFUSE,
    EvaluationPlan,
    RowFields,
    TaskPlan,
    TextPlan,
    left_out_text,
    parse_plan,
    parse_stored_plan,
    question_name,
)
from surgery.errors import DataError, SurgeryError
from surgery.evaluation.lm_eval import has_several_tasks, refuse_other_models
from surgery.files import digest
from surgery.runs import Run

ROWS, TASK, TEXT = "Prompt-and-answer rows", "Benchmark", "Plain text"
_LIMIT = 64
_SEED = "Of a shuffle before the slice is taken. Empty: in the order of the file."


@dataclass(frozen=True)
class Question:
    """A slice to put to variants.

    `programs` allows generated code to run, `allow_near` documents of a task that are nearly rows of the edit, and
    `trusted` the code of the folder of the task's definition.
    """

    plan: EvaluationPlan | TaskPlan | TextPlan
    programs: bool = False
    allow_near: bool = False
    trusted: bool = False

    @property
    def has_answers(self) -> bool:
        """Whether there are right answers to count: plain text has none."""
        return not isinstance(self.plan, TextPlan)

    @property
    def examples(self) -> int:
        return self.plan.limit or _LIMIT

    @property
    def name(self) -> str:
        return question_name(self.plan)


def ask_for_slice(adapter: Adapter, present: EvaluationPlan) -> Question | None:
    """The slice that the form names for the open adapter, None while it names none."""
    if adapter.task in CLASSIFIERS:
        st.caption("Rows with labels, which the adapter is scored on by loss and accuracy.")
        return _rows(adapter, present)
    on = st.segmented_control(
        "Held-out slice",
        [ROWS, TASK, TEXT],
        default=ROWS,
        required=True,
        key="evaluate-on",
        persist_state="session",
        help="Rows come from a demo or a file of yours. Benchmarks are lm-eval's own tasks, scored as it scores them. "
        "Plain text has no right answers: it tells cross-entropy and KL per token.",
    )
    if on == ROWS:
        return _rows(adapter, present)
    if on == TEXT:
        text = ask_for_text()
        return None if text is None else Question(text)
    try:
        refuse_other_models(adapter.task)
    except SurgeryError as error:
        show_error(error)
        return None
    return _task()


def question_of(run: Run) -> Question:
    """The question that a run asked, to ask it again of other variants; raises `DataError` for a foreign record."""
    record = run.plan.question
    if "rows" in record:
        return Question(parse_stored_plan(EvaluationPlan, record["rows"], "rows"))
    if "text" in record:
        return Question(parse_plan(TextPlan, record["text"], "text"))
    plan = TaskPlan.of(record["task"])
    return Question(
        plan,
        programs=_runs_programs(plan.name) and bool(st.session_state.get("evaluate-programs")),
        allow_near=bool(record.get("near_duplicates")),
        trusted=trusted(plan.include_path),
    )


def _rows(adapter: Adapter, present: EvaluationPlan) -> Question | None:
    own = adapter.digest[:12]  # another adapter brings rows of its own
    cells = st.columns([3.4, 1, 1, 1, 1], vertical_alignment="bottom")
    data = cells[0].text_input(
        "Held-out rows",
        present.data,
        placeholder="/path/to/rows.jsonl, a folder that datasets saved, or hub:OWNER/NAME:SPLIT",
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
    fields, leave_out = _rows_read(present, f"evaluate-{own}")
    if adapter.task in CLASSIFIERS:  # which writes no answers
        near = ask_for_near(st, present.near_duplicates == ALLOW, f"evaluate-near-{own}")
        answers: dict[str, Any] = {"near_duplicates": ALLOW if near else REFUSE}
    else:
        answers = ask_for_answers(present, own)
    key = f"evaluate-{digest([own, repr(present.encoding)])[:8]}"
    try:
        encoding = encoding_controls(present.encoding, key, adapter.task)
    except DataError as error:
        show_error(error)
        return None
    if not data.strip() or fields is None:
        return None
    _show_format(data.strip(), fields)
    return Question(
        replace(
            present,
            prompt_field=fields.prompt,
            answer_field=fields.answer,
            format=fields.format,
            turns=fields.turns,
            leave_out=leave_out,
            data=data.strip(),
            encoding=encoding,
            limit=int(limit),
            start=int(start),
            seed=None if seed is None else int(seed),
            batch_size=int(batch),
            **answers,
        )
    )


def _rows_read(present: EvaluationPlan, key: str) -> tuple[RowFields | None, bool]:
    """How the rows are read, None for a template that cannot be, and whether those that cannot be asked stay out."""
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Format of the rows", icon=":material/table_rows:"):
            try:
                fields = format_controls(present.fields, key)
            except DataError as error:
                show_error(error)
                fields = None
        leave_out = st.checkbox(
            "Leave out rows that cannot be asked",
            present.leave_out,
            key=f"{key}-leave-out",
            persist_state="session",
            help="Blank, unreadable and too long ones: counted in the run's notes. Otherwise one of them stops the proof.",
        )
    return fields, leave_out


def _show_format(data: str, fields: RowFields) -> None:
    """What the rows are read as, where they are on this machine: what stands against them is told when it is asked."""
    with suppress(DataError):
        found = read_rows(data, fields)
        dropped = left_out_text(found.left_out)
        why = f" · {plain(dropped)}: {plain(found.problem)}" if dropped else ""
        st.caption(f"{len(found.rows):,} rows · read as {plain(found.fields.described)}{why}")


def _task() -> Question | None:
    cells = st.columns([1.5, 1, 1, 1, 1, 2.4], vertical_alignment="bottom")
    name = cells[0].selectbox(
        "Task",
        BENCHMARKS,
        key="evaluate-task",
        accept_new_options=True,
        persist_state="session",
        help="One of the paper's four, or any other task or group of lm-eval's that generates text or compares "
        "likelihoods.",
    )
    limit, offset, seed = _documents(cells[1:4])
    shots = _shots(cells[4])
    files = cells[5].text_input(
        "Local files",
        key="evaluate-files",
        placeholder="empty: from the hub; or test=/path/to/test.parquet train=/path/to/train.parquet",
        persist_state="session",
    )
    left, right = st.columns([1, 2.2], vertical_alignment="center")
    chat = left.checkbox("Chat template", key="evaluate-chat", persist_state="session")
    near = ask_for_near(left, False, "evaluate-task-near")
    options = ask_for_options(chat)
    if not name:
        return None
    with right:
        allowed = not _runs_programs(name) or _programs_allowed()
    if not allowed:
        return None
    try:
        plan = TaskPlan(
            name.strip(),
            limit,
            offset,
            seed=seed,
            fewshot=shots,
            data_files=local_files(files),
            chat_template=chat,
            **options,
        )
        if has_several_tasks(plan):
            st.caption(f"{plain(plan.name)} is a group: this many examples of each of its tasks.")
    except SurgeryError as error:
        show_error(error)
        return None
    return Question(plan, _runs_programs(name), near, trusted(plan.include_path))


def _shots(cell: DeltaGenerator) -> int | None:
    """Worked examples before each question; None for the task's own number."""
    shots = cell.number_input(
        "Few-shot",
        0,
        64,
        None,
        key="evaluate-shots",
        placeholder="its own",
        persist_state="session",
        help="Worked examples before each question. Empty: as the task defines it.",
    )
    return None if shots is None else int(shots)


def _documents(cells: Sequence[DeltaGenerator]) -> tuple[int, int, int | None]:
    """Which documents of a task: how many, from which on, and the seed of a shuffle before."""
    limit = cells[0].number_input(
        "Examples", 2, 100_000, _LIMIT, key="evaluate-task-limit", persist_state="session"
    )
    offset = cells[1].number_input("From", 0, 1_000_000, 0, key="evaluate-task-offset", persist_state="session")
    seed = cells[2].number_input(
        "Seed",
        0,
        2**31 - 1,
        None,
        key="evaluate-task-seed",
        placeholder="in order",
        persist_state="session",
        help=_SEED,
    )
    return int(limit), int(offset), None if seed is None else int(seed)


def _runs_programs(task: str) -> bool:
    return task.startswith(("humaneval", "mbpp"))


def _programs_allowed() -> bool:
    """Ask whether programs that the model writes may run."""
    allowed = st.toggle(
        "Run the programs that the model writes",
        key="evaluate-programs",
        persist_state="session",
        help="Each runs in a sandbox of its own: no network, no files but a scratch folder, limits on time, memory, "
        "processes and output. The sandbox tests itself first and refuses where this system cannot give that.",
    )
    if not allowed:
        st.caption("This task runs generated programs: they stay off until you turn them on.")
    return allowed
