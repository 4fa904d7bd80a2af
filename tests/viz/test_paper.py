"""Figures 3 and 4 hold the numbers they were given, tell models apart by shape, and mark the user's own runs."""

import pytest

import viz
from viz import OwnRun

MODELS, LABELS = ["L", "L", "Q", "Q"], ["a", "b", "a", "b"]
XS, YS = [0.4, 0.0, -0.5, 0.7], [-4.3, 4.4, 0.1, -41.7]
OWN = OwnRun(
    "mine",
    reward=1.0,
    risk=2.0,
    gain=3.0,
    random_gain=0.5,
    intervals={"gain": (1.0, 5.0), "random_gain": (-1.0, 1.5), "risk": (0.0, 6.0)},
)


def signal(**more):
    return viz.signal_against_control(MODELS, LABELS, XS, YS, title="t", policy="p", **more)


def trade(**more):
    return viz.reward_against_risk(MODELS, LABELS, XS, YS, title="t", **more)


@pytest.mark.parametrize("draw", [signal, trade])
def test_markers_stand_where_the_numbers_say(draw) -> None:
    first, second = draw().data[:2]
    assert [tuple(trace.x) for trace in (first, second)] == [(0.4, 0.0), (-0.5, 0.7)]
    assert [tuple(trace.y) for trace in (first, second)] == [(-4.3, 4.4), (0.1, -41.7)]
    assert tuple(first.text) == ("a", "b")


@pytest.mark.parametrize("draw", [signal, trade])
def test_nothing_is_told_by_colour_only(draw) -> None:
    shapes = [tuple(trace.marker.symbol) for trace in draw().data[:2]]
    assert shapes == [("circle", "square"), ("circle-open", "square-open")]


def test_own_runs_are_stars_with_their_intervals() -> None:
    star = next(trace for trace in signal(own=[OWN]).data if trace.name == "yours: mine")
    assert (star.x[0], star.y[0], star.marker.symbol) == (0.5, 3.0, "star")
    assert (star.error_y.array[0], star.error_y.arrayminus[0]) == (2.0, 2.0)
    assert (star.error_x.array[0], star.error_x.arrayminus[0]) == (1.0, 1.5)
    star = next(trace for trace in trade(own=[OWN]).data if trace.name == "yours: mine")
    assert (star.x[0], star.y[0], star.error_x.array[0]) == (2.0, 1.0, 4.0)
    assert star.error_y.visible is False


def test_a_run_without_the_numbers_of_a_figure_is_not_drawn_there() -> None:
    only = OwnRun("half", gain=1.0, random_gain=0.0)
    assert any(trace.name == "yours: half" for trace in signal(own=[only]).data)
    assert not any(trace.name == "yours: half" for trace in trade(own=[only]).data)


def test_the_diagonal_spans_the_axis_and_the_axis_holds_every_interval() -> None:
    figure = signal(own=[OWN])
    line = figure.data[-1]
    assert tuple(line.x) == tuple(line.y) == tuple(figure.layout.xaxis.range)
    assert line.x[0] < -1.0
    assert line.x[1] > 1.5


def test_near_shows_the_middle_only() -> None:
    assert tuple(signal(near=True).layout.yaxis.range) == (-6.0, 6.0)
    assert signal().layout.yaxis.range is None


def test_no_numbers_give_an_empty_titled_figure() -> None:
    empty = [
        viz.signal_against_control([], [], [], [], title="t", policy="p"),
        viz.reward_against_risk([], [], [], [], title="t", own=[OwnRun("none")]),
    ]
    for figure in empty:
        assert figure.layout.title.text == "t"
        assert not figure.data
        assert figure.layout.annotations


def test_a_label_from_a_file_is_no_markup() -> None:
    star = signal(own=[OwnRun("<b>x</b>", gain=1.0, random_gain=0.0)]).data[-2]
    assert star.name == "yours: &lt;b&gt;x&lt;/b&gt;"
