"""The paper's Figures 3 and 4 redrawn, with the user's own runs on the same axes; all in percentage points.

A model is told by a filled or an open marker, a task or a policy by the marker's shape and its label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from viz.style import NEUTRAL, SERIES, as_text, figure, interval_bars, say_empty

OWN = SERIES[2]
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "cross", "x")
_MODELS = (SERIES[0], SERIES[1], SERIES[3], SERIES[4])
_SIDES = ("top center", "bottom center")
_NEAR = 6.0
_HEIGHT = 500


@dataclass(frozen=True)
class OwnRun:
    """A run beside the paper's: any number may be missing, `intervals` is by the name of the number.

    `whose` is the word at its star.
    """

    label: str
    reward: float | None = None
    risk: float | None = None
    gain: float | None = None
    random_gain: float | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    whose: str = "yours"


# eight: a figure takes its columns one by one, named as they are drawn
def signal_against_control(
    models: Sequence[str],
    tasks: Sequence[str],
    random_gains: Sequence[float],
    gains: Sequence[float],
    *,
    title: str,
    policy: str,
    own: Sequence[OwnRun] = (),
    near: bool = False,
) -> go.Figure:
    """Figure 3: a policy's gain (y) against the random control's (x); `near` shows ±6 points of y only."""
    empty = figure(
        title,
        height=_HEIGHT,
        x="gain of the random control over the unedited adapter, points",
        y=f"gain of {as_text(policy)}, points",
    )
    own = [run for run in own if run.gain is not None and run.random_gain is not None]
    if not models and not own:
        return say_empty(empty, "the table has no number to draw")
    _add_models(empty, models, tasks, random_gains, gains, sides=_SIDES)
    _add_own(empty, own, "random_gain", "gain")
    low, high = _reach([*random_gains, *_ends(own, "random_gain")])
    empty.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        name="diagonal: no better than random",
        line={"color": NEUTRAL, "width": 1, "dash": "dash"},
        hoverinfo="skip",
    )
    empty.add_hline(y=0, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    empty.add_vline(x=0, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    empty.update_xaxes(range=[low, high])
    if near:
        empty.update_yaxes(range=[-_NEAR, _NEAR])
    return empty


def reward_against_risk(
    models: Sequence[str],
    policies: Sequence[str],
    risks: Sequence[float],
    rewards: Sequence[float],
    *,
    title: str,
    own: Sequence[OwnRun] = (),
) -> go.Figure:
    """Figure 4: mean change on the aligned tasks (y) against max(0, −change) on the constrained one (x)."""
    empty = figure(
        title,
        height=_HEIGHT,
        x="risk: points lost on the constrained task",
        y="reward: mean change on the aligned tasks, points",
    )
    own = [run for run in own if run.reward is not None and run.risk is not None]
    if not models and not own:
        return say_empty(empty, "the table has no number to draw")
    # most points have no risk at all: the first model's labels stand outside, the second's inside
    _add_models(empty, models, policies, risks, rewards, sides=("middle left", "middle right"), by_model=True)
    _add_own(empty, own, "risk", "reward")
    empty.add_hline(y=0, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    high = max([0.0, *risks, *_ends(own, "risk")])
    empty.update_xaxes(range=[-0.2 * max(high, 1.0), 1.2 * max(high, 1.0)])
    return empty


# seven: a figure takes its columns one by one, named as they are drawn
def _add_models(
    drawn: go.Figure,
    models: Sequence[str],
    labels: Sequence[str],
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    sides: Sequence[str],
    by_model: bool = False,
) -> None:
    """One trace a model; a label stands on the side of its model or, so that neighbours differ, of its kind."""
    kinds = list(dict.fromkeys(labels))
    for order, model in enumerate(dict.fromkeys(models)):
        at = [i for i, name in enumerate(models) if name == model]
        drawn.add_scatter(
            x=[xs[i] for i in at],
            y=[ys[i] for i in at],
            mode="markers+text",
            name=f"{as_text(model)} ({'open' if order % 2 else 'filled'})",
            text=[as_text(labels[i]) for i in at],
            textposition=[sides[(order if by_model else kinds.index(labels[i])) % len(sides)] for i in at],
            marker={
                "size": 15 if order % 2 else 11,
                "color": _MODELS[order % len(_MODELS)],
                "symbol": [SHAPES[kinds.index(labels[i]) % len(SHAPES)] + "-open" * (order % 2) for i in at],
                "line": {"width": 2, "color": _MODELS[order % len(_MODELS)]},
            },
            hovertemplate=f"{as_text(model)}, %{{text}}: x %{{x:+.2f}}, y %{{y:+.2f}}<extra>the paper</extra>",
            cliponaxis=False,
        )


def _add_own(drawn: go.Figure, runs: Sequence[OwnRun], x: str, y: str) -> None:
    """A star a run, with its intervals where it has them."""
    for order, run in enumerate(runs):
        drawn.add_scatter(
            x=[getattr(run, x)],
            y=[getattr(run, y)],
            mode="markers+text",
            name=f"{run.whose}: {as_text(run.label)}",
            text=[run.whose if len(runs) == 1 else f"{run.whose} {order + 1}"],
            textposition="bottom right",
            marker={"size": 16, "symbol": "star", "color": OWN, "line": {"width": 1, "color": NEUTRAL}},
            error_x=_bars(run, x),
            error_y=_bars(run, y),
            hovertemplate=f"{as_text(run.label)}: x %{{x:+.2f}}, y %{{y:+.2f}}<extra>{run.whose}</extra>",
        )


def _bars(run: OwnRun, name: str) -> dict[str, Any]:
    value, ends = getattr(run, name), run.intervals.get(name)
    if ends is None:
        return {"visible": False}
    return interval_bars([value], *([end] for end in ends), thickness=1.5, width=5, color=OWN)


def _ends(runs: Sequence[OwnRun], name: str) -> list[float]:
    """Every number and every end of an interval, for the range of an axis."""
    return [end for run in runs for end in (getattr(run, name), *run.intervals.get(name, ()))]


def _reach(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values and zero, with room for labels."""
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.12 * (high - low or 1.0)
    return low - room, high + room
