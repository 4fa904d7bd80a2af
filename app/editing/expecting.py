"""What is expected of an edit on held-out rows, in words."""

import math

from surgery.edits import Expectation


def expectation_text(found: Expectation) -> str:
    """One line: what is expected of rows that did not choose the edit, and what the calibration rows promise."""
    first = f"first-order, calibration rows {found.first_order:+.4f}"
    if not math.isfinite(found.mean):
        return f"Δ loss: {first}; {found.doubts[0]}" if found.doubts else f"Δ loss: {first}"
    noise = ", within noise" if found.low <= 0 <= found.high else ""
    return f"expected Δ loss on held-out rows {found.mean:+.4f} ± {found.standard_error:.4f}{noise}; {first}"
