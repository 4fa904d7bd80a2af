"""What variants scored on the same examples, and how sure the differences to the unedited adapter are.

Every variant answers every example, so an effect is a mean of per-example differences; its interval is a
95 % paired percentile bootstrap. An interval that holds zero is noise, and 0/1 metrics also have McNemar's
exact test, corrected for all variants at once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import Margins
from surgery.errors import DataError
from surgery.evaluation.metric import EXACT, LOSS, Metric
from surgery.evaluation.parts import macro_error, macro_mean, macro_resamples
from surgery.evaluation.resampling import RESAMPLES, resampled_means
from surgery.evaluation.significance import McNemar, PermutationRank, holm, mcnemar, permutation_rank

BASELINE = "unedited"
AGAIN = "unedited, batched otherwise"
BASE = "base"
_RANDOM = re.compile(r"random \d+( of .+)?", re.DOTALL)
FEW = 24  # examples, below which a percentile bootstrap of a mean is plainly too narrow


@dataclass(frozen=True)
class Sample:
    """One example of an evaluation, prompt and reference as texts; `key` is the hash of its content.

    `part` is the task of a group that it comes from. `lost` counts the tokens at the beginning of a prompt that
    was longer than the model; `prompt` is then what was asked.
    """

    key: str
    prompt: str
    reference: str
    part: str = ""
    lost: int = 0


@dataclass(frozen=True)
class Scores:
    """Scores of one variant on every example: numbers by the name of the metric, and its answers."""

    values: Mapping[str, Float64[ndarray, " example"]]
    answers: tuple[str, ...]

    @property
    def loss(self) -> Float64[ndarray, " example"]:
        """Mean cross-entropy of the answer's tokens, in nats; rows have it, tasks do not."""
        return self.values[LOSS.name]

    @property
    def exact(self) -> Float64[ndarray, " example"]:
        """Exact match of the greedy answer, 0 or 1; NaN where nothing was generated."""
        return self.values[EXACT.name]


