"""What is expected of an edit, as one line of a card."""

from dataclasses import replace

from app.editing.expecting import expectation_text
from surgery.edits import Expectation

FOUND = Expectation(-0.02, -0.03, 0.01, 0.005, -0.03, -0.01, -0.05, 128, 8)


def test_the_line_leads_with_held_out_rows_and_names_the_first_order_number_for_what_it_is() -> None:
    first = "first-order, calibration rows -0.0500"
    assert expectation_text(FOUND) == f"expected Δ loss on held-out rows -0.0200 ± 0.0050; {first}"
    noise = replace(FOUND, high=0.001)
    assert expectation_text(noise) == f"expected Δ loss on held-out rows -0.0200 ± 0.0050, within noise; {first}"


def test_what_cannot_be_told_is_said_with_its_reason() -> None:
    none = float("nan")
    few = replace(FOUND, mean=none, low=none, high=none, doubts=("7 examples are too few",))
    assert expectation_text(few) == "Δ loss: first-order, calibration rows -0.0500; 7 examples are too few"
