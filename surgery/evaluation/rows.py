"""Rows put to variants: answer loss and greedy exact match, or the loss and accuracy of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import CLASSIFIERS, AnswerFilters, Calibration, EvaluationPlan, Example
from surgery.errors import DataError
from surgery.evaluation.divergences import (
    CROSS_ENTROPY,
    DIVERGENCES,
    UNTOLD,
    divergence_scores,
    known_references,
)
from surgery.evaluation.evaluation import BASELINE, Evaluation, Sample, Scores, row_scores
from surgery.evaluation.labels import label_metrics, label_scores
from surgery.evaluation.metric import EXACT, LOSS
from surgery.evaluation.stops import Stops, cut
from surgery.model import Answered, Classified, Divergence, Stop, Variant, VariantEngine
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from surgery.model import LiveModel

_EXTRA_TOKENS = 8
LOSS_ALONE = "The loss alone was asked for: nothing was generated, so there is no exact match."


class RowEngine(Protocol):
    """What answers examples for all variants, such as `VariantEngine`.

    `notes` say how it read them; `labels` are those of a classifier, and `references` the variants that divergences may
    be measured from.
    """

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def references(self) -> tuple[str, ...]: ...

    def classify(
        self, examples: Sequence[Example], *, control: Control = SILENT
    ) -> Mapping[str, Sequence[Classified]]: ...

    def divergences(
        self, examples: Sequence[Example], references: Sequence[str], *, control: Control = SILENT
    ) -> Mapping[str, Sequence[Divergence]]: ...

    def answer_losses(
        self, examples: Sequence[Example], *, control: Control = SILENT
    ) -> Mapping[str, Float64[ndarray, " example"]]: ...

    def answer(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int,
        stop: Stop | None = None,
        control: Control = SILENT,
    ) -> Mapping[str, Sequence[Answered]]: ...


@dataclass(frozen=True)
class Marking:
    """What is asked of answers, and when one is right.

    generate: whether answers are generated; without, there is the loss alone.
    filters: as `AnswerFilters` takes them; an answer is right when they leave of it what they leave of the reference.
    stop: texts that end an answer and are cut from it.
    divergence: whether KL is asked for in place of answers.
    """

    generate: bool = True
    filters: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    divergence: bool = False

    @classmethod
    def of(cls, plan: EvaluationPlan) -> "Marking":
        return cls(plan.generate, plan.filters, plan.stop, plan.divergence)


def evaluate(
    live: "LiveModel",
    slice_: Calibration,
    variants: Mapping[str, Variant],
    *,
    batch_size: int = 32,
    marking: Marking = Marking(),
    control: Control = SILENT,
) -> Evaluation:
    """Scores of the unedited adapter and of every variant on the same encoded rows.

    live: the adapter in its running base model.
    slice_: encoded rows.
    variants: σ′ by module, by the name of the variant.
    batch_size: examples of a batch at most; all variants of them run at once, fewer where memory asks for it.
    marking: what is asked of answers.
    control: hears of examples and of tokens over all variants.

    Raises `DataError` for a variant called as the unedited adapter is, and `Cancelled`.
    """
    if BASELINE in variants:
        raise DataError(f"a variant cannot be called {BASELINE!r}", "rename it")
    engine = VariantEngine(live, {BASELINE: None, **variants}, rows=batch_size * (1 + len(variants)))
    tokenizer = live.tokenizer_for(slice_.encoding)
    return answered(slice_.examples, engine, tokenizer, marking=marking, control=control)


def answered(
    examples: Sequence[Example],
    engine: RowEngine,
    tokenizer: Any,
    *,
    marking: Marking = Marking(),
    control: Control = SILENT,
) -> Evaluation:
    """Scores of an engine's variants on encoded rows.

    examples: encoded rows.
    engine: answers for all its variants at once.
    tokenizer: of the base model; decodes prompts and answers.
    marking: what is asked of answers; without generation there is no exact match. Labels are not generated.
    control: hears of examples and of tokens over all variants; raises `Cancelled`.
    """
    prompts = tokenizer.batch_decode([list(e.prompt_ids) for e in examples], skip_special_tokens=True)
    samples = tuple(Sample(e.key, prompt, e.answer) for e, prompt in zip(examples, prompts, strict=True))
    if marking.divergence:
        return replace(diverged(examples, engine, control=control), samples=samples)
    if examples[0].task in CLASSIFIERS:
        said = label_scores(examples, engine.classify(examples, control=control), engine.labels)
        return Evaluation(said, samples, label_metrics(examples), notes=engine.notes)
    if not marking.generate:
        nothing = np.full(len(examples), np.nan), ("",) * len(examples)
        losses = engine.answer_losses(examples, control=control)
        scores = {name: row_scores(each, *nothing) for name, each in losses.items()}
        return Evaluation(scores, samples, (LOSS,), notes=(LOSS_ALONE, *engine.notes))
    marks = _Marks.of(examples, tokenizer, marking)
    stop = Stops(tokenizer, marks.stops) if any(marks.stops) else None
    limit = answer_limit(examples)
    found = engine.answer(examples, max_new_tokens=limit, stop=stop, control=control)
    scores = {name: marks.scores(answers, tokenizer) for name, answers in found.items()}
    return Evaluation(scores, samples, (LOSS, EXACT), notes=(*marks.notes, *engine.notes))


def diverged(examples: Sequence[Example], engine: RowEngine, *, control: Control = SILENT) -> Evaluation:
    """Cross-entropy and KL of an engine's variants by example; samples have no prompts.

    KL is told from those of the unedited adapter and the base that are among the engine's references.
    """
    references = known_references(engine.references)
    found = engine.divergences(examples, references, control=control)
    samples = tuple(Sample(example.key, "", example.answer) for example in examples)
    scores = divergence_scores(found, references, [""] * len(examples))
    metrics = (CROSS_ENTROPY, *(DIVERGENCES[name] for name in references))
    return Evaluation(scores, samples, metrics, notes=engine.notes if references else (UNTOLD, *engine.notes))


@dataclass(frozen=True)
class _Marks:
    """What counts as right: for each row the texts that end its answer, and what the filters leave of its references."""

    stops: Sequence[Sequence[str]]
    references: Sequence[frozenset[str]]
    filters: AnswerFilters
    notes: tuple[str, ...]

    @staticmethod
    def of(examples: Sequence[Example], tokenizer: Any, marking: Marking) -> "_Marks":
        filters = AnswerFilters(marking.filters)
        stops = [stop_texts(example, marking) for example in examples]
        references, untouched = [], 0
        for texts in _references(examples, tokenizer):
            left = [filters(text) for text in texts]
            untouched += None in left
            # a reference may be the bare answer already
            pairs = zip(texts, left, strict=True)
            references.append(frozenset(text if part is None else part for text, part in pairs))
        notes: tuple[str, ...] = ()
        if untouched:
            notes = (
                f"The filters find nothing in {untouched} of {len(examples)} references, which stand as they are.",
            )
        return _Marks(stops, references, filters, notes)

    def scores(self, answers: Sequence[Answered], tokenizer: Any) -> Scores:
        decoded = tokenizer.batch_decode([answer.tokens for answer in answers], skip_special_tokens=True)
        texts = [cut(text, stops).strip() for text, stops in zip(decoded, self.stops, strict=True)]
        pairs = zip(texts, self.references, strict=True)
        right = [float(self.filters(text) in accepted) for text, accepted in pairs]
        return row_scores(np.array([answer.loss for answer in answers]), np.array(right), texts)


def stop_texts(example: Example, marking: Marking) -> tuple[str, ...]:
    """The texts that end the answer to an example, beside the ids that do."""
    return (*marking.stop, example.stop) if example.stop else marking.stop


def _references(examples: Sequence[Example], tokenizer: Any) -> list[frozenset[str]]:
    """The texts that count as right: a row's answer, and all that its template writes as the answer, such as an
    empty thought before it.
    """
    rendered = tokenizer.batch_decode([list(e.answer_ids) for e in examples], skip_special_tokens=True)
    return [
        frozenset((e.answer.strip(), text.removesuffix(e.stop).strip()))
        for e, text in zip(examples, rendered, strict=True)
    ]


def answer_limit(examples: Sequence[Example]) -> int:
    """Tokens that an answer to any of these rows may have: a few more than the longest reference."""
    return max(len(example.answer_ids) for example in examples) + _EXTRA_TOKENS
