"""The base and the slices that belong to a demo."""

from surgery.data import CalibrationPlan, EvaluationPlan
from surgery.files import DEMO_BASE, demo_slice
from surgery.model import BaseChoice


def demo_plans(source: str) -> tuple[BaseChoice, CalibrationPlan, EvaluationPlan]:
    """The base and the slices that belong to `demo:NAME`."""
    return (
        BaseChoice(DEMO_BASE),
        CalibrationPlan(demo_slice(source, "calibration")),
        EvaluationPlan(demo_slice(source, "test")),
    )
