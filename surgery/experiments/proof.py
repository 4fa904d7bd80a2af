"""Evaluate an edit and its controls on held-out rows and store it as a run.

Every proof is a run of the history: it goes on where it was cut off, and what it found is kept.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from surgery.adapter import Adapter, refuse_changed
from surgery.data import (
    CalibrationPlan,
    EvaluationPlan,
    Margins,
    Slices,
    TaskPlan,
    TextPlan,
    plan_record,
    read_slices,
)
from surgery.edits import Edit, EditPlan, edit_record
from surgery.errors import DataError
from surgery.evaluation import AGAIN, BASE, BASELINE, Evaluation
from surgery.experiments.passes import Passes
from surgery.experiments.question import PreparedQuestion, prepare, refuse_seen_tasks
from surgery.files import digest
from surgery.model import (
    BaseChoice,
    Variant,
    apart_note,
    changes_beside_sigma,
    pinned_base,
    refuse_without_base,
    silenced,
)
from surgery.progress import SILENT, Control
from surgery.recipes import Recipe, dump_recipe, pinned
from surgery.runs import (
    PROOF,
    AnswerLog,
    AnswerTime,
    ControlGroup,
    Run,
    RunPlan,
    begin,
    control_notes,
    finish,
    late_margin_note,
    stored_run,
)
from surgery.sensitivity import sigma_identity
from surgery.spectra import decompose

if TYPE_CHECKING:
    from surgery.evaluation.lm_eval import Judge, LoadedTask
    from surgery.model import LiveModel

# requests of a batch in which the unedited adapter answers once more: the first that packs it otherwise
_OTHER_BATCHES = (7, 5, 3, 2, 1)


@dataclass(frozen=True)
class Proof:
    """Edits and the question that is put to them.

    question: held-out rows, a loaded task or plain text.
    edits: by the names of their variants, none of which is the unedited adapter's, its rerun's or the base's;
        `DataError` otherwise.
    seen: the slices that the edits were made or chosen on.
    seen_tasks: the tasks of lm-eval that they were chosen on.
    plans: what made the edits, of those that a plan made.
    controls: which of the edits are controls, by the name of the edit that they belong to.
    adapters: other adapters of the same base, by the names of their variants; each is attached in its turn.
    notes: what a reader of the results has to know besides.
    recipe: what is kept beside the answers; the run is about its edit.
    purpose: the question put to that edit, such as `proof` or one of the ablations.
    again: whether the unedited adapter answers a second time, batched otherwise: the noise floor.
    base_arm: whether the base model without the adapter answers too, as the variant `BASE`: in the batches of the
        others, or in batches of its own where the adapter changes more than σ can take out.
    base: how the live model was loaded.
    batch_size: requests of a batch at most; the plan's own for rows, memory's choice for tasks.
    allow_near: whether documents of a task may be nearly the same as rows that the edits were made on; a plan of
        rows says so itself.
    margins: how much worse an edit may be and still count as not inferior; a plan of rows says so itself.
    """

    question: "EvaluationPlan | LoadedTask | TextPlan"
    edits: Mapping[str, Edit]
    seen: Sequence[CalibrationPlan] = ()
    plans: Mapping[str, EditPlan] = field(default_factory=dict)
    recipe: Recipe | None = None
    purpose: str = PROOF
    again: bool = False
    base: BaseChoice | None = None
    batch_size: int | None = None
    controls: Mapping[str, ControlGroup] = field(default_factory=dict)
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    allow_near: bool = False
    margins: Margins | None = None
    base_arm: bool = False
    seen_tasks: Sequence[TaskPlan] = ()

    def __post_init__(self) -> None:
        for name in (BASELINE, BASE, AGAIN):
            if name in self.edits or name in self.adapters:
                raise DataError(f"a variant cannot be called {name!r}", "rename it")
        if twice := set(self.edits) & set(self.adapters):
            raise DataError(f"two variants are called {min(twice)!r}", "rename one")

    @property
    def rows(self) -> EvaluationPlan | None:
        """The held-out rows; None for a task and for text."""
        return self.question if isinstance(self.question, EvaluationPlan) else None

    @property
    def named_margins(self) -> Margins | None:
        """The margins that are named before the question is asked."""
        return self.margins if self.rows is None else self.rows.margins

    @property
    def requests_at_once(self) -> int | None:
        """Requests of a batch at most; None where memory decides."""
        own = self.question.batch_size if isinstance(self.question, EvaluationPlan | TextPlan) else None
        return own if self.batch_size is None else self.batch_size


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
    control: hears of requests × variants, and of their tokens.

    Raises `DataError` on shared examples and when answers cannot be kept; `AdapterError` when the adapter's files
    have changed since it was opened; and `Cancelled`.
    """
    for adapter in (live.adapter, *proof.adapters.values()):
        refuse_changed(adapter)
    if proof.base_arm:
        refuse_without_base(live.base)
    if slices is None:
        slices = read_slices(proof.seen, proof.rows)
    refuse_seen_tasks(live, proof.question, slices, proof.seen_tasks)
    asked = prepare(live, proof.question, slices, judge=judge, allow_near=proof.allow_near)
    plan = _run_plan(live, proof, asked)
    known = stored_run(plan.key)
    if known is not None and known.finished:
        with suppress(DataError):  # samples that were changed are written again, from the log
            _ = known.evaluation
            total = asked.examples * len(plan.variants)
            control.progress(total, total)
            return known
    run, log = begin(plan, dump_recipe(pinned(proof.recipe)) if proof.recipe is not None else None)
    with log:
        begun, before = time.monotonic(), _answers(log)
        evaluation = _dated(_answered(live, proof, asked, log, control), run)
        return finish(run, evaluation, AnswerTime(time.monotonic() - begun, _answers(log) - before))


