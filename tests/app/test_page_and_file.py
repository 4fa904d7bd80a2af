"""A figure that the page paints and the file that it offers show the same numbers in the same colours.

The page's scripts run in Node, and what they paint is compared with the traces of the HTML file. A scale
of the page is not known here, so a value and the height that it is painted at have to lie on one line.
"""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.colors import hex_to_rgb, sample_colorscale

from app import spectra as spectra_board
from app.components import script_of
from app.geometry.choice import Choice as MapChoice
from app.geometry.files import figure_of
from app.spectra.choice import Choice
from app.spectra.files import _figure
from app.spectra.numbers import numbers_of
from app.state.workspace import Workspace
from tests.app.conftest import D0, O0, O1, SIGMA, workspace_of
from tests.app.geometry.conftest import shown
from tests.app.geometry.test_page import WITH_ZERO
from tests.helpers.painting import ROOT, node, painted
from tests.helpers.policies import measured
from viz.style import HARMFUL, HELPFUL, NEUTRAL, STANDINGS, UNMEASURED

RNG = np.random.default_rng(7)
# one module hurts, helps and does neither; D1 is not measured
MEANS = {O0: [0.5, -0.4, 0.001, 0.3], D0: [-0.6, 0.2], "model.layers.0.self_attn.q_proj": [0.002, 0.1, -0.3]}
MEASURED = replace(
    workspace_of(SIGMA, examples=40),
    sensitivity=measured(
        {name: np.array(mean) + RNG.normal(0, 0.05, (40, len(mean))) for name, mean in MEANS.items()}
        | {O1: RNG.normal(0, 0.05, (40, 4))}
    ),
)
UNMEASURED_ = replace(MEASURED, sensitivity=None)
LEAST = 0.61  # px
BAR_COLOURS = {standing.colour for standing in (*STANDINGS, UNMEASURED)}

Call = dict[str, Any]


def both(workspace: Workspace, **choice: Any) -> tuple[list[Call], go.Figure]:
    """What the page paints of a view, and the figure of its HTML file."""
    numbers = numbers_of(workspace.spectra, workspace.sensitivity)
    chosen = Choice(O0, **choice)
    data = json.loads(json.dumps(spectra_board._data(workspace, numbers)))
    words = {
        name: getattr(chosen, name) for name in ("view", "module", "show", "scale", "range", "measure", "family")
    }
    return painted(chosen.view, data, choice=words), _figure(chosen, numbers)


def bars(calls: list[Call]) -> list[Call]:
    """The bars by standing that were painted, without the squares of a legend."""
    found = [call for call in calls if call["kind"] == "rect" and call["fill"] in BAR_COLOURS]
    return [call for call in found if (call["width"], call["height"]) != (10, 10)]


def on_one_line(values: Any, heights: Any) -> None:
    """Painted upwards in proportion to the values, which are not all alike."""
    values, heights = np.array(values, dtype=float), np.array(heights, dtype=float)
    slope, start = np.polyfit(values, heights, 1)
    np.testing.assert_allclose(start + slope * values, heights, atol=1e-3)
    assert slope < 0  # y grows downwards


def bars_on_one_line(values: list[float], calls: list[Call]) -> None:
    """The free ends of bars, but of those that are painted a little higher than they are to be seen at all."""
    ends = [
        (value, call["y"] if value >= 0 else call["y"] + call["height"])
        for value, call in zip(values, calls, strict=True)
        if call["height"] > LEAST
    ]
    if len(ends) > 2:
        on_one_line(*zip(*ends, strict=True))


def component_bars(figure: go.Figure, row: int) -> list[tuple[float, str, float]]:
    """(value, colour, opacity) of each component in a row of panels."""
    axis = "y" if row == 1 else f"y{row + 1}"
    found = {
        int(x): (float(y), trace.marker.color, trace.marker.opacity)
        for trace in figure.data
        if trace.type == "bar" and (trace.yaxis or "y") == axis
        for x, y in zip(trace.x, trace.y, strict=True)
    }
    return [found[k] for k in sorted(found)]


@pytest.mark.parametrize("workspace", [MEASURED, UNMEASURED_], ids=["measured", "unmeasured"])
def test_one_module_is_the_same_on_the_page_and_in_the_file(workspace: Workspace) -> None:
    calls, figure = both(workspace, view="one", scale="linear")
    rank = len(SIGMA[O0])
    panels = [1, 2, 4] if workspace is MEASURED else [1]  # of agreement the page shows dots
    drawn = bars(calls)
    assert len(drawn) == rank * len(panels)
    for n, row in enumerate(panels):
        here, there = drawn[n * rank : (n + 1) * rank], component_bars(figure, row)
        values = [value for value, _, _ in there]
        bars_on_one_line(values, here)
        assert [(call["fill"], call["alpha"]) for call in here] == [(colour, alpha) for _, colour, alpha in there]
    (energy,) = [trace for trace in figure.data if trace.name == "cumulative energy, %"]
    line = next(call for call in calls if call["kind"] == "path" and call["stroke"] == energy.line.color)
    on_one_line(energy.y, [y for _, y in line["points"]])
    if workspace is MEASURED:
        dots = [call for call in calls if call["kind"] == "dot" and call["fill"] == "text"]
        on_one_line([value for value, _, _ in component_bars(figure, 3)], [dot["y"] for dot in dots])


