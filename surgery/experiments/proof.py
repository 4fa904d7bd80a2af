"""Evaluate an edit and its controls on held-out rows and store it as a run.

Every proof is a run of the history: it goes on where it was cut off, and what it found is kept.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.adapter import refuse_changed
from surgery.data import (
    LEAVE_OUT,
    CalibrationPlan,
    EvaluationPlan,
    Slices,
    encode,
    left_out_text,
    plan_record,
    read_slices,
)
from surgery.edits import Edit, EditPlan, edit_record
from surgery.errors import DataError
from surgery.evaluation import AGAIN, BASELINE, Evaluation, Sample, answer_limit, answered
from surgery.files import digest
from surgery.model import BaseChoice, Variant
from surgery.progress import SILENT, Control
from surgery.recipes import Recipe, dump_recipe
from surgery.runs import PROOF, AnswerLog, AnswerTime, LoggedEngine, Run, RunPlan, begin, finish, stored_run

if TYPE_CHECKING:
    from surgery.evaluation.lm_eval import Judge, LoadedTask
    from surgery.model import LiveModel

# requests of a batch in which the unedited adapter answers once more: the first that packs it otherwise
_OTHER_BATCHES = (7, 5, 3, 2, 1)


@dataclass(frozen=True)
class Proof:
    """Edits and the question that is put to them.

    question: held-out rows or a loaded task.
    edits: by the names of their variants, which are neither of the unedited adapter's two; `DataError` otherwise.
    seen: the slices that the edits were made or chosen on.
    plans: what made the edits, of those that a plan made.
    recipe: what is kept beside the answers; the run is about its edit.
    purpose: the question put to that edit, such as `proof` or one of the ablations.
    again: whether the unedited adapter answers a second time, batched otherwise: the noise floor.
    base: how the live model was loaded.
    batch_size: requests of a batch at most; the plan's own for rows, memory's choice for tasks.
    """

    question: "EvaluationPlan | LoadedTask"
    edits: Mapping[str, Edit]
    seen: Sequence[CalibrationPlan] = ()
    plans: Mapping[str, EditPlan] = field(default_factory=dict)
    recipe: Recipe | None = None
    purpose: str = PROOF
    again: bool = False
    base: BaseChoice | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in (BASELINE, AGAIN):
            if name in self.edits:
                raise DataError(f"a variant cannot be called {name!r}", "rename it")

    @property
    def rows(self) -> EvaluationPlan | None:
        """The held-out rows; None for a task."""
        return self.question if isinstance(self.question, EvaluationPlan) else None


def prove(
    live: "LiveModel",
    proof: Proof,
    *,
    slices: Slices | None = None,
    judge: "Judge | None" = None,
    control: Control = SILENT,
) -> Run:
    """Score the unedited adapter and every edit of a proof on its question, as a run that is kept.

    The same question of the same variants is answered from this machine's runs; an unfinished run goes on.

    slices: the rows of the proof, read unless they are given.
    judge: runs the answers that are programs, apart from this process.
    control: hears of requests × variants.

    Raises `DataError` on shared examples and when answers cannot be kept; `AdapterError` when the adapter's files
    have changed since it was opened; and `Cancelled`.
    """
    refuse_changed(live.adapter)
    if slices is None:
        slices = read_slices(proof.seen, proof.rows)
    asked = _asked(live, proof.question, slices, judge)
    plan = _run_plan(live, proof, asked)
    known = stored_run(plan.key)
    if known is not None and known.finished:
        with suppress(DataError):  # samples that were changed are written again, from the log
            _ = known.evaluation
            total = asked.examples * len(plan.variants)
            control.progress(total, total)
            return known
    run, log = begin(plan, dump_recipe(proof.recipe) if proof.recipe is not None else None)
    with log:
        begun, before = time.monotonic(), _answers(log)
        evaluation = _answered(live, proof, asked, log, control)
        return finish(run, evaluation, AnswerTime(time.monotonic() - begun, _answers(log) - before))


def _run_plan(live: "LiveModel", proof: Proof, asked: "_PreparedQuestion") -> RunPlan:
    dtype = str(next(live.model.parameters()).dtype).removeprefix("torch.")
    variants = {BASELINE: sigma_digest(None)} | {name: sigma_digest(edit) for name, edit in proof.edits.items()}
    return RunPlan(
        adapter=live.adapter.source,
        adapter_digest=live.adapter.digest,
        base=plan_record(proof.base or BaseChoice(live.base.location, None, str(live.device), dtype)),
        fingerprint=live.base.fingerprint,
        question=asked.record,
        asked=asked.digest,
        examples=asked.examples,
        variants=variants | ({AGAIN: AGAIN} if proof.again else {}),
        edits={name: edit_record(each) for name, each in proof.plans.items() if name in proof.edits},
        settings={
            "dtype": dtype,
            "device": live.device.type,
            "torch": version("torch"),
            "transformers": version("transformers"),
            **asked.versions,
        },
        edit=recipe_digest(proof.recipe) if proof.recipe is not None else "",
        purpose=proof.purpose,
    )


def _answered(
    live: "LiveModel", proof: Proof, asked: "_PreparedQuestion", log: AnswerLog, control: Control
) -> Evaluation:
    """What the variants answer, and the unedited adapter once more where the proof asks for that."""
    variants: dict[str, Variant | None] = {BASELINE: None}
    variants |= {name: edit.sigma_after for name, edit in proof.edits.items()}
    count = len(variants) + int(proof.again)
    batch_size = proof.batch_size
    if batch_size is None and proof.rows is not None:
        batch_size = proof.rows.batch_size
    engine = LoggedEngine(live, variants, log, batch_size=batch_size)
    evaluation = asked.put(engine, _share(control, 0, len(variants), count))
    if proof.again:
        other = _other_batch(batch_size, len(variants), asked.examples)
        engine = LoggedEngine(live, {AGAIN: None}, log, batch_size=other)
        evaluation = evaluation.joined(asked.put(engine, _share(control, len(variants), 1, count)))
    return evaluation


def _share(control: Control, before: int, own: int, variants: int) -> Control:
    """The control of a pass over `own` of the `variants`, which follows the pass over `before` others."""

    def told(done: int, total: int) -> None:
        requests = total // own
        control.progress(before * requests + done, requests * variants)

    return replace(control, progress=told)


def _answers(log: AnswerLog) -> int:
    return sum(map(len, log.known.values()))


def _other_batch(batch_size: int | None, variants: int, examples: int) -> int:
    """Requests of a batch whose rows are fewer or more than those that the variants had together."""
    rows = min(batch_size or examples, examples) * variants
    return next((size for size in _OTHER_BATCHES if min(size, examples) != rows), 1)


def recipe_digest(recipe: Recipe) -> str:
    """Identity of an edit and of how it was made; how it is evaluated does not count.

    Nor do the rows that were measured, where the policy reads no gradient.
    """
    rows = recipe.calibration_digest if recipe.edit.policy.needs_gradient else ""
    return digest([dump_recipe(replace(recipe, evaluation=None, calibration_digest=rows))])


def sigma_digest(edit: Edit | None) -> str:
    """Identity of what a variant does: its σ′ by module. Empty for the unedited adapter."""
    if edit is None:
        return ""
    after = edit.sigma_after
    return digest(part for name in sorted(after) for part in (name, np.ascontiguousarray(after[name]).tobytes()))


@dataclass(frozen=True)
class _PreparedQuestion:
    """A question made ready: its record and digest, and how an engine is put to it."""

    record: Mapping[str, Any]
    digest: str
    examples: int
    put: Callable[[LoggedEngine, Control], Evaluation]
    versions: Mapping[str, str]


def _asked(
    live: "LiveModel", question: "EvaluationPlan | LoadedTask", slices: Slices, judge: "Judge | None"
) -> _PreparedQuestion:
    from surgery.model import end_ids

    ends = repr(sorted(end_ids(live)))
    if isinstance(question, EvaluationPlan):
        return _asked_rows(live, question, slices, ends)
    from surgery.evaluation.lm_eval import benchmarked, refuse_seen

    loaded = question
    refuse_seen(loaded, {f"slice {n} of the edit": each.rows for n, each in enumerate(slices.seen.values())})
    return _PreparedQuestion(
        {"task": loaded.plan.values()},
        digest(["task", loaded.plan.name, *_task_parts(loaded, live.base.tokenizer), ends]),
        len(loaded.documents),
        lambda engine, control: benchmarked(loaded, engine, live.base, judge=judge, control=control),
        {"lm-eval": version("lm-eval")},
    )


def _asked_rows(live: "LiveModel", plan: EvaluationPlan, slices: Slices, ends: str) -> _PreparedQuestion:
    slice_ = encode(slices.held_out, live.base.tokenizer, plan.encoding, left_out=slices.left_out)
    examples = slice_.examples
    if len(examples) < len(slices.held_out) and not plan.leave_out:
        long = len(slices.held_out) - len(examples)
        raise DataError(
            f"{long} of {len(slices.held_out)} held-out rows are longer than {plan.encoding.max_length} tokens",
            f"raise the length limit, or {LEAVE_OUT}",
        )
    prompts = {row.key: row.prompt for row in slices.held_out}
    notes = (left_out_text(slice_.left_out),) if slice_.left_out else ()
    limit = answer_limit(examples)
    return _PreparedQuestion(
        {"rows": plan_record(plan)},
        # what was left out is part of the question: the same rest of other rows has other notes
        digest([slice_.digest, *(part for e in examples for part in (e.key, e.answer)), str(limit), ends, *notes]),
        len(examples),
        lambda engine, control: replace(
            answered(examples, engine, live.base.tokenizer, control=control),
            samples=tuple(Sample(e.key, prompts[e.key], e.answer) for e in examples),
            notes=notes,
        ),
        {},
    )


def _task_parts(loaded: "LoadedTask", tokenizer: Any) -> list[str]:
    """What a task's requests say, in texts and in tokens, and all that its metrics may read of the documents."""
    requests = loaded.task.instances
    texts = list(dict.fromkeys(part for request in requests for part in request.args if isinstance(part, str)))
    documents = {request.doc_id: repr(request.doc) for request in requests}
    return [loaded.digest, repr(tokenizer(texts).input_ids), str(tokenizer.model_max_length), *documents.values()]
