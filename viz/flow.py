"""Right answers as they flow over three models, an alluvial diagram: one stream for all that goes the same way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64
from numpy import ndarray

from viz.style import AFTER, CHOSEN, HARMFUL, HELPFUL, NEUTRAL, as_text, figure, say_empty

Part = Mapping[str, Any]  # as plotly takes it
_STEPS = 24  # of a ribbon between two columns
_APART = 0.08  # between right and wrong, of the height of all
_BAR = 0.018  # half the width of a column
_LABELS = 2.14  # where the labels stand, in columns
_LINE = 0.068  # least distance between two labels


@dataclass(frozen=True)
class Stream:
    """Examples that go one way: `path` has a `1` for each column in which they are right, and a `0` for wrong."""

    path: str
    words: str
    count: int


def outcome_flow(streams: Sequence[Stream], columns: Sequence[str], *, title: str) -> go.Figure:
    """The streams over the columns, right above wrong; the marks at their ends carry their paths, to be clicked.

    Green is what the last column gets right that the one before it got wrong, red the other way round. Blue is what
    was won before and kept, orange what was lost before and stays lost, grey what never changed.
    """
    drawn = figure(title, height=430)
    present = sorted((stream for stream in streams if stream.count), key=lambda stream: stream.path, reverse=True)
    total = sum(stream.count for stream in present)
    if not total:
        return say_empty(drawn, "no example was answered by all three")
    tops = [_tops(present, column, total) for column in range(len(columns))]
    middles = {stream.path: tops[-1][stream.path] + stream.count / total / 2 for stream in present}
    order = sorted(present, key=lambda stream: middles[stream.path])
    places = _spread([middles[stream.path] for stream in order], 1 + _APART)
    for stream in present:
        drawn.add_scatter(**_ribbon(stream, [top[stream.path] for top in tops], total))
    drawn.add_scatter(**_marks(order, places))
    bars = list(_bars(len(columns), present, total))
    labels = [_label(stream, middles[stream.path], place) for stream, place in zip(order, places, strict=True)]
    # at once: plotly checks all of them again at each one that is added
    drawn.update_layout(
        shapes=[*(line for _, line in labels), *(bar for bar, _ in bars)],
        annotations=[
            *_headings(columns, present, total),
            *(word for _, word in bars if word is not None),
            *(words for words, _ in labels),
        ],
    )
    drawn.update_xaxes(visible=False, range=[-0.3, _LABELS + 1.4], fixedrange=True)
    drawn.update_yaxes(visible=False, range=[1.04 + _APART, -0.12], fixedrange=True)
    drawn.update_layout(clickmode="event+select", dragmode=False, hovermode="closest")
    return drawn


def _tops(streams: Sequence[Stream], column: int, total: int) -> dict[str, float]:
    """Where each stream begins in a column, from above: right ones first, then those that were alike before."""
    found, top = {}, 0.0
    for right in "10":
        inside = [stream for stream in streams if stream.path[column] == right]
        for stream in sorted(inside, key=lambda each: _beside(each.path, column), reverse=True):
            found[stream.path] = top
            top += stream.count / total
        top = max(top, _share(streams, column, total)) + _APART if right == "1" else top
    return found


def _beside(path: str, column: int) -> str:
    """The path as it is seen from a column: what comes next decides, so that ribbons seldom cross."""
    return path[column + 1 :] + path[:column][::-1] if column else path[1:]


def _share(streams: Sequence[Stream], column: int, total: int) -> float:
    return sum(stream.count for stream in streams if stream.path[column] == "1") / total


def _ribbon(stream: Stream, tops: Sequence[float], total: int) -> Part:
    """One closed shape through all columns; a trace of plotly's."""
    edges = [_curve(column, *tops[column : column + 2]) for column in range(len(tops) - 1)]
    x, y = (np.concatenate(part) for part in zip(*edges, strict=True))
    colour, opacity = _ink(stream.path)
    return {
        "x": [*x, *x[::-1]],
        "y": [*y, *(y[::-1] + stream.count / total)],
        "mode": "lines",
        "fill": "toself",
        "fillcolor": colour,
        "opacity": opacity,
        "line": {"width": 0.5, "color": colour},
        "hoveron": "fills",
        "hoverinfo": "text",
        "text": f"{as_text(stream.words)}: {stream.count} of {total}",
        "showlegend": False,
    }


