"""Colours and layout shared by all figures; readable on light and dark, safe for colour blindness.

Text and background are left to the host page, which knows its theme.
"""

from html import escape
from typing import Any

import plotly.graph_objects as go

HELPFUL = "#0f8a8a"
HARMFUL = "#d1495b"
NEUTRAL = "#8a94a6"
AFTER = "#5b6ee1"
SERIES = ("#5b6ee1", "#0f8a8a", "#e0a030", "#d1495b", "#8d5fd3", "#4c9f50", "#c46fa0")
SHARE_SCALE = [[0.0, "#20243f"], [0.25, "#3b4a94"], [0.5, "#3f8fae"], [0.75, "#7fcf9f"], [1.0, "#f6f3b0"]]
GAIN_SCALE: list[tuple[float, str]] = [
    (0.0, "#a8283c"),
    (0.25, "#e08a8f"),
    (0.5, "#e6e8ee"),
    (0.75, "#6fb9bb"),
    (1.0, "#0a6b6e"),
]


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


def as_text(label: str) -> str:
    """A label that may come from a file; plotly reads tags in titles and ticks."""
    return escape(label, quote=False)


def say_empty(empty: go.Figure, reason: str) -> go.Figure:
    """No data gives an empty titled figure with its reason, never an exception."""
    empty.add_annotation(text=reason, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
    empty.update_xaxes(visible=False)
    empty.update_yaxes(visible=False)
    return empty
