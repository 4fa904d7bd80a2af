"""The margins of non-inferiority on the Evaluate page: named before the run, with what the slice can show of them."""

import numpy as np
import streamlit as st

from app.evaluation.forecast import changed_share
from app.frame import plain
from surgery.data import EvaluationPlan, Margins
from surgery.evaluation import (
    BASELINE,
    INFERIOR,
    LOSS,
    NOT_INFERIOR,
    Evaluation,
    comparison,
    examples_for_share,
    margin_text,
    mean_power,
    share_power,
)
from surgery.experiments import EDIT

_LIKELY = 0.1  # share of answers that change, where no run has told it
_MARKS = {NOT_INFERIOR: ":material/check_circle:", INFERIOR: ":material/cancel:"}


def ask_for_margins(present: EvaluationPlan) -> Margins | None:
    """The margins that are named in the form; None where no claim is to be tested."""
    named = present.margins
    usual = Margins()
    in_points, in_nats = (
        (named and named.points) or usual.points or 0.0,
        (named and named.nats) or usual.nats or 0.0,
    )
    cells = st.columns([2.2, 1.3, 1.3, 2.4], vertical_alignment="bottom")
    claimed = cells[0].checkbox(
        "Is it not inferior?",
        named is not None,
        key="evaluate-margin",
        persist_state="session",
        help="Tests whether the edit is worse than the unedited adapter by no more than a margin, which has to be named "
        "before the run: for edits that are to save something, such as a smaller file.",
    )
    if not claimed:
        return None
    points = cells[1].number_input(
        "Margin, points",
        min(0.1, in_points),  # a recipe may name any
        max(50.0, in_points),
        in_points,
        0.1,
        key="evaluate-margin-points",
        persist_state="session",
        help="Of right answers: one point is one example in a hundred.",
    )
    nats = cells[2].number_input(
        "Margin, nats",
        min(0.0001, in_nats),
        max(10.0, in_nats),
        in_nats,
        0.001,
        "%.4f",
        key="evaluate-margin-nats",
        persist_state="session",
        help="Of the loss, per answer token or label.",
    )
    return Margins(float(points), float(nats))


def margin_power_text(newest: Evaluation | None, examples: int, margins: Margins | None) -> str:
    """How likely the slice shows an edit that is as good as the adapter to be not inferior: told before the run.

    newest: the last proof of the edit, whose changes are taken as typical; None where there is none.
    """
    said = []
    if margins is not None and margins.points is not None:
        changed = changed_share(newest)
        share, known = (_LIKELY, "if one answer in ten changes") if changed is None else (changed, "")
        known = known or f"if {share:.1%} of the answers change, as in the last run"
        margin = margins.points / 100
        power = share_power(margin, share, max(2, examples))
        needed = examples_for_share(margin, share)
        more = f"; {needed:,} examples show it four times in five" if power < 0.8 else ""
        said.append(
            f"An edit that is as good as the adapter is shown to be not inferior by {margins.points:g} point{'s' if margins.points != 1 else ''} of right "
            f"answers {_times(power)}, {known}{more}."
        )
    deviation = _deviation(newest)
    if margins is not None and margins.nats is not None and deviation is not None:
        power = mean_power(margins.nats, deviation, max(2, examples))
        said.append(f"By {margins.nats:g} nats of the loss {_times(power)}, if it scatters as in the last run.")
    return plain(" ".join(said))


def say_margins(evaluation: Evaluation) -> None:
    """The verdict on the edit of each metric with a margin."""
    for metric in evaluation.metrics if EDIT in evaluation.scores else ():
        found = comparison(evaluation, EDIT, metric.name)
        if found is not None:
            icon = _MARKS.get(found.verdict, ":material/help:")
            st.info(plain(f"{metric.title}: {margin_text(metric, found)}"), icon=icon)


def _times(power: float) -> str:
    return f"{100 * power:.0f} times in 100"


def _deviation(newest: Evaluation | None) -> float | None:
    """The spread of the edit's changes of the loss in its last proof, in nats."""
    if newest is None or EDIT not in newest.scores or LOSS.name not in newest.scores[EDIT].values:
        return None
    change = newest.scores[EDIT].loss - newest.scores[BASELINE].loss
    spread = float(change.std(ddof=1)) if change.size > 1 else float("nan")
    return spread if np.isfinite(spread) else None
