"""Colours and layout shared by all figures; readable on light and dark, safe for colour blindness.

Text and background are left to the host page, which knows its theme. `PALETTE` is what a component
that draws by itself is sent of it, so that a colour stands here alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

HELPFUL = "#0f8a8a"
HARMFUL = "#d1495b"
NEUTRAL = "#8a94a6"
BEFORE = "#9aa5b8"
AFTER = "#5b6ee1"
CHOSEN = "#e0702a"
SERIES = ("#5b6ee1", "#0f8a8a", "#e0a030", "#d1495b", "#8d5fd3", "#4c9f50", "#c46fa0")
BY_HAND = ENERGY = SERIES[2]
# of families: none that stands for a standing
CURVES = (AFTER, "#2f9fc4", SERIES[2], "#a5673f", SERIES[4], SERIES[5], SERIES[6])
DASHES = {"solid": [], "dash": [6, 3], "dot": [2, 2], "dashdot": [8, 3, 2, 3]}  # plotly's name, lengths in pixels
# of rankings: those of two halves, then those against all examples
RANKINGS = ((AFTER, "solid"), (SERIES[2], "solid"), (AFTER, "dot"), (SERIES[2], "dot"))
SHARE_SCALE = [[0.0, "#20243f"], [0.25, "#3b4a94"], [0.5, "#3f8fae"], [0.75, "#7fcf9f"], [1.0, "#f6f3b0"]]
GAIN_SCALE: list[tuple[float, str]] = [
    (0.0, "#a8283c"),
    (0.25, "#e08a8f"),
    (0.5, "#e6e8ee"),
    (0.75, "#6fb9bb"),
    (1.0, "#0a6b6e"),
]
GAIN_OCTAVES = 2  # the gain scale's ends: log₂ of the gain, either way


@dataclass(frozen=True)
class Standing:
    """How a component is drawn that raising hurts, helps or does neither for sure.

    `striped` is the mark that needs no colour.
    """

    code: int
    name: str
    words: str
    colour: str
    opacity: float = 1.0
    striped: bool = False


STANDINGS = (
    Standing(-1, "helps", "helps", HELPFUL),
    Standing(0, "neutral", "neutral within noise", NEUTRAL, opacity=0.55),
    Standing(1, "hurts", "hurts", HARMFUL, striped=True),
)
UNMEASURED = Standing(2, "none", "not measured", AFTER)
PALETTE: dict[str, Any] = {
    "standings": [asdict(standing) for standing in STANDINGS],
    "unmeasured": asdict(UNMEASURED),
    "neutral": NEUTRAL,
    "before": BEFORE,
    "after": AFTER,
    "byHand": BY_HAND,
    "energy": ENERGY,
    "chosen": CHOSEN,
    "pair": [AFTER, HELPFUL],
    "curves": list(CURVES),
    "dashes": list(DASHES.values()),
    "rankings": [{"colour": colour, "dash": DASHES[dash]} for colour, dash in RANKINGS],
    "shares": [colour for _, colour in SHARE_SCALE],
    "gains": [colour for _, colour in GAIN_SCALE],
    "gainOctaves": GAIN_OCTAVES,
    # a figure in a file is dark on white, whatever the page's theme is
    "print": {"text": "#1c2333", "line": "#dfe3ec", "accent": "#4f5fd6", "back": "#ffffff", "soft": NEUTRAL},
}


def figure(title: str, *, height: int, x: str = "", y: str = "", **layout: Any) -> go.Figure:
    """An empty titled figure with the common margins; `x` and `y` are axis titles with units."""
    empty = go.Figure()
    empty.update_layout(
        title={"text": as_text(title), "font": {"size": 15}, "x": 0.0, "xanchor": "left"},
        height=height,
        margin={"l": 8, "r": 8, "t": 46, "b": 8},
        xaxis={"title": {"text": x}, "automargin": True, "zeroline": False},
        yaxis={"title": {"text": y}, "automargin": True, "zeroline": False},
        legend={"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0.0, "xanchor": "left"},
        hoverlabel={"namelength": -1},
        **layout,
    )
    return empty


def interval_bars(
    middle: Sequence[float], low: Sequence[float], high: Sequence[float], **look: Any
) -> dict[str, Any]:
    """plotly's error bars from `low` to `high` around the points of a trace; `look` is their thickness, width or colour."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [top - mean for top, mean in zip(high, middle, strict=True)],
        "arrayminus": [mean - bottom for bottom, mean in zip(low, middle, strict=True)],
        **look,
    }


def as_text(label: str) -> str:
    """A label that may come from a file; plotly reads tags in titles and ticks."""
    return escape(label, quote=False)


def say_empty(empty: go.Figure, reason: str) -> go.Figure:
    """No data gives an empty titled figure with its reason, never an exception."""
    empty.add_annotation(text=reason, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
    empty.update_xaxes(visible=False)
    empty.update_yaxes(visible=False)
    return empty
