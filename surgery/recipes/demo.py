"""The base and the slices that belong to a demo."""

from surgery.data import CalibrationPlan, Encoding, EvaluationPlan
from surgery.files import DEMO_BASE, demo_slice
from surgery.model import BaseChoice

# the demos were trained with the paper's space before the answer
_ENCODING = Encoding(separator=True)


def demo_plans(source: str) -> tuple[BaseChoice, CalibrationPlan, EvaluationPlan]:
    """The base and the slices that belong to `demo:NAME`."""
    return (
        BaseChoice(DEMO_BASE),
        CalibrationPlan(demo_slice(source, "calibration"), encoding=_ENCODING),
        EvaluationPlan(demo_slice(source, "test"), encoding=_ENCODING),
    )
