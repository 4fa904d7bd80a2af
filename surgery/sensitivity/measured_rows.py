"""The rows that a measurement stands on, read again from their source and known by their keys."""

from surgery.data import CalibrationPlan, Row, planned_rows, rows_digest
from surgery.sensitivity.sensitivity import Sensitivity


def measured_rows(sensitivity: Sensitivity, plan: CalibrationPlan) -> tuple[Row | None, ...]:
    """The row of every example, in the order of the measurement; None for one that the source no longer has.

    sensitivity: the measurement.
    plan: of its slice.

    Files of earlier versions lack keys: their rows are those of the plan where the source has not changed and nothing
    was left out, and none otherwise. Raises `DataError` for a source that cannot be read.
    """
    slice_ = planned_rows(plan)
    if sensitivity.keys:
        known = {row.key: row for row in (*slice_.spare, *slice_.rows)}
        return tuple(known.get(keys[0]) for keys in sensitivity.keys[: sensitivity.examples])
    if sensitivity.rows != rows_digest(slice_.rows) or sensitivity.left_out:
        return (None,) * sensitivity.examples
    return tuple(slice_.rows[: sensitivity.examples])