@pytest.mark.parametrize("show", ["sigma", "mean", "magnitude"])
def test_every_component_is_the_same_on_the_page_and_in_the_file(show: str) -> None:
    calls, figure = both(MEASURED, show=show, scale="linear")
    order = {f"{name}, component {k}": (at, k) for at, name in enumerate(SIGMA) for k in range(len(SIGMA[name]))}
    there = {
        order[label]: (float(y), trace.marker.color, trace.marker.opacity, trace.yaxis)
        for trace in figure.data
        for label, y in zip(trace.customdata, trace.y, strict=True)
        if np.isfinite(y) and y != 0
    }
    expected, drawn = [there[at] for at in sorted(there)], bars(calls)
    assert [(call["fill"], call["alpha"]) for call in drawn] == [each[1:3] for each in expected]
    assert {colour for _, colour, _, _ in expected} >= {HELPFUL, HARMFUL, NEUTRAL}
    for row in {axis for *_, axis in expected}:
        here = [n for n, each in enumerate(expected) if each[3] == row]
        bars_on_one_line([expected[n][0] for n in here], [drawn[n] for n in here])


def test_profiles_and_shares_of_energy_are_the_same_on_the_page_and_in_the_file() -> None:
    calls, figure = both(MEASURED, view="depth")
    shares = [trace for trace in figure.data if trace.type == "bar"]
    drawn = bars(calls)
    for n, _layer in enumerate(shares[0].x):
        stack = drawn[n * len(shares) : (n + 1) * len(shares)]
        assert [(each["fill"], each["alpha"]) for each in stack] == [
            (trace.marker.color, trace.marker.opacity) for trace in shares
        ]
        whole = sum(each["height"] for each in stack)
        parts = [100 * each["height"] / whole for each in stack]
        np.testing.assert_allclose(parts, [trace.y[n] for trace in shares], atol=1e-6)
    curves = [trace for trace in figure.data if trace.type == "scatter"]
    heights, values = [], []
    for trace in curves:
        line = next(call for call in calls if call["kind"] == "path" and call["stroke"] == trace.line.color)
        assert bool(line["dash"]) == (trace.line.dash != "solid")
        heights += [y for _, y in line["points"]]
        values += list(trace.y)
    on_one_line(values, heights)


def test_the_stability_of_rankings_is_the_same_on_the_page_and_in_the_file() -> None:
    calls, figure = both(MEASURED, view="stability")
    paths = [call for call in calls if call["kind"] == "path" and call["thick"] == 2 and len(call["points"]) > 1]
    keys = {call["words"] for call in calls if call["kind"] == "text"}
    heights, values = [], []
    for trace, line in zip(figure.data, paths[::2], strict=True):  # each curve, then its line in the legend
        assert line["stroke"] == trace.line.color
        assert bool(line["dash"]) == (trace.line.dash != "solid")
        assert trace.name in keys
        heights += [y for _, y in line["points"]]
        values += list(trace.y)
    on_one_line(values, heights)


@pytest.mark.parametrize(
    "choice",
    [
        MapChoice(view="invariance", k=2, marks=False),
        MapChoice(view="synergy", second="down_proj", measure="principal", marks=False),
        MapChoice(view="grid", k=3, marks=False),
        MapChoice(view="wall", k=2, marks=False),
        MapChoice(view="adapters", k=1, marks=False),
    ],
    ids=lambda choice: choice.view,
)
def test_a_map_has_the_same_colours_on_the_page_and_in_the_file(choice: MapChoice) -> None:
    view, data = shown(choice, WITH_ZERO)
    maps = [call for call in painted("map", data) if call["kind"] == "image" and call["columns"] > 1]
    figure = figure_of(view)
    assert len(maps) == len(figure.data)
    for painting, trace in zip(maps, figure.data, strict=True):
        z = np.array(trace.z, dtype=float)
        pixels = np.array(painting["pixels"]).reshape(painting["rows"], painting["columns"], 4)
        assert pixels.shape[:2] == z.shape
        known = np.isfinite(z)
        np.testing.assert_array_equal(pixels[..., 3] > 0, known)
        axis = figure.layout[trace.coloraxis]
        at = np.clip(z[known] / axis.cmax, 0, 1)
        expected = [
            hex_or_rgb(colour) for colour in sample_colorscale([list(stop) for stop in axis.colorscale], at)
        ]
        # one of 257 shades, on values of 16 bits
        np.testing.assert_allclose(pixels[known][:, :3], expected, atol=3)


def hex_or_rgb(colour: str) -> tuple[float, ...]:
    if colour.startswith("#"):
        return hex_to_rgb(colour)
    return tuple(float(part) for part in colour[4:-1].split(","))


@pytest.mark.parametrize("entry", ["editing/board", "geometry/map", "spectra/spectra"])
def test_a_component_is_sent_as_one_script_that_imports_nothing_and_defines_no_name_twice(
    entry: str, tmp_path: Any
) -> None:
    joined = tmp_path / "component.mjs"
    joined.write_text(script_of(ROOT / "app" / f"{entry}.mjs"), encoding="utf-8")
    lines = joined.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.startswith("import")]
    assert [line.split("(")[0] for line in lines if line.startswith("export")] == ["export default mounted"]
    node("--check", str(joined))


def test_no_script_has_a_colour_of_its_own() -> None:
    for script in (ROOT / "app").rglob("*.mjs"):
        text = script.read_text(encoding="utf-8")
        assert not [word for word in text.replace('"', " ").replace("`", " ").split() if is_colour(word)], script


def is_colour(word: str) -> bool:
    digits = word.removeprefix("#").rstrip(",;")
    return (
        word.startswith("#") and len(digits) in (3, 4, 6, 8) and all(c in "0123456789abcdefABCDEF" for c in digits)
    )
