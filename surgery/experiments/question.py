"""A question that is put to variants, made ready: held-out rows, a task of lm-eval, or plain text."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from surgery.adapter import CAUSAL_LM, SEQ_2_SEQ_LM, TASKS
from surgery.data import (
    ALLOW,
    CLASSIFIERS,
    LEAVE_OUT,
    CalibrationPlan,
    EvaluationPlan,
    Example,
    NearDuplicate,
    NearDuplicatesError,
    Row,
    Slices,
    TaskPlan,
    TextPlan,
    left_out_text,
    near_duplicates,
    near_duplicates_text,
    plan_record,
    read_text,
    refuse_rows_in_text,
    refuse_shared,
    text_windows,
)
from surgery.errors import DataError, SurgeryError
from surgery.evaluation import Evaluation, Marking, Sample, answer_limit, answered, diverged, stop_texts
from surgery.files import digest
from surgery.progress import Control
from surgery.recipes import pinned_rows
from surgery.runs import LoggedEngine

if TYPE_CHECKING:
    from surgery.evaluation.lm_eval import Judge, LoadedTask
    from surgery.model import LiveModel


@dataclass(frozen=True)
class PreparedQuestion:
    """A question made ready: its record and digest, and how an engine is put to it."""

    record: Mapping[str, Any]
    digest: str
    examples: int
    put: Callable[[LoggedEngine, Control], Evaluation]
    versions: Mapping[str, str]
    marking: str = ""


def prepare(
    live: "LiveModel",
    question: "EvaluationPlan | LoadedTask | TextPlan",
    slices: Slices,
    *,
    judge: "Judge | None" = None,
    allow_near: bool = False,
) -> PreparedQuestion:
    """The question of a proof, made ready for an engine.

    live: the adapter in its running base model.
    question: held-out rows, a loaded task or plain text.
    slices: the rows of the proof and those that its edits were made on.
    judge: runs the answers that are programs, apart from this process.
    allow_near: whether documents of a task may be nearly the same as rows that the edits were made on.

    Raises `DataError` for rows and documents that the edits were made on, and `NearDuplicatesError`.
    """
    if isinstance(question, TextPlan):
        return _text(live, question, _with_topped_up(live, slices))
    if isinstance(question, EvaluationPlan):
        _refuse_topped_up(question, slices.held_out, _topped_up(live, slices))
        return _rows(live, question, slices)
    return _task(live, question, _with_topped_up(live, slices), judge, allow_near)


def _with_topped_up(live: "LiveModel", slices: Slices) -> Slices:
    """The slices with all rows that were measured, those in place of others among them."""
    added = _topped_up(live, slices)
    seen = {plan: replace(each, rows=(*each.rows, *added.get(plan, ()))) for plan, each in slices.seen.items()}
    return replace(slices, seen=seen)


def refuse_seen_tasks(
    live: "LiveModel",
    question: "EvaluationPlan | LoadedTask | TextPlan",
    slices: Slices,
    tasks: Sequence[TaskPlan],
) -> None:
    """Raise `DataError` for a question that shares examples with the tasks that its edits were chosen on.

    live: the adapter in its running base model, for its tokenizer.
    question, slices: what is to be asked, and its rows.
    tasks: those that the edits were chosen on.
    """
    from surgery.evaluation.lm_eval import load_task

    for plan in tasks:
        judges = load_task(plan, live.tokenizer_named(plan.tokenizer)).documents
        if isinstance(question, TextPlan):
            rows = [Row(document.question, document.target) for document in judges]
            refuse_rows_in_text(read_text(question.text), question.text, {plan.name: rows})
        else:
            held = slices.held_out if isinstance(question, EvaluationPlan) else question.documents
            refuse_shared({"the question": held, f"the documents of {plan.name} that chose an edit": judges})


def refuse_seen_text(plan: TextPlan, slices: Slices) -> str:
    """The text of a plan; raises `DataError` where it cannot be read or holds rows that an edit was made on."""
    text = read_text(plan.text)
    seen: dict[str, tuple[Row, ...]] = {}
    for each, slice_ in slices.seen.items():
        seen[each.data] = (*seen.get(each.data, ()), *slice_.rows)
    refuse_rows_in_text(text, plan.text, seen)
    return text


def _topped_up(live: "LiveModel", slices: Slices) -> dict[CalibrationPlan, tuple[Row, ...]]:
    """Rows that were measured in place of others: which they are is known once there is a tokenizer."""
    added = {}
    for plan, slice_ in slices.seen.items():
        with suppress(SurgeryError):  # rows that cannot be encoded were never measured
            tried = live.encode(slice_.rows, plan.encoding, spare=slice_.spare).tried
            if tried > len(slice_.rows):
                added[plan] = slice_.first(tried)[len(slice_.rows) :]
    return added


def _refuse_topped_up(
    plan: EvaluationPlan, held_out: Sequence[Row], added: Mapping[CalibrationPlan, Sequence[Row]]
) -> None:
    """Raise `NearDuplicatesError`; no spare row of `read_slices` is a held-out one itself."""
    for calibration, rows in added.items():
        near = near_duplicates(held_out, rows, calibration.data)
        if near and plan.near_duplicates != ALLOW:
            raise NearDuplicatesError(near, len(held_out))


def _task(
    live: "LiveModel", loaded: "LoadedTask", slices: Slices, judge: "Judge | None", allow_near: bool
) -> PreparedQuestion:
    from surgery.evaluation.lm_eval import benchmarked, refuse_other_models, refuse_seen
    from surgery.model import end_ids

    refuse_other_models(live.base.task)
    ends = repr(sorted(end_ids(live))) + _way(live)
    seen = {f"slice {n} of the edit": each.rows for n, each in enumerate(slices.seen.values())}
    tokenizer = live.tokenizer_named(loaded.plan.tokenizer)
    read_here = replace(live.base, tokenizer=tokenizer)
    near = refuse_seen(loaded, seen, allow=allow_near)
    notes = _near_notes(near, loaded.documents)
    return PreparedQuestion(
        {"task": loaded.plan.values(), **_near_record(near)},
        digest(["task", loaded.plan.name, *_task_parts(loaded, tokenizer), ends, *loaded.scoring]),
        len(loaded.documents),
        lambda engine, control: _noted(
            benchmarked(loaded, engine, read_here, judge=judge, control=control), notes
        ),
        {"lm-eval": version("lm-eval")},
        _marking((), near),
    )


def _rows(live: "LiveModel", plan: EvaluationPlan, slices: Slices) -> PreparedQuestion:
    _refuse_marking(live, plan)
    rows, marking = slices.held_out, Marking.of(plan)
    slice_ = live.encode(rows, plan.encoding, left_out=slices.left_out)
    examples = slice_.examples
    if len(examples) < len(rows) and not plan.leave_out:
        raise DataError(
            f"{len(rows) - len(examples)} of {len(rows)} held-out rows cannot be asked: {slice_.problem}",
            f"raise the length limit (--max-length), or {LEAVE_OUT}",
        )
    prompts = {row.key: row.prompt for row in rows}
    notes = _near_notes(slices.near, rows)
    # what was left out is part of the question: the same rest of other rows has other notes
    lost = (left_out_text(slice_.left_out),) if slice_.left_out else ()
    tokenizer = live.tokenizer_for(plan.encoding)
    parts = [slice_.digest, *(part for e in examples for part in (e.key, e.answer)), *_ends(live, examples), *lost]
    return PreparedQuestion(
        {"rows": plan_record(pinned_rows(plan)), **_near_record(slices.near)},
        digest([*parts, *_answer_parts(examples, marking)]),
        len(examples),
        lambda engine, control: replace(
            _noted(answered(examples, engine, tokenizer, marking=marking, control=control), (*lost, *notes)),
            samples=tuple(Sample(e.key, prompts[e.key], e.answer) for e in examples),
        ),
        {},
        _marking(plan.filters, slices.near),
    )


def _text(live: "LiveModel", plan: TextPlan, slices: Slices) -> PreparedQuestion:
    if live.base.task != CAUSAL_LM:
        raise DataError(
            f"plain text is put to causal language models, and the adapter is of a {TASKS.get(live.base.task)}",
            "ask for divergence on rows of its own (--data, --divergence)",
        )
    windows = text_windows(refuse_seen_text(plan, slices), live.base.tokenizer, plan, live.positions)
    examples = windows.examples
    note = (
        f"{windows.counted:,} of {windows.tokens:,} tokens count: the last {plan.stride} of each of {len(examples)} "
        f"windows of {plan.window}."
    )
    contexts = live.base.tokenizer.batch_decode([list(e.prompt_ids) for e in examples])

    def put(engine: LoggedEngine, control: Control) -> Evaluation:
        found = _noted(diverged(examples, engine, control=control), (note,))
        pairs = zip(examples, contexts, strict=True)
        return replace(found, samples=tuple(Sample(e.key, context, e.answer) for e, context in pairs))

    record = asdict(plan)
    return PreparedQuestion({"text": record}, digest(["text", windows.digest]), len(examples), put, {})


def _refuse_marking(live: "LiveModel", plan: EvaluationPlan) -> None:
    """Raise `DataError` for what is asked of written answers where a classifier writes none."""
    if plan.divergence and (plan.filters or plan.stop):
        raise DataError(
            "filters and stop texts are for written answers, and divergence asks for none",
            "leave them out (--filter, --stop)",
        )
    if live.base.task in CLASSIFIERS and (plan.filters or plan.stop):
        raise DataError(
            f"filters and stop texts are for written answers, and a {TASKS[live.base.task]} says labels",
            "leave them out (--filter, --stop)",
        )


def _ends(live: "LiveModel", examples: Sequence[Example]) -> tuple[str, ...]:
    """What ends an answer, or for a classifier what its answers are called and how rows are read."""
    from surgery.model import end_ids

    if live.base.task in CLASSIFIERS:
        return json.dumps(live.base.labels), *live.scoring_notes
    ends = repr(sorted(end_ids(live) | {e.end for e in examples if e.end is not None}))
    return str(answer_limit(examples)), ends + _way(live)


def _way(live: "LiveModel") -> str:
    """How the model reads, where that is not the fastest way: answers of versions that knew no other are not taken up.

    A decoder of its own begins as the checkpoint's settings say, so these count as well.
    """
    begins = ""
    if live.base.task == SEQ_2_SEQ_LM:
        settings = getattr(live.model, "generation_config", None)
        begins = repr(
            [getattr(settings, name, None) for name in ("decoder_start_token_id", "forced_bos_token_id")]
        )
    return (repr(live.way) if live.notes else "") + begins


def _answer_parts(examples: Sequence[Example], marking: Marking) -> list[str]:
    """What the answers depend on beside the rows; nothing where it is as it always was."""
    stops = [stop_texts(example, marking) for example in examples]
    parts = [] if marking.generate else ["the loss alone"]
    parts += ["divergence"] if marking.divergence else []
    return [*parts, "stop", json.dumps(stops)] if any(stops) else parts


def _marking(filters: Sequence[str], near: Sequence[NearDuplicate]) -> str:
    """Identity of what is read from the answers, and of what was allowed; empty where nothing was asked for."""
    parts = [*filters, *(["near-duplicates allowed"] if near else [])]
    return digest(parts) if parts else ""


def _near_record(near: Sequence[NearDuplicate]) -> dict[str, Any]:
    return {"near_duplicates": [asdict(pair) for pair in near]} if near else {}


def _near_notes(near: Sequence[NearDuplicate], held_out: Sequence[object]) -> tuple[str, ...]:
    if not near:
        return ()
    return (f"{near_duplicates_text(len({pair.held for pair in near}), len(held_out))}: allowed for this run.",)


def _noted(evaluation: Evaluation, notes: tuple[str, ...]) -> Evaluation:
    return replace(evaluation, notes=(*notes, *evaluation.notes))


def _task_parts(loaded: "LoadedTask", tokenizer: Any) -> list[str]:
    """What a task's requests say, in texts and in tokens, and all that its metrics may read of the documents."""
    requests = loaded.requests
    texts = list(dict.fromkeys(part for request in requests for part in request.args if isinstance(part, str)))
    documents = {(request.task_name, request.doc_id): repr(request.doc) for request in requests}
    return [loaded.digest, repr(tokenizer(texts).input_ids), str(tokenizer.model_max_length), *documents.values()]
