"""The dose–response curve of an edit: its strength against measured loss and answers, a plain scale at every dose.

The doses are named before anything is measured, the zero dose among them, and at each the scale control has the very
size that the edit has there (follow-up to the paper, TTtianTT/peft-sft-lab, which recommends it in place of a gradient).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from surgery.edits import Edit, EditPlan
from surgery.evaluation import BASELINE, Effect, Evaluation, Marking, Metric, evaluate
from surgery.experiments.control_edits import shape_controls
from surgery.experiments.tuning import TuningSetup
from surgery.model import Variant
from surgery.progress import SILENT, Control

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class DosePoint:
    """One dose: paired changes by metric of the edit at that strength, and of the plain scale of its size there."""

    dose: float
    edit: Mapping[str, Effect]
    scale: Mapping[str, Effect]


@dataclass(frozen=True)
class DoseCurve:
    """Doses in rising order; `control` names what the plain scale has in common with the edit."""

    points: tuple[DosePoint, ...]
    metrics: tuple[Metric, ...]
    control: str
    examples: int


def dose_curve(
    setup: TuningSetup, plan: EditPlan, doses: Sequence[float] = DOSES, *, control: Control = SILENT
) -> DoseCurve:
    """The curve of a plan on the rows of the setup: losses, and greedy answers where the model writes any.

    setup: the adapter in its running base model, its sensitivity and the rows to measure on.
    plan: the edit; its own strength plays no part.
    doses: strengths λ; 0 is the unedited adapter, which is scored anyway.
    control: hears of examples over all doses.

    Raises `PolicyError` for what the plan or a dose refuses, before the model runs, and `Cancelled`.
    """
    doses = sorted(set(doses))
    edits = {dose: setup.apply(replace(plan, strength=dose)) for dose in doses if dose}
    named, scaled = {}, {}
    for dose, edit in edits.items():
        ((named[dose], scaled[dose]),) = shape_controls(
            edit, setup.live.spectra, setup.sensitivity, shape=False
        ).items()
    variants: dict[str, Variant] = _variants(edits, "edit") | _variants(scaled, "scale")
    evaluation = evaluate(
        setup.live, setup.slice_, variants, batch_size=setup.batch_size, marking=Marking(), control=control
    )
    points = tuple(
        DosePoint(dose, _effects(evaluation, _name("edit", dose)), _effects(evaluation, _name("scale", dose)))
        for dose in doses
    )
    same = next(iter(named.values()), "")
    return DoseCurve(points, evaluation.metrics, same, len(evaluation.samples))


def _variants(edits: Mapping[float, Edit], kind: str) -> dict[str, Variant]:
    return {_name(kind, dose): edit.sigma_after for dose, edit in edits.items()}


def _name(kind: str, dose: float) -> str:
    return f"{kind} at {dose!r}" if dose else BASELINE


def _effects(evaluation: Evaluation, name: str) -> dict[str, Effect]:
    """By metric; of the zero dose exactly zero."""
    return {metric.name: evaluation.effect(name, metric.name) for metric in evaluation.metrics}
