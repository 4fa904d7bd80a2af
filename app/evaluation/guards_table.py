"""A proof with guards as a figure and a table, without Streamlit: the same on the page and in a report."""

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

import viz
from app.evaluation.findings import level
from surgery.evaluation import AGAIN, BASE, Effect, TaskOutcome
from surgery.experiments import EDIT, is_reserved


def guards_figure(reward: TaskOutcome, guards: Sequence[TaskOutcome]) -> go.Figure:
    """What every variant gains by one metric of the own task against what it costs by every metric of the guards.

    The base without the adapter would dwarf them, and is left out.
    """
    return viz.own_against_guards(
        {name: _band(reward.gain(name)) for name in reward.changes if name not in (AGAIN, BASE)},
        {name: _kind(name) for name in reward.changes},
        [
            viz.GuardPanel(
                f"{each.question}: {each.metric.title}",
                each.metric.unit,
                {name: _band(each.cost(name)) for name in each.changes},
            )
            for each in guards
        ],
        title=f"{reward.question}: {reward.metric.title}",
        unit=reward.metric.unit,
    )


def rewards(own: Sequence[TaskOutcome]) -> list[TaskOutcome]:
    """The metrics of the own task, the usual reward first: right answers, where they were asked for."""
    return sorted(own, key=lambda each: not each.metric.binary)


def guards_table(found: Sequence[TaskOutcome]) -> pd.DataFrame:
    """A row for each variant of each question and metric: gains, above 0 where it is better, and their intervals."""
    rows = []
    for each in found:
        digits = 1 if each.metric.binary else each.metric.digits
        for name in each.changes:
            gain = each.gain(name)
            rows.append(
                {
                    "question": each.question,
                    "asked as": "guard" if each.guard else "own task",
                    "metric": each.metric.title,
                    "examples": each.examples,
                    "unedited": level(each.mean, each.metric),
                    "variant": name,
                    "gain": f"{gain.mean:+.{digits}f} ± {gain.standard_error:.{digits}f}",
                    "95 % of the gain": f"{gain.low:+.{digits}f} … {gain.high:+.{digits}f}",
                    "verdict": _verdict(gain),
                }
            )
    return pd.DataFrame(rows)


def _verdict(gain: Effect) -> str:
    if not np.isfinite(gain.mean):
        return "unknown"
    return "within noise" if not gain.certain else "better" if gain.mean > 0 else "worse"


def _band(effect: Effect) -> tuple[float, float, float]:
    mean, _, low, high = astuple(effect)
    return mean, low, high


def _kind(name: str) -> str:
    if name == EDIT:
        return "edit"
    return "control" if is_reserved(name) else "other edit"