def _curve(
    column: int, first: float, second: float
) -> tuple[Float64[ndarray, " step"], Float64[ndarray, " step"]]:
    way = np.linspace(0, 1, _STEPS)
    return column + way, first + (second - first) * way**2 * (3 - 2 * way)


def _ink(path: str) -> tuple[str, float]:
    if path[-1] != path[-2]:
        return (HELPFUL if path[-1] == "1" else HARMFUL), 0.85
    if path[-1] != path[0]:
        return (AFTER if path[-1] == "1" else CHOSEN), 0.65
    return NEUTRAL, 0.4 if path[0] == "1" else 0.2


def _headings(columns: Sequence[str], streams: Sequence[Stream], total: int) -> Iterator[Part]:
    """What stands over each column."""
    for column, name in enumerate(columns):
        right = sum(stream.count for stream in streams if stream.path[column] == "1")
        said = f"<b>{as_text(name)}</b>, {right / total:.1%}<br>{right} right, {total - right} wrong"
        yield {"x": column, "y": -0.02, "yanchor": "bottom", "showarrow": False, "text": said}


def _bars(columns: int, streams: Sequence[Stream], total: int) -> Iterator[tuple[Part, Part | None]]:
    """The bar of what is right and of what is wrong in each column, and its word where no stream is in the way."""
    for column in range(columns):
        share = _share(streams, column, total)
        for word, size, top in (("right", share, 0.0), ("wrong", 1 - share, share + _APART)):
            if size <= 0:
                continue
            bar = {
                "type": "rect",
                "x0": column - _BAR,
                "x1": column + _BAR,
                "y0": top,
                "y1": top + size,
                "line": {"width": 0},
                "fillcolor": NEUTRAL,
            }
            beside = {"x": -2 * _BAR, "y": top + size / 2, "xanchor": "right", "showarrow": False, "text": word}
            yield bar, None if column else beside


def _label(stream: Stream, middle: float, place: float) -> tuple[Part, Part]:
    """The words of a stream and the thin line that joins them to its end."""
    # beside the marks, not of them: those that are not selected would fade
    words = {
        "x": _LABELS,
        "y": place,
        "xshift": 14,
        "xanchor": "left",
        "showarrow": False,
        "text": f"<b>{stream.count}</b>  {as_text(stream.words)}",
    }
    line = {
        "type": "line",
        "x0": len(stream.path) - 1 + _BAR,
        "x1": _LABELS,
        "y0": middle,
        "y1": place,
        "line": {"width": 1, "color": NEUTRAL},
        "layer": "below",
    }
    return words, line


def _marks(order: Sequence[Stream], places: Sequence[float]) -> Part:
    """What is clicked: a trace of plotly's with one mark for each stream."""
    return {
        "x": [_LABELS] * len(order),
        "y": list(places),
        "mode": "markers",
        "marker": {"size": 15, "color": [_ink(stream.path)[0] for stream in order], "symbol": "circle"},
        "customdata": [stream.path for stream in order],
        "hovertemplate": "click for the answers<extra></extra>",
        # what is not selected keeps its colour: the choice is told below the figure
        "unselected": {"marker": {"opacity": 1}},
        "selected": {"marker": {"size": 20}},
        "showlegend": False,
    }


def _spread(wanted: Sequence[float], height: float) -> list[float]:
    """Places in the order of `wanted`, at least a line apart and within the height."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + _LINE) if places else place)
    for at in range(len(places) - 1, -1, -1):
        most = height if at == len(places) - 1 else places[at + 1] - _LINE
        places[at] = min(places[at], most)
    return places