def _run_plan(live: "LiveModel", proof: Proof, asked: PreparedQuestion) -> RunPlan:
    dtype = str(next(live.model.parameters()).dtype).removeprefix("torch.")
    variants = {BASELINE: sigma_digest(None)} | {name: sigma_digest(edit) for name, edit in proof.edits.items()}
    return RunPlan(
        adapter=live.adapter.source,
        adapter_digest=live.adapter.digest,
        base=plan_record(pinned_base(proof.base or BaseChoice(live.base.location, None, str(live.device), dtype))),
        fingerprint=live.base.fingerprint,
        question=asked.record,
        asked=asked.digest,
        examples=asked.examples,
        variants=variants
        | ({BASE: BASE} if proof.base_arm else {})
        | ({AGAIN: AGAIN} if proof.again else {})
        | {name: f"adapter {other.digest}" for name, other in proof.adapters.items()},
        edits={name: edit_record(each) for name, each in proof.plans.items() if name in proof.edits},
        settings={
            "dtype": dtype,
            "device": live.device.type,
            "torch": version("torch"),
            "transformers": version("transformers"),
            **asked.versions,
            **_batch_record(proof),
        },
        edit=recipe_digest(proof.recipe) if proof.recipe is not None else "",
        purpose=proof.purpose,
        controls=dict(proof.controls),
        marking=asked.marking,
        margins=proof.named_margins,
    )


def _batch_record(proof: Proof) -> dict[str, int]:
    """The batch size where it was chosen: answers may depend on it, and runs of the default never had it."""
    question = proof.question
    default = type(question)("").batch_size if isinstance(question, EvaluationPlan | TextPlan) else None
    size = proof.requests_at_once
    return {} if size is None or size == default else {"batch_size": size}


def _answered(
    live: "LiveModel", proof: Proof, asked: PreparedQuestion, log: AnswerLog, control: Control
) -> Evaluation:
    """What the variants answer, the base, the unedited adapter once more and other adapters as the proof asks for them."""
    from surgery.model import LiveModel

    variants: dict[str, Variant | None] = {BASELINE: None}
    variants |= {name: edit.sigma_after for name, edit in proof.edits.items()}
    beside = changes_beside_sigma(live.adapter) if proof.base_arm else ()
    if proof.base_arm and not beside:
        variants[BASE] = silenced(live.spectra)
    count = len(variants) + int(bool(beside)) + int(proof.again) + len(proof.adapters)
    passes, batch_size = Passes(asked, log, control, count), proof.requests_at_once
    later = []
    if beside:
        # first: what the base cannot read is refused before the others have spent their time
        with live.alone():
            later.append(passes.put(live, {BASE: None}, batch_size))
    evaluation = passes.put(live, variants, batch_size)
    if proof.again:
        other = _other_batch(batch_size, len(variants), asked.examples)
        later.append(passes.put(live, {AGAIN: None}, other, beside=variants))
    for name, adapter in proof.adapters.items():
        with live.detached() as base, LiveModel(base, adapter, decompose(adapter)) as alone:
            later.append(passes.put(alone, {name: None}, batch_size))
    for each in later:
        evaluation = evaluation.joined(each)
    return _told(evaluation, proof, beside)


def _dated(evaluation: Evaluation, run: Run) -> Evaluation:
    """The evaluation with its margins, and what is to be told of when they were named."""
    notes = (*evaluation.notes, *filter(None, [late_margin_note(run)]))
    return replace(evaluation, margins=run.plan.margins, notes=notes)


def _told(evaluation: Evaluation, proof: Proof, beside: Sequence[str]) -> Evaluation:
    """The evaluation with whose controls its variants are, and what else of the proof a reader has to know."""
    own = {name: group.random for name, group in proof.controls.items() if name and group.random}
    notes = (*evaluation.notes, *control_notes(proof.controls), *proof.notes, *apart_note(beside))
    shape = {name: dict(group.shape) for name, group in proof.controls.items() if group.shape}
    return replace(evaluation, own_controls=own, shape_controls=shape, notes=tuple(dict.fromkeys(notes)))


def _answers(log: AnswerLog) -> int:
    return sum(map(len, log.known.values()))


def _other_batch(batch_size: int | None, variants: int, examples: int) -> int:
    """Requests of a batch whose rows are fewer or more than those that the variants had together."""
    rows = min(batch_size or examples, examples) * variants
    return next((size for size in _OTHER_BATCHES if min(size, examples) != rows), 1)


def recipe_digest(recipe: Recipe) -> str:
    """Identity of an edit and of how it was made; how it is evaluated does not count.

    Nor do the rows that were measured, where the policy reads no gradient, and protected slices that it does not read.
    """
    if not recipe.edit.needs_sensitivity:
        recipe = replace(recipe, calibration_digest="")
    if not recipe.edit.needs_protected:
        recipe = replace(recipe, protected=(), protected_digests=())
    return digest([dump_recipe(pinned(replace(recipe, evaluation=None, guards=())))])


def sigma_digest(edit: Edit | None) -> str:
    """Identity of what a variant does: its σ′ by module. Empty for the unedited adapter."""
    return sigma_identity(None if edit is None else edit.sigma_after)