@dataclass(frozen=True)
class Effect:
    """Paired difference to the baseline: mean, standard error and 95 % bootstrap interval."""

    mean: float
    standard_error: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Evaluation:
    """Scores of all variants on one slice, the unedited adapter first under `BASELINE`.

    The first of `metrics` is the slice's headline, the one that verdicts go by. `aggregates` are an lm-eval
    task's own totals by variant; `notes` say what a reader has to know of how it was scored. `own_controls` names
    the random controls of each edit. Without it, as in what earlier versions wrote, all random controls stand
    beside every variant. `shape_controls` names by edit and by control the variants that tell scale from shape.
    `margins` are those that were named before the answers were asked for.
    """

    scores: Mapping[str, Scores]
    samples: tuple[Sample, ...]
    metrics: tuple[Metric, ...] = (LOSS, EXACT)
    aggregates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    own_controls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shape_controls: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    margins: Margins | None = None

    @property
    def caution(self) -> str:
        """What to keep in mind where the examples are so few that their intervals are too narrow; else empty."""
        count = len(self.samples)
        if count >= FEW:
            return ""
        return (
            f"The 95 % intervals of {count} {'example' if count == 1 else 'examples'} are too narrow: of 8, about 15 "
            f"in 100 miss the true change. Take them as a hint, and ask {FEW} or more."
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """The part of the slice that each example belongs to."""
        return tuple(sample.part for sample in self.samples)

    @property
    def variants(self) -> tuple[str, ...]:
        """All but the unedited adapter."""
        return tuple(name for name in self.scores if name != BASELINE)

    @property
    def controls(self) -> tuple[str, ...]:
        """The random controls, of all edits."""
        owned = {name for names in self.own_controls.values() for name in names}
        return tuple(name for name in self.scores if name in owned or is_random_control(name))

    def controls_of(self, variant: str) -> tuple[str, ...]:
        """The random controls that a variant is compared with: its own; none for one that has none of its own."""
        if not self.own_controls:
            return () if variant == BASE else self.controls
        return tuple(name for name in self.own_controls.get(variant, ()) if name in self.scores)

    def control_of(self, variant: str) -> tuple[str, ...]:
        """The edits whose random control a variant is."""
        return tuple(edit for edit, names in self.own_controls.items() if variant in names)

    def metric(self, name: str) -> Metric:
        """The metric of that name; raises `DataError` for one that is not there."""
        found = next((metric for metric in self.metrics if metric.name == name), None)
        if found is None:
            known = ", ".join(metric.name for metric in self.metrics)
            raise DataError(f"{name!r} was not measured here", f"use one of {known}")
        return found

    def numbers(self, variant: str, metric: str) -> Float64[ndarray, " example"]:
        return self.scores[variant].values[metric]

    def mean(self, variant: str, metric: str) -> float:
        """The metric of a variant over the slice."""
        numbers = self.numbers(variant, metric)
        return macro_mean(numbers, self.parts) if self.metric(metric).macro else float(numbers.mean())

    def effect(self, variant: str, metric: str | None = None) -> Effect:
        """The paired change that a variant makes to a metric, the headline where none is named."""
        name = metric or self.metrics[0].name
        if (variant, name) not in self._effects:
            self._effects[variant, name] = self._paired(name, self.numbers(variant, name))
        return self._effects[variant, name]

    def tests(self, metric: str) -> dict[str, McNemar]:
        """McNemar's exact test of every variant; empty where scores are not 0 or 1."""
        return dict(self._tests[metric])

    def adjusted(self, metric: str) -> dict[str, float]:
        """McNemar's p by variant after Holm's correction for all edits and controls: the rerun and the base are none."""
        return holm({name: test.p for name, test in self._tests[metric].items() if name not in (AGAIN, BASE)})

    def permutation_rank(self, variant: str, metric: str) -> PermutationRank | None:
        """Where a variant's change stands among its own random controls; None without any."""
        changes = [self.effect(name, metric).mean for name in self.controls_of(variant)]
        if not changes or not np.isfinite(changes).all():
            return None
        better_low = not self.metric(metric).higher_is_better
        return permutation_rank(self.effect(variant, metric).mean, changes, lower_is_better=better_low)

    def random_effect(self, metric: str) -> Effect | None:
        """The change that random reweighting makes, as on the x axis of the paper's Figure 3; None without controls.

        Controls are averaged example by example: the interval tells the spread over examples, not over draws.
        Of several edits with controls of their own, it is of those of the first.
        """
        first = next(iter(self.own_controls), None)
        names = self.controls if first is None else self.controls_of(first)
        rows = [self.numbers(name, metric) for name in names]
        if not rows or not np.isfinite(rows).all():
            return None
        return self._paired(metric, np.mean(rows, axis=0))

    def _paired(self, metric: str, numbers: Float64[ndarray, " example"]) -> Effect:
        parts = self.parts if self.metric(metric).macro else None
        return paired_effect(self.numbers(BASELINE, metric), numbers, parts=parts)

    def joined(self, other: "Evaluation") -> "Evaluation":
        """This evaluation with further variants of the same slice."""
        return replace(
            self,
            scores={**self.scores, **other.scores},
            aggregates={**self.aggregates, **other.aggregates},
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
            own_controls={**self.own_controls, **other.own_controls},
            shape_controls={**self.shape_controls, **other.shape_controls},
        )

    @cached_property
    def _effects(self) -> dict[tuple[str, str], Effect]:
        """Resampled once: a page asks for these on every run."""
        return {}

    @cached_property
    def _tests(self) -> dict[str, dict[str, McNemar]]:
        found: dict[str, dict[str, McNemar]] = {}
        for metric in self.metrics:
            rows = {name: self.numbers(name, metric.name) for name in self.scores}
            sound = BASELINE in rows and all(np.isin(numbers, (0.0, 1.0)).all() for numbers in rows.values())
            found[metric.name] = (
                {name: mcnemar(rows[BASELINE], rows[name]) for name in self.variants} if sound else {}
            )
        return found


def is_random_control(name: str) -> bool:
    """Whether a variant is named as `random_name` names it."""
    return _RANDOM.fullmatch(name) is not None


def random_name(seed: int, edit: str = "") -> str:
    """The name of the random control of that seed, and of which edit where several have their own."""
    return f"random {seed} of {edit}" if edit else f"random {seed}"


def paired_effect(
    baseline: Float64[ndarray, " example"],
    variant: Float64[ndarray, " example"],
    *,
    parts: Sequence[str] | None = None,
    seed: int = 0,
) -> Effect:
    """Mean difference, its standard error and a seeded 95 % percentile bootstrap interval.

    With `parts`, the names of the examples' parts, all three are of the mean of the parts' means.
    """
    difference = variant - baseline
    rng = np.random.default_rng(seed)
    if parts is not None:
        mean, error = macro_mean(difference, parts), macro_error(difference, parts)
        means = macro_resamples(difference, parts, RESAMPLES, rng)
    else:
        mean, error = float(difference.mean()), float("nan")
        if difference.size > 1:
            error = float(difference.std(ddof=1) / np.sqrt(difference.size))
            means = resampled_means(difference, RESAMPLES, rng)
    if np.isnan(error):
        return Effect(mean, error, error, error)
    low, high = np.quantile(means, (0.025, 0.975))
    return Effect(mean, error, float(low), float(high))


def row_scores(
    loss: Float64[ndarray, " example"], exact: Float64[ndarray, " example"], answers: Sequence[str]
) -> Scores:
    """Scores of prompt-and-answer rows."""
    return Scores({LOSS.name: loss, EXACT.name: exact}, tuple(answers))
