"""What edits gain on their own task against what they cost on others, the guards: reward against risk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.evaluation.divergences import KL_BASE, KL_UNEDITED
from surgery.evaluation.evaluation import BASELINE, Effect, Evaluation, paired_effect
from surgery.evaluation.labels import ACCURACY
from surgery.evaluation.metric import EXACT, Metric
from surgery.evaluation.parts import macro_mean

# what questions are looked at by, beside the metric that their verdicts go by
_BESIDE = (EXACT.name, ACCURACY.name, KL_UNEDITED.name, KL_BASE.name)


@dataclass(frozen=True)
class TaskOutcome:
    """What one question found by one metric: the unedited adapter's mean, and the paired changes of the variants.

    `question` names it, and `examples` counts what was asked. `guard` tells the others from the own task.
    """

    question: str
    metric: Metric
    examples: int
    guard: bool
    mean: float
    changes: Mapping[str, Effect]

    def gain(self, variant: str) -> Effect:
        """The change of a variant, above 0 where it is better; points for shares of examples."""
        change, sign = self.changes[variant], 1.0 if self.metric.higher_is_better else -1.0
        sign *= 100.0 if self.metric.binary else 1.0
        low, high = sorted((sign * change.low, sign * change.high))
        return Effect(sign * change.mean, abs(sign) * change.standard_error, low, high)

    def gain_text(self, variant: str) -> str:
        """The gain with its 95 % interval; ~ stands before one that is within noise."""
        gain, digits = self.gain(variant), 1 if self.metric.binary else self.metric.digits
        sign = "" if gain.certain else "~ "
        return f"{sign}{gain.mean:+.{digits}f} [{gain.low:+.{digits}f}, {gain.high:+.{digits}f}]"

    def cost(self, variant: str) -> Effect:
        """The same, above 0 where it is worse."""
        gain = self.gain(variant)
        return Effect(-gain.mean, gain.standard_error, -gain.high, -gain.low)


def task_outcomes(
    own: tuple[str, Evaluation], guards: Sequence[tuple[str, Evaluation]]
) -> tuple[TaskOutcome, ...]:
    """The own task and each guard by its headline metric, by right answers and by KL; then the guards' mean in points.

    own, guards: evaluations by the names of their questions. Guards of which that mean is taken count the same,
    however many examples they have; there are two or more.
    """
    found = [
        _outcome(name, evaluation, metric, guard=place > 0)
        for place, (name, evaluation) in enumerate((own, *guards))
        for metric in _looked_at(evaluation)
    ]
    shares = [(each, next((m for m in _looked_at(each) if m.binary), None)) for _, each in guards]
    return (*found, *_macro([(each, metric) for each, metric in shares if metric is not None]))


def _looked_at(evaluation: Evaluation) -> list[Metric]:
    headline, *others = evaluation.metrics
    return [headline, *(metric for metric in others if metric.name in _BESIDE)]


def _outcome(name: str, evaluation: Evaluation, metric: Metric, *, guard: bool) -> TaskOutcome:
    changes = {variant: evaluation.effect(variant, metric.name) for variant in evaluation.variants}
    mean = evaluation.mean(BASELINE, metric.name)
    return TaskOutcome(name, metric, len(evaluation.samples), guard, mean, changes)


def _macro(guards: Sequence[tuple[Evaluation, Metric]]) -> tuple[TaskOutcome, ...]:
    """The mean over guards of their shares of right answers, with its interval; nothing for fewer than two."""
    if len(guards) < 2:
        return ()
    parts = [str(place) for place, (each, _) in enumerate(guards) for _ in each.samples]
    shared = [name for name in guards[0][0].variants if all(name in each.scores for each, _ in guards)]

    def numbers(variant: str) -> Float64[ndarray, " example"]:
        return np.concatenate([each.numbers(variant, metric.name) for each, metric in guards])

    baseline = numbers(BASELINE)
    changes = {name: paired_effect(baseline, numbers(name), parts=parts) for name in shared}
    metric = Metric("macro", "mean of their shares", higher_is_better=True, binary=True, macro=True)
    mean = macro_mean(baseline, parts)
    return (TaskOutcome(f"{len(guards)} guards", metric, len(parts), True, mean, changes),)
