"""What is expected of an edit on held-out rows, in words and for the board."""

import math
from typing import Any

from surgery.edits import Expectation


def expectation_text(found: Expectation) -> str:
    """One line: what is expected of rows that did not choose the edit, and what the calibration rows promise."""
    first = f"first-order, calibration rows {found.first_order:+.4f}"
    if not math.isfinite(found.mean):
        return f"Δ loss: {first}; {found.doubts[0]}" if found.doubts else f"Δ loss: {first}"
    noise = ", within noise" if found.low <= 0 <= found.high else ""
    return f"expected Δ loss on held-out rows {found.mean:+.4f} ± {found.standard_error:.4f}{noise}; {first}"


def expectation_record(found: Expectation | None) -> dict[str, Any] | None:
    """What is expected on held-out rows, as the component reads it; JSON has no word for what is no number."""
    if found is None:
        return None
    numbers = {name: getattr(found, name) for name in ("mean", "low", "high", "linear", "curvature")}
    told = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    error = found.standard_error if math.isfinite(found.standard_error) else None
    return {**told, "error": error, "folds": found.folds, "doubts": list(found.doubts)}
