"""Put an edit to the proof: held-out examples that it has never seen, beside the controls that tell it from luck.

Every proof is a run of the history: it goes on where it was cut off, and what it found is kept.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.adapter import refuse_changed
from surgery.answer_log import AnswerLog, LoggedEngine
from surgery.calibration import Row, choose, encode, left_out_text, shared_keys
from surgery.edit import Edit, make_edit
from surgery.errors import DataError
from surgery.evaluate import answer_limit, answered
from surgery.evaluation import AGAIN, BASELINE, Asked, Evaluation, random_name
from surgery.home import digest
from surgery.measure import calibration_rows
from surgery.policy import AbsSelect, Policy, RandomIndex, knob_values, knobs_of
from surgery.recipe import (
    BaseChoice,
    CalibrationPlan,
    EditPlan,
    EvaluationPlan,
    Recipe,
    dump_recipe,
    edit_record,
    plan_record,
)
from surgery.runs import PROOF, Pace, Run, RunPlan, begin, finish, stored_run
from surgery.sensitivity import Progress
from surgery.sources import read_source
from surgery.spectrum import Spectra
from surgery.variant_rows import Variant

if TYPE_CHECKING:
    from surgery.judge import Judge
    from surgery.live import LiveModel
    from surgery.tasks import LoadedTask

EDIT = "edit"
SAME_NORM = "scale, same norm"
# requests of a batch in which the unedited adapter answers once more: the first that packs it otherwise
_OTHER_BATCHES = (7, 5, 3, 2, 1)


def random_controls(
    spectra: Spectra,
    count: int,
    *,
    like: Policy | None = None,
    scope: str = "residual",
    energy: str = "l1",
    sigma_min: float = 0.0,
) -> dict[str, Edit]:
    """`count` seeded random_index edits, named `random 0`, `random 1` and so on.

    With `like` an abs_select, the controls take its gates, so that they move as much as it does.
    """
    gates = RandomIndex()
    if isinstance(like, AbsSelect):
        shared = {knob.name for knob in knobs_of(RandomIndex)}
        gates = RandomIndex(**{name: value for name, value in knob_values(like).items() if name in shared})
    return {
        random_name(seed): make_edit(
            spectra, replace(gates, seed=seed), scope=scope, energy=energy, sigma_min=sigma_min
        )
        for seed in range(count)
    }


def scale_control(edit: Edit) -> Edit:
    """Every module of `edit` rescaled as a whole to the norm ‖σ′‖₂ that the edit gives it, its shape unchanged.

    It tells reweighting from an update that merely became larger or smaller. Modules that the edit leaves
    alone stay so.
    """
    modules = {}
    for name, module in edit.modules.items():
        before, after = np.linalg.norm(module.sigma), np.linalg.norm(module.sigma_after)
        gain = float(after / before) if before else 1.0
        modules[name] = replace(module, gains=np.full_like(module.sigma, gain), sigma_after=gain * module.sigma)
    return Edit(modules)


def held_out_rows(plan: EvaluationPlan, calibrations: Sequence[CalibrationPlan]) -> list[Row]:
    """The rows of an evaluation plan; raises `DataError` when a calibration slice shares an example."""
    found = read_source(plan.data, plan.fields)
    if found.left_out:
        raise DataError(
            f"{left_out_text(found.left_out)} ({found.problem})",
            "mend the rows: a proof leaves none out",
        )
    rows = choose(found.rows, plan.limit, seed=plan.seed, start=plan.start)
    for calibration in calibrations:
        shared = shared_keys(rows, calibration_rows(calibration))
        if shared:
            raise DataError(
                f"{len(shared)} of {len(rows)} evaluation rows were used for calibration or tuning",
                "evaluate on rows that the edit has not seen",
            )
    return rows


def with_controls(
    spectra: Spectra, plan: EditPlan, edit: Edit, *, random: int = 16, scale: bool = True
) -> dict[str, Edit]:
    """The edit under `EDIT` and its controls, in its scope and under its rules.

    `random` counts seeds of random_index; `scale` adds the rescaling to the edit's norm.
    """
    variants = {EDIT: edit}
    if scale:
        variants[SAME_NORM] = scale_control(edit)
    return variants | random_controls(
        spectra, random, like=plan.policy, scope=plan.scope, energy=plan.energy, sigma_min=plan.sigma_min
    )


def prove(
    live: "LiveModel",
    question: "EvaluationPlan | LoadedTask",
    seen: Sequence[CalibrationPlan],
    edits: Mapping[str, Edit],
    *,
    base: BaseChoice | None = None,
    plans: Mapping[str, EditPlan] | None = None,
    recipe: Recipe | None = None,
    purpose: str = PROOF,
    again: bool = False,
    judge: "Judge | None" = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Run:
    """Score the unedited adapter and every edit on rows or on a loaded task, as a run that is kept.

    The same question of the same variants is answered from this machine's runs; an unfinished run goes on. With
    `again` the unedited adapter answers a second time, batched otherwise: the noise floor. `seen` are the
    slices that the edits were made or chosen on. `base` is how `live` was loaded, `plans` what made the
    edits, `recipe` what to keep beside them and `purpose` what is asked of it; `batch_size` bounds the requests
    of a batch. `progress(done, total)` counts requests × variants. Raises `DataError` on shared examples, for
    reserved names, and when answers cannot be kept; `AdapterError` when the adapter's files have changed since
    it was opened; and `Cancelled`.
    """
    for name in (BASELINE, AGAIN):
        if name in edits:
            raise DataError(f"a variant cannot be called {name!r}", "rename it")
    refuse_changed(live.adapter)
    asked = _asked(live, question, seen, judge)
    variants: dict[str, Variant | None] = {BASELINE: None}
    variants |= {name: edit.sigma_after for name, edit in edits.items()}
    named = {BASELINE: sigma_digest(None)} | {name: sigma_digest(edit) for name, edit in edits.items()}
    named |= {AGAIN: AGAIN} if again else {}
    dtype = str(next(live.model.parameters()).dtype).removeprefix("torch.")
    plan = RunPlan(
        adapter=live.adapter.source,
        adapter_digest=live.adapter.digest,
        base=plan_record(base or BaseChoice(live.base.location, None, str(live.device), dtype)),
        fingerprint=live.base.fingerprint,
        question=asked.record,
        asked=asked.digest,
        examples=asked.examples,
        variants=named,
        edits={name: edit_record(each) for name, each in (plans or {}).items() if name in edits},
        settings={
            "dtype": dtype,
            "device": live.device.type,
            "torch": version("torch"),
            "transformers": version("transformers"),
            **asked.versions,
        },
        edit=recipe_digest(recipe) if recipe is not None else "",
        purpose=purpose,
    )
    known = stored_run(plan.key)
    if known is not None and known.finished:
        with suppress(DataError):  # samples that were changed are written again, from the log
            _ = known.evaluation
            total = asked.examples * len(named)
            if progress is not None:
                progress(total, total)
            return known
    run, log = begin(plan, dump_recipe(recipe) if recipe is not None else None)
    count = len(named)

    def report(share: int, before: int) -> Progress:
        def told(done: int, total: int) -> None:
            if progress is not None:
                progress(before * total // share + done, total // share * count)

        return told

    if batch_size is None and isinstance(question, EvaluationPlan):
        batch_size = question.batch_size
    with log:
        begun, before = time.monotonic(), _answers(log)
        engine = LoggedEngine(live, variants, log, batch_size=batch_size)
        evaluation = asked.put(engine, report(len(variants), 0), cancelled)
        if again:
            other = _other_batch(batch_size, len(variants), asked.examples)
            engine = LoggedEngine(live, {AGAIN: None}, log, batch_size=other)
            evaluation = evaluation.joined(asked.put(engine, report(1, len(variants)), cancelled))
        return finish(run, evaluation, Pace(time.monotonic() - begun, _answers(log) - before))


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
class _Asked:
    """A question made ready: its record and digest, and how an engine is put to it."""

    record: Mapping[str, Any]
    digest: str
    examples: int
    put: Callable[[LoggedEngine, Progress, Callable[[], bool] | None], Evaluation]
    versions: Mapping[str, str]


def _asked(
    live: "LiveModel",
    question: "EvaluationPlan | LoadedTask",
    seen: Sequence[CalibrationPlan],
    judge: "Judge | None",
) -> _Asked:
    from surgery.prompts import end_ids

    ends = repr(sorted(end_ids(live)))
    if isinstance(question, EvaluationPlan):
        rows = held_out_rows(question, seen)
        slice_ = encode(rows, live.base.tokenizer, question.encoding)
        examples = slice_.examples
        prompts = {row.key: row.prompt for row in rows}
        notes = (left_out_text(slice_.left_out),) if slice_.left_out else ()
        limit = answer_limit(examples)
        return _Asked(
            {"rows": plan_record(question)},
            digest([slice_.digest, *(part for e in examples for part in (e.key, e.answer)), str(limit), ends]),
            len(examples),
            lambda engine, progress, cancelled: replace(
                answered(examples, engine, live.base.tokenizer, progress=progress, cancelled=cancelled),
                samples=tuple(Asked(e.key, prompts[e.key], e.answer) for e in examples),
                notes=notes,
            ),
            {},
        )
    from surgery.benchmark import benchmarked, refuse_seen

    loaded = question
    refuse_seen(loaded, {f"slice {n} of the edit": calibration_rows(plan) for n, plan in enumerate(seen)})
    return _Asked(
        {"task": loaded.plan.values()},
        digest(["task", loaded.plan.name, *_task_parts(loaded, live.base.tokenizer), ends]),
        len(loaded.samples),
        lambda engine, progress, cancelled: benchmarked(
            loaded, engine, live.base, judge=judge, progress=progress, cancelled=cancelled
        ),
        {"lm-eval": version("lm-eval")},
    )


def _task_parts(loaded: "LoadedTask", tokenizer: Any) -> list[str]:
    """What a task's requests say, in texts and in tokens, and all that its metrics may read of the documents."""
    requests = loaded.task.instances
    texts = list(dict.fromkeys(part for request in requests for part in request.args if isinstance(part, str)))
    documents = {request.doc_id: repr(request.doc) for request in requests}
    return [loaded.digest, repr(tokenizer(texts).input_ids), str(tokenizer.model_max_length), *documents.values()]
