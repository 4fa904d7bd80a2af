"""Scale or shape: which share of an edit's effect a control explains that has the edit's size, or its shape, alone.

The share is effect(control)/effect(edit), both paired with the unedited adapter on the same examples, with Fieller's
95 % interval of a ratio of two correlated means (Fieller 1954). Where the edit's own effect is within noise the
interval has no ends, and no share is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.stats import t as student

from surgery.evaluation.evaluation import BASELINE, Effect, Evaluation
from surgery.evaluation.metric import Metric
from surgery.evaluation.parts import macro_error, macro_mean

SAME_ENERGY = "scale, same functional energy"
SAME_NORM = "scale, same norm"  # the Frobenius norm: the scale control of earlier versions, under their name
SAME_SUM = "scale, same nuclear norm"
ONE_SCALE = "one scale for all modules"
SHUFFLED_SCALES = "scales shuffled"
SHAPE_ONLY = "shape only"
HEAD_ONLY, TAIL_ONLY = "head only", "tail only"
SHAPE_CONTROLS = (
    SAME_ENERGY,
    SAME_NORM,
    SAME_SUM,
    ONE_SCALE,
    SHUFFLED_SCALES,
    SHAPE_ONLY,
    HEAD_ONLY,
    TAIL_ONLY,
)
TOLD = (SAME_ENERGY, SHAPE_ONLY)  # whose shares are told
_LEVEL = 0.95
WITHIN_NOISE = "the edit's own change is within noise"


@dataclass(frozen=True)
class ExplainedShare:
    """Which share of an edit's effect a control has, with its 95 % interval; NaN where `why` says why it is not told."""

    share: float
    low: float
    high: float
    why: str = ""


Shares = Mapping[str, Mapping[str, ExplainedShare]]


def is_shape_control(name: str) -> bool:
    """Whether a variant is named as a control of scale or shape is, with or without whose it is."""
    return any(name == control or name.startswith(f"{control} of ") for control in SHAPE_CONTROLS)


def explained_share(
    edit: Float64[ndarray, " example"],
    control: Float64[ndarray, " example"],
    *,
    parts: Sequence[str] | None = None,
) -> ExplainedShare:
    """effect(control)/effect(edit) with Fieller's 95 % interval.

    edit: change of every example by the edit.
    control: the same of the control.
    parts: names of the examples' parts, where their means count the same.
    """

    def mean(numbers: ndarray) -> float:
        return float(numbers.mean()) if parts is None else macro_mean(numbers, parts)

    def variance(numbers: ndarray) -> float:
        if parts is not None:
            return macro_error(numbers, parts) ** 2
        return float(numbers.var(ddof=1) / numbers.size) if numbers.size > 1 else float("nan")

    freedom = edit.size - (1 if parts is None else len(set(parts)))
    if freedom < 1 or not np.isfinite([edit, control]).all():
        return _untold("the examples are too few, or some have no number")
    whole, part = mean(edit), mean(control)
    covariance = (variance(edit + control) - variance(edit - control)) / 4
    squared = float(student.ppf((1 + _LEVEL) / 2, freedom)) ** 2
    # the ratios ρ for which part − ρ·whole is no further from 0 than its own error allows: a parabola below 0
    a = whole**2 - squared * variance(edit)
    b = part * whole - squared * covariance
    c = part**2 - squared * variance(control)
    if not a > 0:
        return _untold(WITHIN_NOISE)
    half = max(b * b - a * c, 0.0) ** 0.5
    return ExplainedShare(part / whole, (b - half) / a, (b + half) / a)


def shares_of(evaluation: Evaluation, edit: str) -> dict[str, dict[str, ExplainedShare]]:
    """By control and metric, the share of an edit's effect that Scalar-E and the shape alone explain."""
    found: dict[str, dict[str, ExplainedShare]] = {}
    for control, name in evaluation.shape_controls.get(edit, {}).items():
        if control in TOLD and {edit, name} <= set(evaluation.scores):
            found[control] = {metric.name: _share(evaluation, edit, name, metric) for metric in evaluation.metrics}
    return found


def _share(evaluation: Evaluation, edit: str, control: str, metric: Metric) -> ExplainedShare:
    if not evaluation.effect(edit, metric.name).certain:
        return _untold(WITHIN_NOISE)
    before = evaluation.numbers(BASELINE, metric.name)
    changes = (evaluation.numbers(name, metric.name) - before for name in (edit, control))
    return explained_share(*changes, parts=evaluation.parts if metric.macro else None)


def share_text(
    metric: Metric, effects: Mapping[str, Effect], shares: Mapping[str, ExplainedShare], edit: Effect
) -> str:
    """One sentence on a metric: what Scalar-E explains of the edit's change, and what its shape does alone.

    effects: the changes of the controls, by control.
    shares: of the edit's change, by control.
    edit: the edit's own change.
    """
    scale = 100 if metric.binary else 1
    said = []
    if (energy := shares.get(SAME_ENERGY)) is not None:
        said.append(
            f"which share a plain scale explains is not told, because {energy.why}"
            if energy.why
            else f"a plain scale at the same functional energy explains {_percent(energy)} of the edit's "
            f"{_number(edit.mean * scale, metric)}"
        )
    if (shape := shares.get(SHAPE_ONLY)) is not None:
        effect = effects[SHAPE_ONLY]
        alone = f"{_number(effect.mean * scale, metric)} ± {_number(effect.standard_error * scale, metric, '')}"
        noise = "" if effect.certain else ", within noise"
        said.append(
            f"its shape alone, at the old energy, makes {alone}{noise}"
            + ("" if shape.why else f", {_percent(shape)} of it")
        )
    return f"{metric.title}: {'; '.join(said)}." if said else ""


def parse_shares(record: Mapping[str, Any]) -> dict[str, dict[str, ExplainedShare]]:
    """Shares as `shares_record` wrote them."""
    return {
        control: {metric: _parse_share(share) for metric, share in by_metric.items()}
        for control, by_metric in record.items()
    }


def _parse_share(record: Mapping[str, Any]) -> ExplainedShare:
    share, low, high = (
        float("nan") if record[key] is None else float(record[key]) for key in ("share", "low", "high")
    )
    return ExplainedShare(share, low, high, str(record["why"]))


def shares_record(shares: Shares) -> dict[str, Any]:
    """Shares as plain values, NaN left in them."""
    return {
        control: {name: asdict(share) for name, share in by_metric.items()}
        for control, by_metric in shares.items()
    }


def _untold(why: str) -> ExplainedShare:
    none = float("nan")
    return ExplainedShare(none, none, none, why)


def _percent(share: ExplainedShare) -> str:
    return f"{100 * share.share:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _number(value: float, metric: Metric, sign: str = "+") -> str:
    digits = ".1f" if metric.binary else ".4f"
    return f"{value:{sign}{digits}}" + (" points" if metric.binary else "")
