"""Variants on an lm-eval task, as an evaluation: paired with the unedited adapter and tested for luck.

One pass of the engine answers for all variants; slices that the edits were made or chosen on may share
no example with the task's.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from surgery.adapter import CAUSAL_LM, TASKS
from surgery.data import NearDuplicate, NearDuplicatesError, Row, near_duplicates, refuse_shared
from surgery.edits import Edit
from surgery.errors import DataError
from surgery.evaluation import BASELINE, Evaluation, Metric, Sample, Scores
from surgery.evaluation.lm_eval.answers import Engine, Response
from surgery.evaluation.lm_eval.code_judge import Judge
from surgery.evaluation.lm_eval.scoring import TaskScores, run_task
from surgery.evaluation.lm_eval.tasks import LoadedTask
from surgery.model import VariantEngine
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from surgery.model import LiveModel, LoadedBase


def refuse_other_models(task: str) -> None:
    """Raise `DataError` unless an adapter's task is that of a causal language model: lm-eval's requests are made for one.

    task: see `Adapter.task`.
    """
    if task != CAUSAL_LM:
        raise DataError(
            f"lm-eval's tasks are put to causal language models here, and the adapter is of a {TASKS.get(task, task)}",
            "evaluate it on rows of its own: surgery evaluate, or Prompt-and-answer rows on the Evaluate page",
        )


def benchmark(
    live: "LiveModel",
    loaded: LoadedTask,
    edits: Mapping[str, Edit],
    *,
    judge: Judge | None = None,
    rows: int | None = None,
    control: Control = SILENT,
) -> Evaluation:
    """Scores of the unedited adapter and of every edit on a loaded task, in one pass.

    live: the adapter in its running base model.
    loaded: the task with the requests of one slice.
    edits: by the names of their variants.
    judge: runs generated programs, apart from this process.
    rows: rows of a batch at most (variants × requests); memory's choice where not given.
    control: hears of requests × variants.

    Raises `DataError` for another model than a causal language model, for a task whose answers are programs and no
    judge, and `Cancelled`.
    """
    refuse_other_models(live.base.task)
    if BASELINE in edits:
        raise DataError(f"a variant cannot be called {BASELINE!r}", "rename it")
    engine = VariantEngine(
        live, {BASELINE: None, **{name: edit.sigma_after for name, edit in edits.items()}}, rows=rows
    )
    return benchmarked(loaded, engine, live.base, judge=judge, control=control)


def benchmarked(
    loaded: LoadedTask,
    engine: Engine,
    base: "LoadedBase",
    *,
    judge: Judge | None = None,
    control: Control = SILENT,
) -> Evaluation:
    """Scores of an engine's variants on a loaded task, as an evaluation.

    loaded: the task with the requests of one slice.
    engine: answers for all its variants at once.
    base: the base model, for its tokenizer and config.
    judge: runs generated programs, apart from this process.
    control: hears what the engine tells.

    Raises as `run_task` does.
    """
    found = run_task(loaded, engine, base, judge=judge, control=control)
    metrics = _metrics(found)
    requests = loaded.requests
    texts = [[str(requests[place].args[-1]) for place in places] for places in loaded.places]
    scores = {
        name: Scores(
            {metric.name: found.numbers(name, metric.name) for metric in metrics},
            tuple(_answer(r, t) for r, t in zip(found.responses[name], texts, strict=True)),
        )
        for name in found.values
    }
    samples = tuple(_sample(found, number, single=loaded.is_single) for number in range(len(found.documents)))
    return Evaluation(scores, samples, metrics, found.aggregates, (*found.notes, *engine.notes))


def refuse_seen(
    loaded: LoadedTask, seen: Mapping[str, Sequence[Row]], *, allow: bool = False
) -> list[NearDuplicate]:
    """Documents of the slice that are nearly the same as rows that edits were made or chosen on.

    Raises `DataError` for a document that is the same, and `NearDuplicatesError` for these unless `allow` is set.
    """
    near = []
    for name, rows in seen.items():
        refuse_shared({name: rows, f"the slice of {loaded.plan.name}": loaded.documents})
        near += near_duplicates(loaded.documents, rows, name)
    if near and not allow:
        raise NearDuplicatesError(near, len(loaded.documents))
    return near


def _sample(scores: TaskScores, number: int, *, single: bool) -> Sample:
    """A document as it was asked; of a group it also tells whose task it is."""
    document, cut = scores.documents[number], scores.cuts.get(number)
    return Sample(
        document.hash,
        cut.asked if cut else document.prompt,
        document.target,
        part="" if single else document.task,
        lost=cut.lost if cut else 0,
    )


def _metrics(scores: TaskScores) -> tuple[Metric, ...]:
    """The headline first, then every other metric that is one number per example."""
    first = next(iter(scores.values.values()))
    found = []
    for name in dict.fromkeys([scores.metric, *first]):
        try:
            numbers = [scores.numbers(variant, name) for variant in scores.values]
        except DataError:
            if name == scores.metric:
                raise
            continue
        metric, _, filter_ = name.partition(",")
        title = metric.replace("_", " ") + (f", {filter_}" if filter_ not in ("", "none") else "")
        binary = bool(np.isin(numbers, (0.0, 1.0)).all())
        found.append(Metric(name, title, scores.rises[name], binary, macro=name in scores.macro))
    return tuple(found)


def _answer(responses: Sequence[Response], texts: Sequence[str]) -> str:
    """What a variant said to one document: its text, the choice that it finds likeliest, or a log likelihood."""
    if len(responses) == 1:
        only = responses[0]
        return only if isinstance(only, str) else f"{only[0] if isinstance(only, tuple) else only:.4f} nats"
    totals = [response[0] for response in responses if isinstance(response, tuple)]
    if len(totals) == len(responses):
        return texts[int(np.argmax(totals))].strip()
    return "\n".join(str(response) for response in responses)
